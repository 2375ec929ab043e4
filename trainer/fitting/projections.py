"""Train only the two projections, on pooled vectors, with the same steps as the trainer of sentence-transformers.

Frozen towers give the same vectors in every step, so they do not have to run, and a step is two matrix products. This
loop does what the trainer of sentence-transformers does on the whole model: the same batches, fused AdamW (betas .9 and
.999, epsilon 1e-8, no weight decay), linear decay without warm-up, gradients clipped at norm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.fitting.loss import equal_titles, ranking_loss
from trainer.fitting.steps import OnStep, Step, epoch_order
from trainer.fitting.threads import one_thread, raise_if_cancelled
from trainer.models import TEXT, VISUAL, Projections, VectorFile
from trainer.settings import TrainSettings

__all__ = ["PooledTriplets", "fit_projections", "in_memory", "part_of"]

Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]

# Folds are fitted in threads, and on MPS, operations of two threads can end the process (pytorch issue 197805).
_ON_ACCELERATOR = Lock()
_MAX_NORM = 1.0
_RELATIVE_RATE = 0.1
"""For ViT-L/14, whose projections have 1,024 columns and weights of about .03, `rate_for` gives the recipe's 1e-4."""


@dataclass(frozen=True)
class PooledTriplets:
    """The rows to train on, as numbers of pooled vectors.

    Args:
        pictures: (n, vision width) float32, the pooled vectors of the thumbnails; both in files if they do not fit in
            memory.
        titles: (m, text width) float32, the pooled vectors of the titles.
        labels: (m,) int64, equal for titles that are not negatives of each other, see `title_labels`.
        anchor, positive: (k,) int, the numbers of each row's thumbnail and title.
        negative: (k,) int, the number of each row's negative title; None: only the batch's other titles are negatives.
    """

    pictures: Vectors | VectorFile
    titles: Vectors | VectorFile
    labels: NDArray[np.int64]
    anchor: Rows
    positive: Rows
    negative: Rows | None


def part_of(rows: PooledTriplets, chosen: Rows) -> PooledTriplets:
    """Return the rows with the numbers `chosen`."""
    negative = None if rows.negative is None else rows.negative[chosen]
    return replace(rows, anchor=rows.anchor[chosen], positive=rows.positive[chosen], negative=negative)


def in_memory(rows: PooledTriplets) -> PooledTriplets:
    """Return the same rows with vectors in memory: if they are in files, only those that the rows need."""
    if not isinstance(rows.pictures, VectorFile) and not isinstance(rows.titles, VectorFile):
        return rows
    n = len(rows.anchor)
    said = rows.positive if rows.negative is None else np.concatenate([rows.positive, rows.negative])
    (pictures, anchor), (titles, at) = (np.unique(numbers, return_inverse=True) for numbers in (rows.anchor, said))
    return PooledTriplets(
        rows.pictures[pictures],
        rows.titles[titles],
        rows.labels[titles],
        anchor,
        at[:n],
        None if rows.negative is None else at[n:],
    )


def rate_for(weights: Tensor) -> float:
    """Return a learning rate that changes the output of every projection by the same proportion.

    A step of Adam changes each weight by about the learning rate, independently of the gradient's size (Kingma and Ba,
    2015, https://arxiv.org/abs/1412.6980). Changes with the same sign as the input add up over its n dimensions, while
    the output grows with the size of the weights and the square root of n.

    Args:
        weights: (m, n) weights of a projection with n input dimensions.
    """
    size = float(weights.detach().square().mean().sqrt())
    return float(_RELATIVE_RATE * size / weights.shape[1] ** 0.5)


def fit_projections(
    projections: Projections,
    rows: PooledTriplets,
    names: Sequence[str],
    settings: TrainSettings,
    *,
    device: str,
    on_step: OnStep,
    fixed: int = 0,
) -> Projections:
    """Train projections.

    Args:
        projections: the initial projections. They are not changed.
        rows: the rows to train on.
        names: parameter names of the projections to train.
        settings: epochs, batch size, learning rate, temperature, mask and seed.
        device: `cpu`, `cuda` or `mps`.
        on_step: called after each optimiser step.
        fixed: see `Fitter`.

    Returns:
        The trained projections, on the CPU.
    """
    weights = {name: tensor.detach().clone().to(device) for name, tensor in projections.tensors().items()}
    # In the order of the model's parameters, because the gradient norm is summed in this order.
    trained = [weights[name].requires_grad_() for name in (VISUAL, TEXT) if name in names]
    rates = [rate_for(tensor) if settings.lr is None else settings.lr for tensor in trained]
    optimiser = torch.optim.AdamW(
        [{"params": [tensor], "lr": rate} for tensor, rate in zip(trained, rates, strict=True)],
        weight_decay=0.0,
        fused=device != "mps",
    )
    per_epoch = -(-len(rows.anchor) // settings.batch_size)
    epochs, temperature = settings.steps()
    total = per_epoch * epochs
    with one_thread(), nullcontext() if device == "cpu" else _ON_ACCELERATOR:
        for number, (pooled, batch) in enumerate(_batches(rows, epochs, settings, device)):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * ((total - number) / total)
            raise_if_cancelled()
            loss = _batch_loss(pooled, batch.to(device), weights, 1 / temperature, settings.mask)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if fixed:
                _hold(trained, fixed)
            torch.nn.utils.clip_grad_norm_(trained, _MAX_NORM)
            optimiser.step()
            on_step(Step(number + 1, (number + 1) / per_epoch, float(loss.detach()), optimiser.param_groups[0]["lr"]))
    return Projections(*(weights[name].detach().cpu() for name in (VISUAL, TEXT)))


def _hold(trained: Sequence[Tensor], fixed: int) -> None:
    """Set the gradients of the last dimensions to 0, so that a step does not change them."""
    for tensor in trained:
        assert tensor.grad is not None, "the loss depends on every projection"
        tensor.grad[-fixed:] = 0
        tensor.grad[:, -fixed:] = 0


def _batches(
    rows: PooledTriplets, epochs: int, settings: TrainSettings, device: str
) -> Iterator[tuple[_Pooled, Tensor]]:
    """Yield vectors, and the numbers of the rows among them of each step's batch.

    Vectors in files are read for many batches at once, in the order of the file. The batches are the same.
    """
    at_once = _rows_at_once(rows, settings.batch_size)
    everything = _Pooled.on(device, rows) if at_once is None else None
    for epoch in range(epochs):
        order = epoch_order(len(rows.anchor), settings.seed, epoch)
        if at_once is None:
            assert everything is not None
            yield from ((everything, batch) for batch in torch.split(order, settings.batch_size))
            continue
        for part in torch.split(order, at_once):
            pooled = _Pooled.on(device, in_memory(part_of(rows, part.numpy())))
            yield from ((pooled, batch) for batch in torch.split(torch.arange(len(part)), settings.batch_size))


def _rows_at_once(rows: PooledTriplets, batch_size: int) -> int | None:
    """How many rows to read from files at once, whole batches; None for vectors in memory."""
    pictures, titles = rows.pictures, rows.titles
    if not isinstance(pictures, VectorFile) or not isinstance(titles, VectorFile):
        return None
    row_bytes = 4 * (pictures.shape[1] + titles.shape[1] * (1 if rows.negative is None else 2))
    # A quarter: the last part is still in use while the next one is read, and the run also holds the titles and row
    # numbers of all pairs.
    return max(1, pictures.budget // 4 // row_bytes // batch_size) * batch_size


@dataclass(frozen=True)
class _Pooled:
    pictures: Tensor
    titles: Tensor
    labels: Tensor
    anchor: Tensor
    positive: Tensor
    negative: Tensor | None

    @classmethod
    def on(cls, device: str, rows: PooledTriplets) -> _Pooled:
        """Move everything to the device once."""
        assert not isinstance(rows.pictures, VectorFile)
        assert not isinstance(rows.titles, VectorFile)
        negative = None if rows.negative is None else torch.from_numpy(rows.negative).to(device)
        arrays: list[NDArray[Any]] = [rows.pictures, rows.titles, rows.labels, rows.anchor, rows.positive]
        pictures, titles, labels, anchor, positive = (torch.from_numpy(array).to(device) for array in arrays)
        return cls(pictures, titles, labels, anchor, positive, negative)


def _batch_loss(pooled: _Pooled, batch: Tensor, weights: dict[str, Tensor], scale: float, mask: bool) -> Tensor:
    own = pooled.positive[batch]
    candidates = own if pooled.negative is None else torch.cat([own, pooled.negative[batch]])
    masked = equal_titles(pooled.labels[own], pooled.labels[candidates]) if mask else None
    anchors = pooled.pictures[pooled.anchor[batch]] @ weights[VISUAL].T
    return ranking_loss(anchors, pooled.titles[candidates] @ weights[TEXT].T, scale, masked)
