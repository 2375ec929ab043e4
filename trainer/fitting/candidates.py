"""Candidates: models that can be fitted again on every fold, so that they are judged on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainer.fitting.fitter import Fitter, fit_beside_reader, reader_held_out
from trainer.fitting.projections import PooledTriplets, part_of
from trainer.fitting.steps import Step
from trainer.fitting.threads import concurrently, one_thread
from trainer.models import Projections
from trainer.scoring import Fold, Rows, Weights, candidate_ranks, out_of_fold, side_by_side

__all__ = ["Candidate", "Fitted", "held_out_ranks"]

Vectors = NDArray[np.float32]

_REPEATS = 3
"""How often the rows are divided into folds."""


@dataclass(frozen=True)
class Fitted:
    """A fitted candidate.

    Args:
        projections: its projections.
        weights: the weights of model and reader; None without a reader.
        reader: the reader's projections; None without a reader.
    """

    projections: Projections
    weights: Weights | None = None
    reader: Projections | None = None


@dataclass(frozen=True)
class Candidate:
    """A model that is fitted on some rows and evaluated on others.

    Args:
        rows: all rows.
        projections: the initial projections.
        fitter: fits the projections; None: they are not fitted.
        beside: the reader, as a candidate with the same rows. The weights are fitted on folds of the rows to fit on.
            None for no reader.
        fit_on: the numbers of the rows that the fit may use, for example the rows of an older run; None for all rows.
    """

    rows: PooledTriplets
    projections: Projections
    fitter: Fitter | None = None
    beside: Candidate | None = None
    fit_on: Rows | None = None

    def fitted(self, groups: Sequence[str], fit: Rows) -> Fitted:
        """Fit on some rows.

        Args:
            groups: the group of each row.
            fit: the numbers of the rows to fit on.
        """
        fit = fit if self.fit_on is None else np.intersect1d(fit, self.fit_on)
        inside = [groups[row] for row in fit]
        part, fitter = self._part(inside, fit)
        projections = fitter.fit(part, inside, _no_step)
        if self.beside is None:
            return Fitted(projections)
        read, reader = self.beside._part(inside, fit)
        weights, reader = fit_beside_reader(fitter, part, reader_held_out(reader, read, inside), inside)
        return Fitted(projections, weights, reader.fit(read, inside, _no_step))

    def _part(self, groups: Sequence[str], fit: Rows) -> tuple[PooledTriplets, Fitter]:
        """The rows to fit on, and the fitter with what they choose."""
        part = part_of(self.rows, fit)
        fitter = self.fitter if self.fitter is not None and len(fit) else Fitter.none(self.projections)
        return part, fitter.settled(part, groups)

    def vectors(self, fitted: Fitted) -> tuple[Vectors, Vectors]:
        """Embed the thumbnails and titles of all rows: two arrays, (n, d) float32."""
        pictures = fitted.projections.pictures(self.rows.pictures[self.rows.anchor])
        titles = fitted.projections.titles(self.rows.titles[self.rows.positive])
        if self.beside is None or fitted.weights is None:
            return pictures, titles
        read, said = self.beside.vectors(Fitted(fitted.reader or self.beside.projections))
        return side_by_side(pictures, read, fitted.weights), side_by_side(titles, said, fitted.weights)


def held_out_ranks(candidate: Candidate, groups: Sequence[str]) -> NDArray[np.int64]:
    """Rank each row's title with a model that was fitted without the row's group: (3, n) int.

    Args:
        candidate: the model.
        groups: the group of each row.

    Raises:
        ValueError: there are fewer than two groups.
    """
    with one_thread():
        return out_of_fold(groups, partial(_ranks, candidate, groups), repeats=_REPEATS, each=concurrently)


def _ranks(candidate: Candidate, groups: Sequence[str], fold: Fold) -> NDArray[np.int64]:
    pictures, titles = candidate.vectors(candidate.fitted(groups, fold.fit))
    labels = candidate.rows.labels[candidate.rows.positive].astype(np.intp)
    return candidate_ranks(pictures[fold.held_out], titles, fold.held_out, labels)


def _no_step(_step: Step) -> None:
    """Ignore a step: fits on folds are not recorded."""
