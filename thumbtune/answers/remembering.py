"""An embedder that keeps what it has embedded: a page asks for the same titles again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trainer.data import PictureSource
from trainer.models import Embedder, Vectors

__all__ = ["Remembering"]

_MOST_REMEMBERED = 2000
"""Titles, or pictures, that were asked about; beyond that, all are forgotten. The store's own titles are kept."""

Count = Callable[[int], None]


class Remembering:
    """Keeps the vectors of titles and of pictures asked about. Satisfies `trainer.models.Embedder`."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._rows: dict[str, int] = {}
        self._stored: Vectors | None = None
        self._titles: dict[str, Vectors] = {}
        self._pictures: dict[str, Vectors] = {}

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed pictures, as `Embedder` does."""
        if len(digests) != 1:
            return self._embedder.picture_vectors(digests, source, count, keep=keep)
        if digests[0] not in self._pictures:
            if len(self._pictures) >= _MOST_REMEMBERED:
                self._pictures.clear()
            self._pictures[digests[0]] = self._embedder.picture_vectors(digests, source, count, keep=keep)
        return self._pictures[digests[0]]

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles, as `Embedder` does."""
        return self._of_store(titles, count) if keep else self._of_ideas(titles, count)

    def _of_store(self, titles: Sequence[str], count: Count) -> Vectors:
        missing = [title for title in dict.fromkeys(titles) if title not in self._rows]
        count(len(titles) - len(missing))
        if missing:
            made = self._embedder.title_vectors(missing, count, keep=True)
            start = len(self._rows)
            self._stored = made if self._stored is None else np.concatenate([self._stored, made])
            self._rows.update((title, start + row) for row, title in enumerate(missing))
        assert self._stored is not None, "at least one title is asked for"
        return self._stored[[self._rows[title] for title in titles]]

    def _of_ideas(self, titles: Sequence[str], count: Count) -> Vectors:
        if len(self._titles) >= _MOST_REMEMBERED:
            self._titles.clear()
        missing = [title for title in dict.fromkeys(titles) if title not in self._titles]
        count(len(titles) - len(missing))
        if missing:
            made = self._embedder.title_vectors(missing, count, keep=False)
            self._titles.update(zip(missing, made, strict=True))
        return np.stack([self._titles[title] for title in titles])
