"""A model that caches its embeddings, because the page asks for the same titles repeatedly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trainer.data import PictureSource
from trainer.fitting import Fitted
from trainer.library import Versions
from trainer.models import Embedder, Vectors

__all__ = ["Remembering"]

_MOST_REMEMBERED = 2000
"""The maximum number of queried titles, or thumbnails, in the cache; beyond it, all but stored titles are dropped."""

Count = Callable[[int], None]


class Remembering(Versions):
    """Caches the vectors of titles and of queried thumbnails, for each version.

    Also satisfies `trainer.models.Embedder`, with the vectors of the model itself.
    """

    def __init__(self, embedder: Embedder, folds: Sequence[Fitted] = ()) -> None:
        super().__init__(embedder, folds)
        self._rows: dict[str, int] = {}
        self._stored: list[Vectors] = []
        self._ideas: dict[str, list[Vectors]] = {}
        self._asked: dict[str, list[Vectors]] = {}

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed thumbnails, as `Embedder` does."""
        if len(digests) != 1:
            return self.embedder.picture_vectors(digests, source, count, keep=keep)
        return self.pictures(digests, source, keep)[0]

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles, as `Embedder` does."""
        return self.titles(titles, count, keep)[0]

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """The titles that exceed the model's length limit."""
        return self.embedder.cut_titles(titles)

    def pictures(self, digests: Sequence[str], source: PictureSource, keep: bool) -> list[Vectors]:
        """Embed thumbnails, as `Versions` does; a single thumbnail is cached."""
        if len(digests) != 1:
            return super().pictures(digests, source, keep)
        if digests[0] not in self._asked:
            if len(self._asked) >= _MOST_REMEMBERED:
                self._asked.clear()
            self._asked[digests[0]] = super().pictures(digests, source, keep)
        return self._asked[digests[0]]

    def titles(self, titles: Sequence[str], count: Count, keep: bool) -> list[Vectors]:
        """Embed titles, as `Versions` does."""
        return self._of_store(titles, count) if keep else self._of_ideas(titles, count)

    def _of_store(self, titles: Sequence[str], count: Count) -> list[Vectors]:
        missing = [title for title in dict.fromkeys(titles) if title not in self._rows]
        count(len(titles) - len(missing))
        if missing:
            new = super().titles(missing, count, True)
            start = len(self._rows)
            self._stored = (
                [np.concatenate(parts) for parts in zip(self._stored, new, strict=True)] if self._stored else new
            )
            self._rows.update((title, start + row) for row, title in enumerate(missing))
        rows = [self._rows[title] for title in titles]
        return [stored[rows] for stored in self._stored]

    def _of_ideas(self, titles: Sequence[str], count: Count) -> list[Vectors]:
        if len(self._ideas) >= _MOST_REMEMBERED:
            self._ideas.clear()
        missing = [title for title in dict.fromkeys(titles) if title not in self._ideas]
        count(len(titles) - len(missing))
        if missing:
            new = super().titles(missing, count, False)
            for row, title in enumerate(missing):
                self._ideas[title] = [vectors[row] for vectors in new]
        return [np.stack(parts) for parts in zip(*(self._ideas[title] for title in titles), strict=True)]
