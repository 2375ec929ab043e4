"""A model and its versions fitted without each fold of its rows, all embedding the same thumbnails and titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.data import PictureSource
from trainer.fitting import Fitted, WithReader
from trainer.library.library import usable
from trainer.models import CachedEmbedder, Embedder, Vectors
from trainer.scoring import side_by_side

__all__ = ["Versions"]

Count = Callable[[int], None]


class Versions:
    """A model and its versions fitted without each fold. The towers and the reader run once for all of them.

    Args:
        embedder: the model.
        folds: the model fitted without each fold; empty if not available.
    """

    def __init__(self, embedder: Embedder, folds: Sequence[Fitted] = ()) -> None:
        self.embedder, self.folds = embedder, folds

    def pictures(self, digests: Sequence[str], source: PictureSource, keep: bool) -> list[Vectors]:
        """Embed thumbnails: (n, d) float32 of length 1 by the model, then by each fold's version.

        Raises:
            RunUnusable: the model's vectors can't be compared.
        """
        model, reader = self._parts()
        if model is None:
            return [usable(self.embedder.picture_vectors(digests, source, _silent, keep=keep))]
        pooled = model.features.pictures(digests, source, _silent, keep=keep)
        seen = [heads.pictures(pooled) for heads in (model.heads, *(fold.heads for fold in self.folds))]
        read = None if reader is None else reader.reader.picture_vectors(digests, source, _silent, keep=keep)
        return self._with_reader(seen, reader, read)

    def titles(self, titles: Sequence[str], count: Count, keep: bool) -> list[Vectors]:
        """Embed titles, as `pictures` does; `count` receives the number of embedded titles."""
        model, reader = self._parts()
        if model is None:
            return [usable(self.embedder.title_vectors(titles, count, keep=keep))]
        pooled = model.features.titles(titles, count, keep=keep)
        said = [heads.titles(pooled) for heads in (model.heads, *(fold.heads for fold in self.folds))]
        read = None if reader is None else reader.reader.title_vectors(titles, _silent, keep=keep)
        return self._with_reader(said, reader, read)

    def _parts(self) -> tuple[CachedEmbedder | None, WithReader | None]:
        """The model whose projections the folds replace, and the reader."""
        beside = self.embedder if isinstance(self.embedder, WithReader) else None
        inner = self.embedder if beside is None else beside.model
        return (inner, beside) if isinstance(inner, CachedEmbedder) else (None, None)

    def _with_reader(self, vectors: list[Vectors], reader: WithReader | None, read: Vectors | None) -> list[Vectors]:
        if reader is not None and read is not None:
            weights = [reader.weights, *(fold.weights or reader.weights for fold in self.folds)]
            vectors = [side_by_side(one, read, weight) for one, weight in zip(vectors, weights, strict=True)]
        usable(vectors[0])
        return vectors


def _silent(_n: int) -> None:
    pass
