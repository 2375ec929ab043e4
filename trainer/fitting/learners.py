"""What a run trains: here the projections alone, on cached features. `trainer.fitting.whole` has the other way."""

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
from trainer.fitting.steps import Step, Triplets
from trainer.models import Heads, LazyModel, Vectors, named_parameters
from trainer.progress import Progress
from trainer.scoring import Rows, Scores, score_vectors
from trainer.settings import TrainSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["HeadsLearner", "Learner", "Pooled", "triplets"]


@dataclass(frozen=True)
class Pooled:
    """What the towers made of every picture and title of a snapshot.

    Args:
        pictures: (n, vision width) float32; `picture_rows` has {digest: row}.
        titles: (m, text width) float32; `title_rows` has {title: row}.
    """

    pictures: Vectors
    titles: Vectors
    picture_rows: Mapping[str, int]
    title_rows: Mapping[str, int]

    def score(self, heads: Heads, examples: Sequence[ExampleRow]) -> Scores:
        """Score these projections."""
        return score_vectors(examples, *self.vectors(heads, examples))

    def vectors(self, heads: Heads, examples: Sequence[ExampleRow]) -> tuple[Vectors, Vectors]:
        """What these projections make of each example's thumbnail and title: (n, d) float32 of length 1, twice."""
        seen = self.pictures_at([example.picture_sha256 for example in examples])
        said = self.titles_at([example.title for example in examples])
        return _projected(heads.pictures, self.pictures, seen), _projected(heads.titles, self.titles, said)

    def triplets(self, rows: Triplets) -> PooledTriplets:
        """The rows to train on, by number."""
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
        """The rows of these pictures."""
        return np.array([self.picture_rows[digest] for digest in digests], dtype=np.intp)

    def titles_at(self, titles: Sequence[str]) -> NDArray[np.intp]:
        """The rows of these titles."""
        return np.array([self.title_rows[title] for title in titles], dtype=np.intp)


def _projected(project: Callable[[Vectors], Vectors], features: Vectors, rows: NDArray[np.intp]) -> Vectors:
    """Project each feature that is needed once."""
    needed, back = np.unique(rows, return_inverse=True)
    return project(features if len(needed) == len(features) else features[needed])[back]


def triplets(examples: Sequence[ExampleRow], *, mined: bool) -> Triplets:
    """The training split's rows; with mined negatives, each row's negative title."""
    rows = [row for row in examples if row.split == "train"]
    titles: dict[int | None, str] = {row.position: row.title for row in rows}
    # All rows have a negative, or none: two groups are required, and each is the other's.
    return Triplets(
        [row.picture_sha256 for row in rows],
        [row.title for row in rows],
        [titles[row.negative_position] for row in rows] if mined else None,
        [row.group_id for row in rows],
    )


class Learner(Protocol):
    """What a run trains. Scoring, tensors and model are those after `fit`."""

    total: int
    """Parameters of the whole model."""
    trainable: int
    """Parameters that are trained."""

    def fit(self, rows: Triplets, on_step: Callable[[Step], None]) -> None:
        """Train."""

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score what was trained."""

    def tensors(self) -> dict[str, Tensor]:
        """{parameter name: weights}: what, put into the base model, gives the trained one."""

    def whole_model(self) -> SentenceTransformer:
        """The trained model."""


class HeadsLearner:
    """Trains projections on features that are known; the towers are not even loaded.

    Args:
        model: the base.
        heads: where to start.
        names: which projections to train.
        pooled: the features.
        settings: the run's.
        groups: {digest of a thumbnail: its group}.
    """

    def __init__(
        self,
        model: LazyModel,
        heads: Heads,
        names: Sequence[str],
        pooled: Pooled,
        *,
        settings: TrainSettings,
        groups: Mapping[str, str],
    ) -> None:
        sizes = dict(model.facts.parameters)
        self.total = sum(sizes.values())
        self.trainable = sum(sizes[name] for name in names)
        self.pooled, self.fitter = pooled, Fitter(heads, names, settings, model.device)
        self.device = model.device
        self._model, self._names, self._groups, self._heads = model, names, groups, heads

    def fit(self, rows: Triplets, on_step: Callable[[Step], None]) -> None:
        """Train."""
        self._heads = self.fitter.fit(self.pooled.triplets(rows), self.groups_of(rows), on_step)

    def groups_of(self, rows: Triplets) -> list[str]:
        """Each row's group."""
        return [self._groups[digest] for digest in rows.pictures]

    def vectors(self, examples: Sequence[ExampleRow]) -> tuple[Vectors, Vectors]:
        """What was trained makes of each example's thumbnail and title: (n, d) float32 of length 1, twice."""
        return self.pooled.vectors(self._heads, examples)

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score what was trained."""
        return self.pooled.score(self._heads, examples)

    def candidate(self, rows: Triplets, fit_on: Rows | None = None) -> Candidate:
        """What this learner trains, to be fitted on folds of these rows; see `Candidate`."""
        return Candidate(self.pooled.triplets(rows), self.fitter.start, self.fitter, fit_on=fit_on)

    def base_candidate(self, rows: Triplets) -> Candidate:
        """The base model, which learns nothing from the rows that it is fitted on."""
        return Candidate(self.pooled.triplets(rows), self._model.facts.heads)

    def tensors(self) -> dict[str, Tensor]:
        """The projections that differ from the base's, or were trained."""
        base = self._model.facts.heads.tensors()
        return {
            name: tensor
            for name, tensor in self._heads.tensors().items()
            if name in self._names or not tensor.equal(base[name])
        }

    def whole_model(self) -> SentenceTransformer:
        """The base, loaded, with the projections put in."""
        model = self._model.encoder().model
        put_tensors(named_parameters(model), self.tensors(), "the run's file")
        return model
