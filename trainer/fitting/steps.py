"""Shared by all training methods: the training rows, the choice of parameters, the row order, and the record of a step.

This module does not import sentence-transformers, because a run on cached features does not need it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data import PictureSource
from trainer.errors import BadSetting
from trainer.models import TEXT, VISUAL, Encoder
from trainer.settings import TrainSettings

__all__ = ["FitModel", "FitTask", "OnStep", "Step", "Triplets", "chosen_names", "epoch_order"]


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step."""

    step: int
    epoch: float
    loss: float
    learning_rate: float


OnStep = Callable[[Step], None]
"""Receives each step of a training."""


@dataclass(frozen=True)
class Triplets:
    """The rows to train on.

    Args:
        pictures: the digest of each row's thumbnail (the anchor).
        titles: each row's own title (the positive).
        negatives: each row's negative title; None: only the other titles of the batch are negatives.
        groups: each row's group. The mask includes the titles of the same group; None: it includes only equal titles.
    """

    pictures: Sequence[str]
    titles: Sequence[str]
    negatives: Sequence[str] | None
    groups: Sequence[str] | None = None

    def groups_of_titles(self) -> dict[str, str]:
        """Return {title: group} of the rows; empty if `groups` is None."""
        return {} if self.groups is None else dict(zip(self.titles, self.groups, strict=True))


@dataclass(frozen=True)
class FitTask:
    """What to train on what.

    Args:
        encoder: the model, which is trained in place.
        rows: the rows to train on.
        source: loads the thumbnails.
        settings: the run's settings.
    """

    encoder: Encoder
    rows: Triplets
    source: PictureSource
    settings: TrainSettings


FitModel = Callable[[FitTask, OnStep], None]
"""Trains a whole model, in this process (`fit_full_model`) or in several."""


def chosen_names(names: Sequence[str], train: str) -> list[str]:
    """Return the names of the parameters that a run trains.

    Args:
        names: all parameter names, in the model's order.
        train: `all`, `projection`, or a regular expression that is searched for in the names.

    Raises:
        BadSetting: the expression matches no name.
    """
    if train == "projection":
        return [name for name in names if name in (VISUAL, TEXT)]
    pattern = re.compile("" if train == "all" else train)
    chosen = [name for name in names if pattern.search(name)]
    if not chosen:
        shown = ", ".join((names[0], names[len(names) // 2], names[-1]))
        raise BadSetting(f"--train {train!r} matches none of the {len(names)} parameters, such as {shown}")
    return chosen


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the order of n rows in an epoch, (n,) int64: as in the library, a permutation seeded with seed + epoch."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))
