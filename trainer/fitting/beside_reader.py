"""Any model with the reader beside it: embedding, and the run that fits the two weights. See `trainer.scoring`."""

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
from trainer.fitting.steps import Step, Triplets
from trainer.fitting.threads import one_thread
from trainer.models import Embedder, Heads, Vectors
from trainer.progress import Progress
from trainer.scoring import Rows, Scores, Weights, score_vectors, side_by_side

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["WEIGHTS", "WithReader", "WithReaderLearner", "weights_in", "without_weights"]

Count = Callable[[int], None]

WEIGHTS = "reader.weights"
"""The name of the two weights and the scale among a run's tensors."""


def weights_in(tensors: Mapping[str, Tensor]) -> Weights:
    """The weights that a run kept.

    Raises:
        RunUnusable: there are none.
    """
    kept = tensors.get(WEIGHTS)
    if kept is None or kept.shape != (3,):
        raise RunUnusable("the run's file has no weights of the reader; is it another run's file?")
    first, second, scale = kept.tolist()
    return Weights(first, second, scale)


def without_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a run trained of the model itself."""
    return {name: tensor for name, tensor in tensors.items() if name != WEIGHTS}


@dataclass(frozen=True)
class WithReader:
    """Embeds by a model and by the reader: see `trainer.encoder.Embedder`.

    Where a thumbnail has no words its vector is shorter than 1: the reader's part is 0.

    Args:
        model: the model.
        reader: the reader.
        weights: of the two.
    """

    model: Embedder
    reader: Embedder
    weights: Weights

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed pictures: (n, d + e) float32, of length 1."""
        seen = self.model.picture_vectors(digests, source, count, keep=keep)
        return side_by_side(seen, self.reader.picture_vectors(digests, source, _silent, keep=keep), self.weights)

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """Those of the titles that the model does not read to the end."""
        return self.model.cut_titles(titles)

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles: (n, d + e) float32, of length 1."""
        said = self.model.title_vectors(titles, count, keep=keep)
        return side_by_side(said, self.reader.title_vectors(titles, _silent, keep=keep), self.weights)


class WithReaderLearner:
    """Trains projections as a run without the reader does, then fits the two weights on folds of the training rows.

    Args:
        learner: what trains the projections.
        read: the reader's vectors of the snapshot's pictures and titles.
        heads: the reader's own projections.
    """

    def __init__(self, learner: HeadsLearner, read: Pooled, heads: Heads) -> None:
        self.total, self.trainable = learner.total + 2, learner.trainable + 2
        self._learner, self._read, self._heads = learner, read, heads
        self._weights = Weights(0.5, 0.5, 1.0)

    def fit(self, rows: Triplets, on_step: Callable[[Step], None]) -> None:
        """Train, then weigh."""
        self._learner.fit(rows, on_step)
        read, said = self._reader_vectors(rows.pictures, rows.titles)
        pooled, groups = self._learner.pooled.triplets(rows), self._learner.groups_of(rows)
        with one_thread():
            self._weights = fit_beside_reader(self._learner.fitter, pooled, groups, read, said)

    def candidate(self, rows: Triplets, fit_on: Rows | None = None) -> Candidate:
        """Both together, to be fitted on folds of these rows; see `Candidate`."""
        return replace(
            self._learner.candidate(rows, fit_on), beside=Beside(*self._reader_vectors(rows.pictures, rows.titles))
        )

    def base_candidate(self, rows: Triplets) -> Candidate:
        """The base model without the reader; see `HeadsLearner.base_candidate`."""
        return self._learner.base_candidate(rows)

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score both together."""
        seen, said = self._learner.vectors(examples)
        pictures, titles = [row.picture_sha256 for row in examples], [row.title for row in examples]
        read, words = self._reader_vectors(pictures, titles)
        return score_vectors(
            examples, side_by_side(seen, read, self._weights), side_by_side(said, words, self._weights)
        )

    def score_reader(self, examples: Sequence[ExampleRow]) -> Scores:
        """Score the reader alone."""
        return self._read.score(self._heads, examples)

    def tensors(self) -> dict[str, Tensor]:
        """The projections that were trained, and the weights."""
        kept = (self._weights.first, self._weights.second, self._weights.scale)
        return {**self._learner.tensors(), WEIGHTS: torch.tensor(kept, dtype=torch.float64)}

    def whole_model(self) -> SentenceTransformer:
        """There is none.

        Raises:
            NotAClip: always.
        """
        raise NotAClip(
            "a model with the reader beside it is no sentence-transformers folder, which can't read the words on "
            "thumbnails; train without --with-reader to write one"
        )

    def _reader_vectors(self, digests: Sequence[str], titles: Sequence[str]) -> tuple[NDArray[np.float32], Vectors]:
        pictures = self._read.pictures[self._read.pictures_at(digests)]
        return self._heads.pictures(pictures), self._heads.titles(self._read.titles[self._read.titles_at(titles)])


def _silent(_n: int) -> None:
    pass
