"""Learners: what a run trains. `ProjectionsLearner` trains the projections; `trainer.fitting.whole`, anything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from store.training import ExampleRow
from trainer.artifacts import put_tensors
from trainer.fitting.candidates import Candidate
from trainer.fitting.fitter import Fitter
from trainer.fitting.loss import title_labels
from trainer.fitting.projections import PooledTriplets
from trainer.fitting.steps import OnStep, Triplets
from trainer.models import LazyModel, Projections, VectorFile, Vectors, named_parameters
from trainer.progress import Progress
from trainer.scoring import Rows, Scores, score_embedded
from trainer.settings import CLOSED_FORM, TrainSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["ProjectionsLearner", "Learner", "Pooled", "triplets"]

_BLOCK_ROWS = 1 << 14


@dataclass(frozen=True)
class Pooled:
    """The pooled vectors of all thumbnails and titles of a snapshot.

    Args:
        pictures: (n, vision width) float32, of the thumbnails; in a file if they do not fit in memory.
        titles: (m, text width) float32; as `pictures`.
        picture_rows: {digest: row in `pictures`}.
        title_rows: {title: row in `titles`}.
    """

    pictures: Vectors | VectorFile
    titles: Vectors | VectorFile
    picture_rows: Mapping[str, int]
    title_rows: Mapping[str, int]

    def score(self, projections: Projections, examples: Sequence[ExampleRow]) -> Scores:
        """Score projections on examples."""
        return score_embedded(examples, lambda rows: self.vectors(projections, rows))

    def vectors(self, projections: Projections, examples: Sequence[ExampleRow]) -> tuple[Vectors, Vectors]:
        """Embed each example's thumbnail and title: two arrays, (n, d) float32 of length 1."""
        seen = self.pictures_at([example.picture_sha256 for example in examples])
        said = self.titles_at([example.title for example in examples])
        return _projected(projections.pictures, self.pictures, seen), _projected(projections.titles, self.titles, said)

    def triplets(self, rows: Triplets) -> PooledTriplets:
        """Replace thumbnails and titles of training rows by their row numbers."""
        labels = title_labels(list(self.title_rows), rows.groups_of_titles())
        return PooledTriplets(
            self.pictures,
            self.titles,
            np.array([labels[title] for title in self.title_rows], dtype=np.int64),
            self.pictures_at(rows.pictures),
            self.titles_at(rows.titles),
            None if rows.negatives is None else self.titles_at(rows.negatives),
        )

    def pictures_at(self, digests: Sequence[str]) -> NDArray[np.intp]:
        """Return the row number of each thumbnail: (n,) int."""
        return np.array([self.picture_rows[digest] for digest in digests], dtype=np.intp)

    def titles_at(self, titles: Sequence[str]) -> NDArray[np.intp]:
        """Return the row number of each title: (n,) int."""
        return np.array([self.title_rows[title] for title in titles], dtype=np.intp)


def _projected(
    project: Callable[[Vectors], Vectors], features: Vectors | VectorFile, rows: NDArray[np.intp]
) -> Vectors:
    """Project each distinct row once, a block of rows at a time."""
    needed, back = np.unique(rows, return_inverse=True)
    order = np.argsort(back, kind="stable")
    sorted_back = back[order]
    found: Vectors | None = None
    # A projection works on blocks of 4,096 rows, so that it gives the same bits for blocks of a multiple of that.
    for start in range(0, max(1, len(needed)), _BLOCK_ROWS):
        block = project(features[needed[start : start + _BLOCK_ROWS]])
        if found is None:
            found = np.empty((len(rows), block.shape[1]), np.float32)
        low, high = np.searchsorted(sorted_back, (start, start + len(block)))
        found[order[low:high]] = block[sorted_back[low:high] - start]
    assert found is not None, "there is always a first block"
    return found


def triplets(examples: Sequence[ExampleRow], *, mined: bool) -> Triplets:
    """Return the rows of the training split, with a negative title for each row if negatives were mined."""
    rows = [row for row in examples if row.split == "train"]
    titles: dict[int | None, str] = {row.position: row.title for row in rows}
    # `require_trainable` requires two groups, so every row has a negative if negatives were mined.
    return Triplets(
        [row.picture_sha256 for row in rows],
        [row.title for row in rows],
        [titles[row.negative_position] for row in rows] if mined else None,
        [row.group_id for row in rows],
    )


class Learner(Protocol):
    """What a run trains. After `fit`, the other methods use the trained model."""

    total: int
    """Number of parameters of the whole model."""
    trainable: int
    """Number of parameters that are trained."""
    chooses: bool
    """Whether `settle` chooses anything."""

    def settle(self, rows: Triplets) -> dict[str, float | None]:
        """Choose what the settings leave open. Return {name: value} of what was chosen."""

    def fit(self, rows: Triplets, on_step: OnStep) -> None:
        """Train."""

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score the trained model."""

    def tensors(self) -> dict[str, Tensor]:
        """Return {parameter name: weights}. Put into the base model, they give the trained model."""

    def whole_model(self) -> SentenceTransformer:
        """Return the trained model."""


class ProjectionsLearner:
    """Trains projections on cached features, without loading the towers.

    Args:
        model: the base model.
        projections: the initial projections.
        names: parameter names of the projections to train.
        pooled: the features.
        settings: the run's settings.
        groups: {digest of a thumbnail: its group}.
    """

    def __init__(
        self,
        model: LazyModel,
        projections: Projections,
        names: Sequence[str],
        pooled: Pooled,
        *,
        settings: TrainSettings,
        groups: Mapping[str, str],
    ) -> None:
        sizes = dict(model.facts.parameters)
        self.total = sum(sizes.values())
        self.trainable = sum(sizes[name] for name in names)
        self.pooled, self.settings, self.groups = pooled, settings, groups
        self.fitter = Fitter(projections, names, settings, model.device, fixed=model.fixed)
        self.settled, self.chooses = self.fitter, not settings.steps_are_given()
        self.device = model.device
        self._model, self._names, self._projections = model, names, projections

    def settle(self, rows: Triplets) -> dict[str, float | None]:
        """Choose what the settings leave open, on folds of these rows. Return {name: value} of what was chosen."""
        self.settled = self.fitter.settled(self.pooled.triplets(rows), self.groups_of(rows))
        if self.settings.train not in CLOSED_FORM:
            # To choose epochs again for each fold would take minutes. A closed form's strength takes milliseconds.
            self.fitter = self.settled
        return self.settled.chosen() if self.chooses else {}

    def fit(self, rows: Triplets, on_step: OnStep) -> None:
        """Train."""
        self._projections = self.settled.fit(self.pooled.triplets(rows), self.groups_of(rows), on_step)

    def groups_of(self, rows: Triplets) -> list[str]:
        """Return the group of each row."""
        return [self.groups[digest] for digest in rows.pictures]

    def vectors(self, examples: Sequence[ExampleRow]) -> tuple[Vectors, Vectors]:
        """Embed each example's thumbnail and title with the trained model: two arrays, (n, d) float32 of length 1."""
        return self.pooled.vectors(self._projections, examples)

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score the trained model."""
        return self.pooled.score(self._projections, examples)

    def candidate(self, rows: Triplets, fit_on: Rows | None = None) -> Candidate:
        """Return the model as a `Candidate`, to be fitted on folds of these rows."""
        return Candidate(self.pooled.triplets(rows), self.fitter.start, self.fitter, fit_on=fit_on)

    def base_candidate(self, rows: Triplets) -> Candidate:
        """Return the base model as a `Candidate` that fitting does not change."""
        return Candidate(self.pooled.triplets(rows), self._model.facts.projections)

    def tensors(self) -> dict[str, Tensor]:
        """Return the projections that were trained, or that differ from the base model's."""
        base = self._model.facts.projections.tensors()
        return {
            name: tensor
            for name, tensor in self._projections.tensors().items()
            if name in self._names or not tensor.equal(base[name])
        }

    def whole_model(self) -> SentenceTransformer:
        """Load the base model, and put the trained projections into it."""
        model = self._model.encoder().model
        put_tensors(named_parameters(model), self.tensors(), "the run's file")
        return model
