"""Combine any model with the reader: embed with both, train both, and weigh them. See `trainer.scoring.fusion`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from store.training import ExampleRow
from trainer.data import PictureSource
from trainer.errors import NotAClip, RunUnusable
from trainer.fitting.candidates import Candidate
from trainer.fitting.fitter import ReaderHeldOut, fit_beside_reader, reader_held_out
from trainer.fitting.learners import Pooled, ProjectionsLearner
from trainer.fitting.steps import OnStep, Triplets
from trainer.fitting.threads import one_thread
from trainer.models import TEXT, VISUAL, CachedEmbedder, Embedder, LazyModel, Vectors
from trainer.progress import Progress, uncounted
from trainer.scoring import Rows, Scores, Weights, score_embedded, side_by_side
from trainer.settings import CCA

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "WEIGHTS",
    "WithReader",
    "WithReaderLearner",
    "as_reader",
    "inner_of",
    "of_reader",
    "weights_in",
    "without_reader",
]

Count = Callable[[int], None]

_PREFIX = "reader."
WEIGHTS = f"{_PREFIX}weights"
"""Name of the tensor with the two weights and the scale in a run's file."""


def weights_in(tensors: Mapping[str, Tensor]) -> Weights:
    """Return the weights from a run's tensors.

    Raises:
        RunUnusable: the tensors do not include weights.
    """
    kept = tensors.get(WEIGHTS)
    if kept is None or kept.shape != (3,):
        raise RunUnusable("the run's file has no weights for the reader; the file may belong to another run")
    first, second, scale = kept.tolist()
    return Weights(first, second, scale)


def without_reader(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a run's tensors without those of the reader: the trained parameters of the model."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREFIX)}


def as_reader(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the reader's parameters under their names in a run's file."""
    return {f"{_PREFIX}{name}": tensor for name, tensor in tensors.items()}


def of_reader(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the reader's parameters from a run's tensors; none if the run did not train them."""
    mine = {name: tensor for name, tensor in tensors.items() if name.startswith(_PREFIX) and name != WEIGHTS}
    return {name.removeprefix(_PREFIX): tensor for name, tensor in mine.items()}


@dataclass(frozen=True)
class WithReader:
    """Embeds with a model and the reader. See `trainer.models.encoder.Embedder`.

    Args:
        model: the model.
        reader: the reader.
        weights: the weights of both.
    """

    model: CachedEmbedder
    reader: CachedEmbedder
    weights: Weights

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed thumbnails: (n, d + e) float32 of length 1."""
        seen = self.model.picture_vectors(digests, source, count, keep=keep)
        return side_by_side(seen, self.reader.picture_vectors(digests, source, uncounted, keep=keep), self.weights)

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """Return the titles that the model truncates because they have too many tokens, in the same order."""
        return self.model.cut_titles(titles)

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles: (n, d + e) float32 of length 1."""
        said = self.model.title_vectors(titles, count, keep=keep)
        return side_by_side(said, self.reader.title_vectors(titles, uncounted, keep=keep), self.weights)


def inner_of(embedder: Embedder) -> CachedEmbedder:
    """Return the model that embeds, without the reader. Every model of `trainer.runs` is one of the two classes."""
    inner = embedder.model if isinstance(embedder, WithReader) else embedder
    assert isinstance(inner, CachedEmbedder), "models are opened by `model_embedder`"
    return inner


class WithReaderLearner:
    """Fits the weights on folds of the rows, trains projections as without the reader, and the reader's by CCA.

    Args:
        learner: trains the projections.
        reader: the reader.
        read: the reader's vectors of the snapshot's thumbnails and titles.
        trains_reader: False for runs of older versions, which did not train the reader's projections.
        held_out: `reader_held_out` of another learner with the same reader and training rows; None: it is computed.
    """

    def __init__(
        self,
        learner: ProjectionsLearner,
        reader: LazyModel,
        read: Pooled,
        *,
        trains_reader: bool = True,
        held_out: tuple[ReaderHeldOut, ReaderHeldOut] | None = None,
    ) -> None:
        self._learner = learner
        self._held_out = held_out
        self._reader = ProjectionsLearner(
            reader,
            reader.facts.projections,
            (VISUAL, TEXT) if trains_reader else (),
            read,
            settings=replace(learner.settings, train=CCA),
            groups=learner.groups,
        )
        self._untrained = reader.facts.projections
        self.total = learner.total + self._reader.total + 2
        self.trainable = learner.trainable + self._reader.trainable + 2
        self.chooses = True
        self._weights: Weights | None = None

    def settle(self, rows: Triplets) -> dict[str, float | None]:
        """Choose what the settings leave open, as `ProjectionsLearner.settle`; the reader's begin with `reader_`."""
        chosen = self._learner.settle(rows)
        self._weights = self._weigh(rows)
        return {**chosen, **{f"reader_{name}": value for name, value in self._reader.settled.chosen().items()}}

    def fit(self, rows: Triplets, on_step: OnStep) -> None:
        """Train both projections. The weights are fitted first, unless `settle` has fitted them."""
        self._weights = self._weights or self._weigh(rows)
        for learner in (self._learner, self._reader):
            learner.fit(rows, on_step)

    def _weigh(self, rows: Triplets) -> Weights:
        """Fit the weights, and choose the reader's strength."""
        with one_thread():
            mine, groups = self._learner.pooled.triplets(rows), self._learner.groups_of(rows)
            readers = self.reader_held_out(rows)
            weights, self._reader.settled = fit_beside_reader(self._learner.settled, mine, readers, groups)
        return weights

    def reader_held_out(self, rows: Triplets) -> tuple[ReaderHeldOut, ReaderHeldOut]:
        """Fit the reader on folds of the training rows, in the first call. The model has no effect on the result."""
        if self._held_out is None:
            read = self._reader.pooled.triplets(rows)
            self._held_out = reader_held_out(self._reader.fitter, read, self._learner.groups_of(rows))
        return self._held_out

    def candidate(self, rows: Triplets, fit_on: Rows | None = None) -> Candidate:
        """Return model and reader as a `Candidate`, to be fitted on folds of these rows."""
        return replace(self._learner.candidate(rows, fit_on), beside=self._reader.candidate(rows))

    def base_candidate(self, rows: Triplets) -> Candidate:
        """Return the base model without the reader. See `ProjectionsLearner.base_candidate`."""
        return self._learner.base_candidate(rows)

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score model and reader together."""
        return score_embedded(examples, self._vectors)

    def score_reader(self, examples: Sequence[ExampleRow]) -> Scores:
        """Score the reader alone, without training."""
        return self._reader.pooled.score(self._untrained, examples)

    def tensors(self) -> dict[str, Tensor]:
        """Return {parameter name: tensor} of the trained projections, of the reader's, and the weights."""
        assert self._weights is not None, "`fit` has fitted them"
        kept = (self._weights.first, self._weights.second, self._weights.scale)
        weights = {WEIGHTS: torch.tensor(kept, dtype=torch.float64)}
        return {**self._learner.tensors(), **as_reader(self._reader.tensors()), **weights}

    def whole_model(self) -> SentenceTransformer:
        """Not supported: the result is not a sentence-transformers model.

        Raises:
            NotAClip: always.
        """
        raise NotAClip(
            "a model with the reader can't be written as a sentence-transformers folder, which can't read the words on "
            "thumbnails; train without --with-reader"
        )

    def _vectors(self, rows: Sequence[ExampleRow]) -> tuple[Vectors, Vectors]:
        (seen, said), (read, words) = self._learner.vectors(rows), self._reader.vectors(rows)
        assert self._weights is not None, "`fit` has fitted them"
        return side_by_side(seen, read, self._weights), side_by_side(said, words, self._weights)
