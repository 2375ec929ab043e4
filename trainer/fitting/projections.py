"""Training the two projections alone, on known pooled vectors: the steps that the library's trainer would take.

Towers that don't learn give the same vectors in every step, so they need not run. What is left of a step is two matrix
products, and this loop takes it as the trainer of sentence-transformers does on the whole model: the same
batches, fused AdamW (betas .9 and .999, epsilon 1e-8, no weight decay), linear decay without warm-up, gradients clipped
at norm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.fitting.loss import equal_titles, ranking_loss
from trainer.fitting.steps import Step, epoch_order
from trainer.fitting.threads import one_thread
from trainer.models import TEXT, VISUAL, Heads
from trainer.settings import TrainSettings

__all__ = ["PooledTriplets", "fit_heads"]

Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]

_MAX_NORM = 1.0
_RELATIVE_RATE = 0.1
"""A ViT-L/14 has projections of 1,024 columns and weights of about .03: there, this is the recipe's 1e-4."""


@dataclass(frozen=True)
class PooledTriplets:
    """The rows to train on, as row numbers into what the towers made of the pictures and titles.

    Args:
        pictures: (n, vision width) float32.
        titles: (m, text width) float32.
        labels: (m,) int64; equal for equal titles.
        anchor, positive: (k,) numbers of each row's picture and title.
        negative: (k,) numbers of each row's negative title, or None to use the batch's other titles only.
    """

    pictures: Vectors
    titles: Vectors
    labels: NDArray[np.int64]
    anchor: Rows
    positive: Rows
    negative: Rows | None


def rate_for(weights: Tensor) -> float:
    """The learning rate that means the same for every projection.

    A step of Adam moves each weight by about the learning rate, whatever the gradient's size (Kingma and Ba, 2015,
    https://arxiv.org/abs/1412.6980). Where the moves agree with the input they add up over its n numbers, while the
    output itself grows with the weights' size and the square root of n.

    Args:
        weights: (m, n) of a projection from n numbers.
    """
    size = float(weights.detach().square().mean().sqrt())
    return float(_RELATIVE_RATE * size / weights.shape[1] ** 0.5)


def fit_heads(
    heads: Heads,
    rows: PooledTriplets,
    names: Sequence[str],
    settings: TrainSettings,
    *,
    device: str,
    on_step: Callable[[Step], None],
) -> Heads:
    """Train projections; the given ones stay as they are.

    Args:
        heads: where to start.
        rows: what to train on.
        names: which of the two to train, by parameter name.
        settings: epochs, batch size, learning rate, temperature, mask and seed.
        device: `cpu`, `cuda` or `mps`.
        on_step: called after each optimiser step.

    Returns:
        The trained projections, on the processor.
    """
    weights = {name: tensor.detach().clone().to(device) for name, tensor in heads.tensors().items()}
    # In the order of the model's parameters: the norm is summed in it.
    trained = [weights[name].requires_grad_() for name in (VISUAL, TEXT) if name in names]
    pooled = _Pooled.on(device, rows)
    rates = [rate_for(tensor) if settings.lr is None else settings.lr for tensor in trained]
    optimiser = torch.optim.AdamW(
        [{"params": [tensor], "lr": rate} for tensor, rate in zip(trained, rates, strict=True)],
        weight_decay=0.0,
        fused=device != "mps",
    )
    per_epoch = -(-len(rows.anchor) // settings.batch_size)
    total = per_epoch * settings.epochs
    with one_thread():
        for number, batch in enumerate(_batches(len(rows.anchor), settings)):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * ((total - number) / total)
            loss = _batch_loss(pooled, batch.to(device), weights, settings)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, _MAX_NORM)
            optimiser.step()
            on_step(Step(number + 1, (number + 1) / per_epoch, float(loss.detach()), optimiser.param_groups[0]["lr"]))
    return Heads(*(weights[name].detach().cpu() for name in (VISUAL, TEXT)))


def _batches(n: int, settings: TrainSettings) -> Iterator[Tensor]:
    """Row numbers of each step's batch."""
    for epoch in range(settings.epochs):
        yield from torch.split(epoch_order(n, settings.seed, epoch), settings.batch_size)


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
        negative = None if rows.negative is None else torch.from_numpy(rows.negative).to(device)
        arrays: list[NDArray[Any]] = [rows.pictures, rows.titles, rows.labels, rows.anchor, rows.positive]
        pictures, titles, labels, anchor, positive = (torch.from_numpy(array).to(device) for array in arrays)
        return cls(pictures, titles, labels, anchor, positive, negative)


def _batch_loss(pooled: _Pooled, batch: Tensor, weights: dict[str, Tensor], settings: TrainSettings) -> Tensor:
    own = pooled.positive[batch]
    candidates = own if pooled.negative is None else torch.cat([own, pooled.negative[batch]])
    masked = equal_titles(pooled.labels[own], pooled.labels[candidates]) if settings.mask else None
    anchors = pooled.pictures[pooled.anchor[batch]] @ weights[VISUAL].T
    return ranking_loss(anchors, pooled.titles[candidates] @ weights[TEXT].T, 1 / settings.temperature, masked)
