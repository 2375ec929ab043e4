"""Fit projections on features, by gradient steps or in closed form, and fit the weights of model and reader.

Pure functions. Settings are chosen, and models are judged, by fitting again on folds and evaluating on held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.fitting.projections import PooledTriplets, fit_heads
from trainer.fitting.ridge import choose_penalty, fit_ridge
from trainer.fitting.steps import Step
from trainer.fitting.threads import one_thread
from trainer.models import Heads
from trainer.scoring import Fold, Weights, fit_weights, folds
from trainer.settings import RIDGE, TrainSettings

__all__ = ["Fitter", "fit_beside_reader", "part_of"]

Vectors = NDArray[np.float32]
_MOST_ROWS = 2000
"""Maximum number of rows for fitting the weights: enough for two numbers, and the cost grows quadratically."""


@dataclass(frozen=True)
class Fitter:
    """Fits a run's projections.

    Args:
        start: the initial projections.
        names: parameter names of the projections to train; empty: no projection is trained.
        settings: the run's settings.
        device: `cpu`, `cuda` or `mps`.
        penalty: the penalty of the ridge map; 0 for no map; None: it is chosen for the rows of each fit.
    """

    start: Heads
    names: Sequence[str]
    settings: TrainSettings
    device: str
    penalty: float | None = None

    @classmethod
    def none(cls, heads: Heads) -> Fitter:
        """Return a fitter that does not change the projections."""
        return cls(heads, (), TrainSettings(), "cpu")

    def fit(self, rows: PooledTriplets, groups: Sequence[str], on_step: Callable[[Step], None]) -> Heads:
        """Fit on these rows.

        Args:
            rows: the rows.
            groups: the group of each row. A ridge map's penalty is chosen on held-out groups.
            on_step: called after each step; never for a ridge map, which is fitted in closed form.
        """
        if not self.names:
            return self.start
        if self.settings.train == RIDGE:
            with one_thread():
                penalty = self._penalty(rows, groups) if self.penalty is None else self.penalty
                return _ridge(self.start, rows, penalty)
        return fit_heads(self.start, rows, self.names, self.settings, device=self.device, on_step=on_step)

    def settled(self, rows: PooledTriplets, groups: Sequence[str]) -> Fitter:
        """Return a fitter with the penalty that these rows choose, so that folds of them are fitted much faster."""
        if self.names and self.settings.train == RIDGE and self.penalty is None:
            return replace(self, penalty=self._penalty(rows, groups))
        return self

    def _penalty(self, rows: PooledTriplets, groups: Sequence[str]) -> float:
        labels = rows.labels[rows.positive].astype(np.intp)
        return choose_penalty(*_projected(self.start, rows), groups, labels).penalty or 0.0


def _projected(heads: Heads, rows: PooledTriplets) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Embeddings of the rows' thumbnails and titles: two arrays, (n, d) float64."""
    pictures = heads.pictures(rows.pictures[rows.anchor]).astype(np.float64)
    return pictures, heads.titles(rows.titles[rows.positive]).astype(np.float64)


def _ridge(start: Heads, rows: PooledTriplets, penalty: float) -> Heads:
    """Apply the ridge map from titles to thumbnails after the title projection; no change with a penalty of 0."""
    if not penalty:
        return start
    pictures, titles = _projected(start, rows)
    found = torch.from_numpy(fit_ridge(titles, pictures, penalty))
    return replace(start, text=(found.T @ start.text.double()).float())


def part_of(rows: PooledTriplets, chosen: NDArray[np.intp]) -> PooledTriplets:
    """Return the rows with the numbers `chosen`."""
    negative = None if rows.negative is None else rows.negative[chosen]
    return replace(rows, anchor=rows.anchor[chosen], positive=rows.positive[chosen], negative=negative)


def fit_beside_reader(
    fitter: Fitter, rows: PooledTriplets, groups: Sequence[str], read: Vectors, said: Vectors
) -> Weights:
    """Fit the weights of a model and the reader on rows that the model was not fitted on, fold by fold.

    Args:
        fitter: fits the model.
        rows: the training rows.
        groups: the group of each row.
        read: (n, e) float32 of length 1, the reader's vectors of the rows' thumbnails.
        said: (n, e) float32 of length 1, the reader's vectors of the rows' titles.
    """
    n = len(rows.anchor)
    kept = np.arange(n)
    if n > _MOST_ROWS:
        kept = np.sort(np.random.default_rng(fitter.settings.seed).permutation(n)[:_MOST_ROWS])
        rows, groups = part_of(rows, kept), [groups[int(row)] for row in kept]
    labels = rows.labels[rows.positive]
    fitter = fitter.settled(rows, groups)
    parts = [_held_out(fitter, rows, groups, fold) for fold in folds(groups)]
    own = np.concatenate([fold_rows for fold_rows, _ in parts]) if parts else np.empty(0, np.intp)
    if not len(own):
        return Weights(0.5, 0.5, 1.0)
    first = np.concatenate([cosines for _, cosines in parts])
    second = (read[kept][own] @ said[kept].T).astype(np.float64)
    return fit_weights(first, second, own.tolist(), labels[own][:, None] != labels[None, :])


def _held_out(
    fitter: Fitter, rows: PooledTriplets, groups: Sequence[str], fold: Fold
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """A fold's held-out rows, and the cosines of their thumbnails with all titles by a model fitted without them."""
    heads = fitter.fit(part_of(rows, fold.fit), [groups[row] for row in fold.fit], lambda _step: None)
    pictures = heads.pictures(rows.pictures[rows.anchor[fold.held_out]])
    titles = heads.titles(rows.titles[rows.positive])
    return fold.held_out, (pictures @ titles.T).astype(np.float64)
