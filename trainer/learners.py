"""Two ways to train: the projections alone on cached features, or the whole model by the library's trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from store.snapshots import ExampleRow
from trainer.artifacts import put_tensors
from trainer.encoder import Encoder, Vectors
from trainer.fit import Step, Triplets, choose_parameters, fit_full_model
from trainer.fit_heads import PooledTriplets, fit_heads
from trainer.heads import Heads
from trainer.lazy import LazyModel
from trainer.lora import Adapters
from trainer.loss import title_labels
from trainer.pictures import PictureSource
from trainer.progress import Progress
from trainer.scoring import Scores, score_examples, score_vectors
from trainer.settings import TrainSettings

__all__ = ["HeadsLearner", "Learner", "Pooled", "WholeLearner", "triplets"]


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
        seen = self._pictures_at([example.picture_sha256 for example in examples])
        said = self._titles_at([example.title for example in examples])
        return score_vectors(examples, heads.pictures(self.pictures)[seen], heads.titles(self.titles)[said])

    def triplets(self, rows: Triplets) -> PooledTriplets:
        """The rows to train on, by number."""
        labels = title_labels(list(self.title_rows))
        return PooledTriplets(
            self.pictures,
            self.titles,
            np.array([labels[title] for title in self.title_rows], dtype=np.int64),
            self._pictures_at(rows.pictures),
            self._titles_at(rows.titles),
            None if rows.negatives is None else self._titles_at(rows.negatives),
        )

    def _pictures_at(self, digests: Sequence[str]) -> NDArray[np.intp]:
        return np.array([self.picture_rows[digest] for digest in digests], dtype=np.intp)

    def _titles_at(self, titles: Sequence[str]) -> NDArray[np.intp]:
        return np.array([self.title_rows[title] for title in titles], dtype=np.intp)


def triplets(examples: Sequence[ExampleRow], *, mined: bool) -> Triplets:
    """The training split's rows; with mined negatives, each row's negative title."""
    rows = [row for row in examples if row.split == "train"]
    titles: dict[int | None, str] = {row.position: row.title for row in rows}
    # All rows have a negative, or none: two groups are required, and each is the other's.
    return Triplets(
        [row.picture_sha256 for row in rows],
        [row.title for row in rows],
        [titles[row.negative_position] for row in rows] if mined else None,
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
    """

    def __init__(
        self, model: LazyModel, heads: Heads, names: Sequence[str], pooled: Pooled, settings: TrainSettings
    ) -> None:
        sizes = dict(model.facts.parameters)
        self.total = sum(sizes.values())
        self.trainable = sum(sizes[name] for name in names)
        self._model, self._names, self._pooled, self._settings = model, names, pooled, settings
        self._start = self._heads = heads

    def fit(self, rows: Triplets, on_step: Callable[[Step], None]) -> None:
        """Train."""
        self._heads = fit_heads(
            self._start,
            self._pooled.triplets(rows),
            self._names,
            self._settings,
            device=self._model.device,
            on_step=on_step,
        )

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score what was trained."""
        return self._pooled.score(self._heads, examples)

    def tensors(self) -> dict[str, Tensor]:
        """The projections that differ from the base's, or were trained."""
        known = self._model.facts.heads
        base = {} if known is None else known.tensors()
        return {
            name: tensor
            for name, tensor in self._heads.tensors().items()
            if name in self._names or not tensor.equal(base[name])
        }

    def whole_model(self) -> SentenceTransformer:
        """The base, loaded, with the projections put in."""
        model = self._model.encoder().model
        put_tensors(model, self.tensors(), "the run's file")
        return model


class WholeLearner:
    """Trains any parameters, or LoRA adapters, by running the whole model.

    Args:
        encoder: the base, or the champion to go on from; it is changed.
        changed: parameters that differ from the base already.
        source: where the pictures come from.
        settings: the run's.

    Raises:
        BadSetting: nothing matches what is to be trained.
    """

    def __init__(
        self, encoder: Encoder, changed: Mapping[str, Tensor], source: PictureSource, settings: TrainSettings
    ) -> None:
        self._encoder, self._source, self._settings = encoder, source, settings
        self._adapters: Adapters | None = None
        # Adapters leave the weights that they are on as they are: those are kept as they came.
        self._tensors = dict(changed)
        if settings.train == "lora":
            self._adapters = Adapters(encoder.model, settings)
            self._kept = list(self._adapters.tensors())
        else:
            self._kept = sorted({*choose_parameters(encoder.model, settings.train), *changed})
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in encoder.model.parameters()]
        self.total = sum(size for size, _ in sizes)
        self.trainable = sum(size for size, trained in sizes if trained)

    def fit(self, rows: Triplets, on_step: Callable[[Step], None]) -> None:
        """Train; adapters are merged afterwards, so that what is scored is what is loaded again."""
        fit_full_model(self._encoder, rows, self._source, self._settings, on_step)
        wanted = set(self._kept)
        self._tensors |= {
            name: parameter.detach().cpu().clone()
            for name, parameter in self._encoder.model.named_parameters()
            if name in wanted
        }
        if self._adapters is not None:
            self._adapters.merge()

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score what was trained."""
        return score_examples(self._encoder, examples, self._source, progress, "the tuned model")

    def tensors(self) -> dict[str, Tensor]:
        """What was trained, adapters or parameters, and the parameters that differ from the base's already."""
        return self._tensors

    def whole_model(self) -> SentenceTransformer:
        """The trained model."""
        return self._encoder.model
