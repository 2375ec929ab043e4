"""Fit projections on features, by gradient steps or in closed form, and fit the weights of model and reader.

Pure functions. Settings are chosen, and models are judged, by fitting again on folds and evaluating on held-out rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.fitting.cca import Cca, Strength, choose_strength
from trainer.fitting.choosing import choose_steps
from trainer.fitting.projections import PooledTriplets, fit_projections, in_memory, part_of
from trainer.fitting.ridge import Ridge, choose_penalty
from trainer.fitting.steps import OnStep
from trainer.fitting.threads import concurrently, one_thread
from trainer.models import Projections
from trainer.scoring import Fold, Weights, collapsed, fit_weights, folds, spread
from trainer.settings import CCA, CLOSED_FORM, TrainSettings

__all__ = ["UNCHANGED", "Fitter", "ReaderHeldOut", "fit_beside_reader", "reader_held_out"]

UNCHANGED = Strength(math.inf, 1)
"""The strength with which the projections stay as they are."""
_BLOCK_ROWS = 1 << 14
"""Number of rows whose sums are computed at a time: more rows are never in memory at once for a closed form."""
_MOST_ROWS = 2000
"""Maximum number of rows for fitting the weights: enough for two numbers, and the cost grows quadratically."""
_MOST_TO_TRY = 1000
"""Maximum number of rows for choosing epochs and temperature, which takes about as long as training four times."""
_MOST_TO_CHOOSE = 5000
"""Maximum number of rows for choosing the strength of a closed form, because memory grows quadratically."""


@dataclass(frozen=True)
class Fitter:
    """Fits a run's projections.

    Args:
        start: the initial projections.
        names: parameter names of the projections to train; empty: no projection is trained.
        settings: the run's settings.
        device: `cpu`, `cuda` or `mps`.
        strength: the regularisation of a closed form, `UNCHANGED` for none at all; None: it is chosen for the rows of
            each fit.
        fixed: number of last dimensions of the vectors that stay as they are.
    """

    start: Projections
    names: Sequence[str]
    settings: TrainSettings
    device: str
    strength: Strength | None = None
    fixed: int = 0

    @classmethod
    def none(cls, projections: Projections) -> Fitter:
        """Return a fitter that does not change the projections."""
        return cls(projections, (), TrainSettings(), "cpu")

    def fit(self, rows: PooledTriplets, groups: Sequence[str], on_step: OnStep) -> Projections:
        """Fit on these rows.

        Args:
            rows: the rows.
            groups: the group of each row. The strength of a closed form is chosen on held-out groups.
            on_step: called after each step; never for a closed form.
        """
        if not self.names:
            return self.start
        with one_thread():
            settled = self.settled(rows, groups)
            if self.settings.train in CLOSED_FORM:
                return self._closed_form(rows, settled.strength or UNCHANGED)
            return fit_projections(
                self.start, rows, self.names, settled.settings, device=self.device, on_step=on_step, fixed=self.fixed
            )

    def settled(self, rows: PooledTriplets, groups: Sequence[str]) -> Fitter:
        """Return a fitter with what these rows choose, so that folds of them are fitted much faster.

        For a closed form, that is the strength; for steps, epochs and temperature, unless the settings have epochs.
        """
        if not self.names:
            return self
        with one_thread():
            if self.settings.train in CLOSED_FORM:
                return replace(self, strength=self._strength(rows, groups)) if self.strength is None else self
            if self.settings.steps_are_given():
                return self
            rows, groups = _sample(rows, groups, _MOST_TO_TRY)
            chosen = choose_steps(
                self.start, rows, self.names, self.settings, groups, device=self.device, fixed=self.fixed
            )
            return replace(self, settings=chosen)

    def chosen(self) -> dict[str, float | None]:
        """Return {name: value} of what `settled` chose, for the run's record; a penalty of None changes nothing."""
        if self.settings.train not in CLOSED_FORM:
            return dict(zip(("epochs", "temperature"), self.settings.steps(), strict=True))
        if self.strength is None or self.strength == UNCHANGED:
            return {"penalty": None}
        return {"penalty": self.strength.penalty, "prior": self.strength.prior}

    def _strength(self, rows: PooledTriplets, groups: Sequence[str]) -> Strength:
        rows, groups = _sample(rows, groups, _MOST_TO_CHOOSE)
        labels = rows.labels[rows.positive].astype(np.intp)
        pictures, titles = self._projected(self.start, rows)
        if self.settings.train == CCA:
            found = choose_strength(pictures, titles, groups, labels) or UNCHANGED
        else:
            penalty = choose_penalty(pictures, titles, groups, labels)
            found = UNCHANGED if penalty is None else Strength(penalty, 1)
        # Embeddings that a map moves close to each other rank right in float64, and not after rounding.
        after = self._projected(self._closed_form(rows, found), rows)
        apart = not collapsed((spread(pictures), spread(titles)), (spread(after[0]), spread(after[1])))
        return found if apart else UNCHANGED

    def _closed_form(self, rows: PooledTriplets, strength: Strength) -> Projections:
        """Apply the maps that these rows give after the projections."""
        if strength == UNCHANGED:
            return self.start
        blocks = list(range(0, len(rows.anchor), _BLOCK_ROWS))
        numbers = np.arange(len(rows.anchor))
        parts = (self._projected(self.start, part_of(rows, numbers[at : at + _BLOCK_ROWS])) for at in blocks)
        if self.settings.train == CCA:
            cca = Cca(*next(parts)) if len(blocks) == 1 else Cca.of_blocks(parts)
            of_pictures, of_titles = cca.maps(strength)
            return Projections(self._then(self.start.visual, of_pictures), self._then(self.start.text, of_titles))
        turned = ((titles, pictures) for pictures, titles in parts)
        ridge = Ridge(*next(turned)) if len(blocks) == 1 else Ridge.of_blocks(turned)
        return replace(self.start, text=self._then(self.start.text, ridge.map(strength.penalty)))

    def _projected(
        self, projections: Projections, rows: PooledTriplets
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Embeddings of the rows' thumbnails and titles without the fixed dimensions: two arrays, (n, d) float64."""
        pictures = projections.pictures(rows.pictures[rows.anchor]).astype(np.float64)
        titles = projections.titles(rows.titles[rows.positive]).astype(np.float64)
        width = pictures.shape[1] - self.fixed
        return pictures[:, :width], titles[:, :width]

    def _then(self, projection: torch.Tensor, found: NDArray[np.float64]) -> torch.Tensor:
        """A projection followed by a map of its dimensions that are not fixed.

        It is scaled to the size of the projection, which has no effect on cosines.
        """
        whole = np.eye(len(projection))
        whole[: len(found), : len(found)] = found
        changed = torch.from_numpy(whole).T @ projection.double()
        scale = float(projection.double().norm() / changed.norm().clamp_min(1e-30))
        return (changed * scale).float()


def _sample(rows: PooledTriplets, groups: Sequence[str], most: int) -> tuple[PooledTriplets, Sequence[str]]:
    """At most `most` rows, the same for all seeds, and their groups."""
    n = len(rows.anchor)
    if n <= most:
        return in_memory(rows), groups
    kept = np.sort(np.random.default_rng(0).permutation(n)[:most])
    return in_memory(part_of(rows, kept)), [groups[row] for row in kept]


@dataclass(frozen=True)
class ReaderHeldOut:
    """A reader on rows that it was not fitted on.

    Args:
        reader: fits the reader.
        cosines: for each fold, those of its held-out thumbnails with all titles, and below these, those of its held-out
            titles with all thumbnails: (2 n, n) float64 in total.
    """

    reader: Fitter
    cosines: NDArray[np.float64]


def reader_held_out(reader: Fitter, rows: PooledTriplets, groups: Sequence[str]) -> tuple[ReaderHeldOut, ReaderHeldOut]:
    """Fit the reader on folds of the training rows: trained, with the strength that the rows choose, and untrained.

    Args:
        reader: fits the reader.
        rows: the training rows, with the reader's vectors.
        groups: the group of each row.
    """
    rows, groups = _sample(rows, groups, _MOST_ROWS)
    trained = reader.settled(rows, groups)
    untrained = replace(reader, strength=UNCHANGED)
    return (
        ReaderHeldOut(trained, _cosines(trained, rows, groups)),
        ReaderHeldOut(untrained, _cosines(untrained, rows, groups)),
    )


def fit_beside_reader(
    model: Fitter, rows: PooledTriplets, readers: Sequence[ReaderHeldOut], groups: Sequence[str]
) -> tuple[Weights, Fitter]:
    """Fit the weights of a model and the reader on rows that neither was fitted on, fold by fold, in both directions.

    The reader stays untrained if the held-out titles and thumbnails are more likely with the untrained reader: a
    trained reader may rank better alone, and still add less to the model.

    Args:
        model: fits the model.
        rows: the training rows, with the model's vectors.
        readers: the trained and the untrained reader on the same rows. See `reader_held_out`.
        groups: the group of each row.

    Returns:
        The weights, and the reader's fitter with its strength, `UNCHANGED` for the untrained reader.
    """
    rows, groups = _sample(rows, groups, _MOST_ROWS)
    model = model.settled(rows, groups)
    cut = folds(groups)
    if not cut:
        return Weights(0.5, 0.5, 1.0), readers[0].reader
    labels, fold_of = rows.labels[rows.positive], np.empty(len(groups), np.intp)
    for number, fold in enumerate(cut):
        fold_of[fold.held_out] = number
    own = np.concatenate([np.tile(fold.held_out, 2) for fold in cut])
    # Only rows that were held out too: see `reciprocal_ranks`.
    rivals = (labels[own][:, None] != labels[None, :]) & (fold_of[own][:, None] == fold_of[None, :])
    cosines = _cosines(model, rows, groups)
    weighed = [(*fit_weights(cosines, read.cosines, own.tolist(), rivals), read.reader) for read in readers]
    weights, _, reader = min(weighed, key=itemgetter(1))
    return weights, reader


def _cosines(fitter: Fitter, rows: PooledTriplets, groups: Sequence[str]) -> NDArray[np.float64]:
    """The cosines of held-out rows by a model that is fitted on folds: (2 n, n), see `ReaderHeldOut`."""

    def of_fold(fold: Fold) -> NDArray[np.float64]:
        projections = fitter.fit(part_of(rows, fold.fit), [groups[row] for row in fold.fit], lambda _step: None)
        pictures = projections.pictures(rows.pictures[rows.anchor])
        titles = projections.titles(rows.titles[rows.positive])
        asked = pictures[fold.held_out] @ titles.T, titles[fold.held_out] @ pictures.T
        return np.concatenate(asked).astype(np.float64)

    with one_thread():
        return np.concatenate([np.empty((0, len(groups))), *concurrently(of_fold, folds(groups))])
