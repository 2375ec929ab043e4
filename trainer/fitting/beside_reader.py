"""Combine any model with the reader: embed with both, and fit their two weights. See `trainer.scoring.fusion`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.training import ExampleRow
from trainer.data import PictureSource
from trainer.errors import NotAClip, RunUnusable
from trainer.fitting.candidates import Beside, Candidate
from trainer.fitting.fitter import fit_beside_reader
from trainer.fitting.learners import HeadsLearner, Pooled
from trainer.fitting.steps import OnStep, Triplets
from trainer.fitting.threads import one_thread
from trainer.models import CachedEmbedder, Embedder, Heads, Vectors
from trainer.progress import Progress, uncounted
from trainer.scoring import Rows, Scores, Weights, score_embedded, side_by_side

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["WEIGHTS", "WithReader", "WithReaderLearner", "inner_of", "weights_in", "without_weights"]

Count = Callable[[int], None]

WEIGHTS = "reader.weights"
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


def without_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a run's tensors without the weights: the trained parameters of the model."""
    return {name: tensor for name, tensor in tensors.items() if name != WEIGHTS}


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
    """Trains projections as without the reader, then fits the two weights on folds of the training rows.

    Args:
        learner: trains the projections.
        read: the reader's vectors of the snapshot's thumbnails and titles.
        heads: the reader's projections.
    """

    def __init__(self, learner: HeadsLearner, read: Pooled, heads: Heads) -> None:
        self.total, self.trainable, self.chooses = learner.total + 2, learner.trainable + 2, learner.chooses
        self._learner, self._read, self._heads = learner, read, heads
        self._weights = Weights(0.5, 0.5, 1.0)

    def settle(self, rows: Triplets) -> dict[str, float | None]:
        """Choose what the settings leave open. See `HeadsLearner.settle`."""
        return self._learner.settle(rows)

    def fit(self, rows: Triplets, on_step: OnStep) -> None:
        """Train the projections, then fit the weights."""
        self._learner.fit(rows, on_step)
        read, said = self._reader_vectors(rows.pictures, rows.titles)
        pooled, groups = self._learner.pooled.triplets(rows), self._learner.groups_of(rows)
        with one_thread():
            self._weights = fit_beside_reader(self._learner.settled, pooled, groups, read, said)

    def candidate(self, rows: Triplets, fit_on: Rows | None = None) -> Candidate:
        """Return model and reader as a `Candidate`, to be fitted on folds of these rows."""
        return replace(
            self._learner.candidate(rows, fit_on), beside=Beside(*self._reader_vectors(rows.pictures, rows.titles))
        )

    def base_candidate(self, rows: Triplets) -> Candidate:
        """Return the base model without the reader. See `HeadsLearner.base_candidate`."""
        return self._learner.base_candidate(rows)

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score model and reader together."""
        return score_embedded(examples, self._vectors)

    def score_reader(self, examples: Sequence[ExampleRow]) -> Scores:
        """Score the reader alone."""
        return self._read.score(self._heads, examples)

    def tensors(self) -> dict[str, Tensor]:
        """Return {parameter name: tensor} of the trained projections, and the weights."""
        kept = (self._weights.first, self._weights.second, self._weights.scale)
        return {**self._learner.tensors(), WEIGHTS: torch.tensor(kept, dtype=torch.float64)}

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
        seen, said = self._learner.vectors(rows)
        read, words = self._reader_vectors([row.picture_sha256 for row in rows], [row.title for row in rows])
        return side_by_side(seen, read, self._weights), side_by_side(said, words, self._weights)

    def _reader_vectors(self, digests: Sequence[str], titles: Sequence[str]) -> tuple[NDArray[np.float32], Vectors]:
        pictures = self._read.pictures[self._read.pictures_at(digests)]
        return self._heads.pictures(pictures), self._heads.titles(self._read.titles[self._read.titles_at(titles)])
