"""Ways to make a model that can be made again on every fold, and so be judged on rows that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainer.fitting.fitter import Fitter, fit_beside_reader, part_of
from trainer.fitting.projections import PooledTriplets
from trainer.fitting.threads import one_thread
from trainer.models import Heads
from trainer.scoring import Fold, Rows, Weights, candidate_ranks, out_of_fold, side_by_side

__all__ = ["Beside", "Candidate", "Fitted", "held_out_ranks"]

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Beside:
    """The reader's vectors of the rows' thumbnails and titles: (n, e) float32 of length 1."""

    read: Vectors
    said: Vectors


@dataclass(frozen=True)
class Fitted:
    """What a candidate has become: its projections, and the weights of the reader beside it; None without a reader."""

    heads: Heads
    weights: Weights | None = None


@dataclass(frozen=True)
class Candidate:
    """A model that is fitted on some rows and asked about others.

    Args:
        rows: all rows.
        heads: the projections to start from.
        fitter: how they are fitted; None: they stay as they are.
        beside: the reader, weighed with the model on folds of the rows fitted on; None: there is none.
        fit_on: the numbers of the rows that may be fitted on, such as those that an older run had; None for all.
    """

    rows: PooledTriplets
    heads: Heads
    fitter: Fitter | None = None
    beside: Beside | None = None
    fit_on: Rows | None = None

    def fitted(self, groups: Sequence[str], fit: Rows) -> Fitted:
        """Fit on some rows.

        Args:
            groups: each row's group.
            fit: the numbers of the rows to fit on.
        """
        fit = fit if self.fit_on is None else np.intersect1d(fit, self.fit_on)
        part, inside = part_of(self.rows, fit), [groups[row] for row in fit]
        heads = self.heads if self.fitter is None or not len(fit) else self.fitter.fit(part, inside, lambda _step: None)
        if self.beside is None:
            return Fitted(heads)
        fitter = self.fitter or Fitter.none(self.heads)
        return Fitted(heads, fit_beside_reader(fitter, part, inside, self.beside.read[fit], self.beside.said[fit]))

    def vectors(self, fitted: Fitted) -> tuple[Vectors, Vectors]:
        """Embed the thumbnails and titles of all rows: (n, d) float32, twice."""
        pictures = fitted.heads.pictures(self.rows.pictures[self.rows.anchor])
        titles = fitted.heads.titles(self.rows.titles[self.rows.positive])
        if self.beside is None or fitted.weights is None:
            return pictures, titles
        read, said, weights = self.beside.read, self.beside.said, fitted.weights
        return side_by_side(pictures, read, weights), side_by_side(titles, said, weights)


def held_out_ranks(
    candidate: Candidate, groups: Sequence[str], *, repeats: int = 3, within_fold: bool = False
) -> NDArray[np.int64]:
    """The rank of each row's title by the model that was fitted without the row's group: (repeats, n) int.

    Args:
        candidate: the model.
        groups: each row's group.
        repeats: how often the rows are cut into folds anew.
        within_fold: rank among the titles of the fold alone, not among those of all rows: fewer, so easier.

    Raises:
        ValueError: there are fewer than two groups.
    """
    with one_thread():
        return out_of_fold(groups, partial(_ranks, candidate, groups, within_fold), repeats=repeats)


def _ranks(candidate: Candidate, groups: Sequence[str], within_fold: bool, fold: Fold) -> NDArray[np.int64]:
    pictures, titles = candidate.vectors(candidate.fitted(groups, fold.fit))
    labels = candidate.rows.labels[candidate.rows.positive].astype(np.intp)
    if within_fold:
        return candidate_ranks(
            pictures[fold.held_out], titles[fold.held_out], np.arange(len(fold.held_out)), labels[fold.held_out]
        )
    return candidate_ranks(pictures[fold.held_out], titles, fold.held_out, labels)
