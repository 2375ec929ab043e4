"""Encode each thumbnail and title with a frozen tower only once, and cache its pooled vector in the store.

The cache key consists of the content's digest, the tower's fingerprint (weights, configuration, preprocessing), the
precision, the type of device and, for thumbnails, the crop mode and whether bars are removed. Vectors are saved batch
by batch, so an interrupted encoding continues where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.db import Database
from store.tables import Tower
from store.training import cached_digests, read_features, write_features
from trainer.data import PictureSource, StoredPictures, batches
from trainer.models.lazy import LazyModel, TitleModel
from trainer.models.projections import Projections
from trainer.models.titles import is_mostly_foreign
from trainer.models.towers import BATCH
from trainer.models.vector_files import VectorFile
from trainer.progress import uncounted
from trainer.settings import Bars, CropMode

__all__ = ["CachedEmbedder", "Features", "TitleFeatures"]

Vectors = NDArray[np.float32]
Count = Callable[[int], None]
Encoded = Iterator[tuple[Sequence[str], Vectors]]

_READ = 512
BLOCK = 1 << 14
"""The number of inputs whose pooled vectors `CachedEmbedder` holds in memory at a time. A multiple of the number of
rows that a projection works on, so that blocks have the bits of one product."""


@dataclass(frozen=True)
class Features:
    """Pooled vectors of thumbnails and titles: the towers' output, which is the input of the projections.

    Args:
        database: the store with the cache.
        model: the model whose towers encode inputs that are not in the cache.
        precision: `fp32` or `bf16`.
        crop_mode: the crop mode.
        bars: whether letterbox bars are removed first.
    """

    database: Database
    model: LazyModel
    precision: str
    crop_mode: CropMode
    bars: Bars = "cut"

    def to_file(
        self, tower: Tower, inputs: Sequence[str], source: PictureSource, count: Count, *, folder: Path, budget: int
    ) -> VectorFile:
        """Write the pooled vectors of distinct thumbnails or titles to a file, encoding those that are not cached.

        Args:
            tower: `vision` for digests of thumbnails, `text` for titles.
            inputs: the digests or titles. Row i of the file is the vector of input i.
            source: loads the thumbnails that are not in the cache.
            count: receives the number of inputs done.
            folder: the folder of the file.
            budget: see `VectorFile`.
        """
        self.fill_missing(tower, inputs, source, count)
        found = VectorFile(folder, len(inputs), self._width(tower), budget)
        for number, batch in enumerate(batches(inputs, _READ)):
            # Vectors that are damaged in the cache are encoded again.
            vectors = self.pictures(batch, source, uncounted) if tower == "vision" else self.titles(batch, uncounted)
            found.put(number * _READ, vectors)
        return found

    def pictures(self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True) -> Vectors:
        """Return the pooled vectors of thumbnails, (n, vision width) float32.

        Args:
            digests: SHA-256 (hex) of each thumbnail.
            source: loads the thumbnails that are not in the cache.
            count: receives the number of thumbnails done.
            keep: write new vectors to the cache.
        """
        return self._cache("vision", keep=keep).filled(
            digests, lambda missing: self._encoded_pictures(missing, source, keep), count
        )

    def titles(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Return the pooled vectors of titles, (n, text width) float32. The arguments are as in `pictures`."""
        by_digest = {_digest(title): title for title in titles}
        return self._cache("text", keep=keep).filled(
            [_digest(title) for title in titles], lambda missing: self._encoded_titles(missing, by_digest, keep), count
        )

    def missing(self, tower: Tower, inputs: Iterable[str]) -> list[list[str]]:
        """Return the inputs that are not in the cache, in the batches in which `pictures` or `titles` encodes them.

        Vectors may differ by rounding between batches of other compositions, so they are the same on any machine.

        Args:
            tower: `vision` for digests of thumbnails, `text` for titles.
            inputs: digests or titles.
        """
        by_digest = {(_digest(each) if tower == "text" else each): each for each in inputs}
        missing = self._cache(tower, keep=True).missing(by_digest)
        if tower == "text":
            missing = _by_length(missing, by_digest)
        return [[by_digest[digest] for digest in batch] for batch in batches(missing, BATCH)]

    def fill(self, tower: Tower, missing: Sequence[Sequence[str]], source: PictureSource, count: Count) -> None:
        """Encode inputs and write their vectors to the cache, without keeping them in memory.

        Args:
            tower: `vision` or `text`.
            missing: the result of the method `missing`.
            source: loads the thumbnails.
            count: receives the number of inputs done.
        """
        inputs = [each for batch in missing for each in batch]
        if tower == "vision":
            encoded = self._encoded_pictures(inputs, source, True)
        else:
            by_digest = {_digest(title): title for title in inputs}
            encoded = self._encoded_titles(list(by_digest), by_digest, True)
        cache = self._cache(tower, keep=True)
        for batch, vectors in encoded:
            cache.write(batch, vectors)
            count(len(batch))

    def fill_missing(self, tower: Tower, inputs: Sequence[str], source: PictureSource, count: Count) -> None:
        """Encode the inputs that are not in the cache and write their vectors to it. The arguments are as in `fill`."""
        missing = self.missing(tower, inputs)
        count(len(inputs) - sum(map(len, missing)))
        if missing:  # else the towers are not loaded
            self.fill(tower, missing, source, count)

    def put_pictures(self, digests: Sequence[str], prepared: Any) -> None:
        """Encode thumbnails that `LazyModel.prepared` has prepared, and write their vectors to the cache."""
        vectors = self.model.pooled(prepared, self.precision)
        self._cache("vision", keep=True).write(digests, vectors)

    def cut_titles(self, titles: Sequence[str], *, keep: bool = True) -> list[str]:
        """Return the titles that the model truncates because they have too many tokens, in the same order."""
        limit = self.model.facts.limit
        if limit is None:
            return []
        return [title for title, n in zip(titles, self._token_counts(titles, keep), strict=True) if n > limit]

    def are_mostly_foreign(self, titles: Sequence[str]) -> bool:
        """Whether the model was trained on one language, and most titles are in other languages."""
        language = self.model.facts.language
        return language is not None and is_mostly_foreign(language, titles, self._token_counts(titles, keep=True))

    def _token_counts(self, titles: Sequence[str], keep: bool) -> Vectors:
        """The number of tokens of each title: (n,) float32. They are cached, so that no model has to be loaded."""
        key = hashlib.sha256(f"tokens {self.model.facts.text}".encode()).hexdigest()
        by_digest = {_digest(title): title for title in titles}

        def encode(missing: Sequence[str]) -> Encoded:
            for batch in batches(missing, _READ):
                counts = self.model.token_counts([by_digest[digest] for digest in batch], keep=keep)
                yield batch, np.array(counts, np.float32)[:, None]

        cache = _Cache(self.database, key, "text", 1, keep)
        return cache.filled([_digest(title) for title in titles], encode, uncounted)[:, 0]

    def _cache(self, tower: Tower, *, keep: bool) -> _Cache:
        return _Cache(self.database, self._key(tower), tower, self._width(tower), keep)

    def _width(self, tower: Tower) -> int:
        projections = self.model.facts.projections
        return int((projections.visual if tower == "vision" else projections.text).shape[1])

    def _key(self, tower: Tower) -> str:
        facts = self.model.facts
        parts = [facts.vision, self.crop_mode] if tower == "vision" else [facts.text]
        if tower == "vision" and (self.crop_mode, self.bars) == ("crop", "cut"):
            # Added only here, so that vectors cached before `crop` could remove bars stay valid under the other keys.
            parts.append("bars cut")
        return hashlib.sha256(" ".join([*parts, self.precision, self.model.device]).encode()).hexdigest()

    def _encoded_pictures(self, digests: Sequence[str], source: PictureSource, keep: bool) -> Encoded:
        found = self.model.encoded_pictures(digests, source, self.precision, keep=keep)
        return zip(batches(digests, BATCH), found, strict=True)

    def _encoded_titles(self, digests: Sequence[str], titles: Mapping[str, str], keep: bool) -> Encoded:
        by_length = _by_length(digests, titles)
        found = self.model.encoded_titles([titles[digest] for digest in by_length], self.precision, keep=keep)
        return zip(batches(by_length, BATCH), found, strict=True)


@dataclass(frozen=True)
class TitleFeatures:
    """Embeddings of titles by a text model, with the same cache."""

    database: Database
    model: TitleModel

    def fill(self, titles: Sequence[str], count: Count) -> None:
        """Embed the distinct titles that are not in the cache, and write their vectors to it."""
        by_digest, cache = {_digest(title): title for title in titles}, self._cache()
        missing = cache.missing(by_digest)
        count(len(by_digest) - len(missing))
        for batch, vectors in self._encoded(missing, by_digest):
            cache.write(batch, vectors)
            count(len(batch))

    def vectors(self, titles: Sequence[str], count: Count) -> Vectors:
        """Embed titles: (n, d) float32 of length 1."""
        by_digest = {_digest(title): title for title in titles}
        digests = [_digest(title) for title in titles]
        return self._cache().filled(digests, lambda missing: self._encoded(missing, by_digest), count)

    def _encoded(self, digests: Sequence[str], titles: Mapping[str, str]) -> Encoded:
        for batch in batches(_by_length(digests, titles), BATCH):
            yield batch, self.model.vectors([titles[digest] for digest in batch], uncounted)

    def _cache(self) -> _Cache:
        key = hashlib.sha256(f"titles {self.model.fingerprint}".encode()).hexdigest()
        return _Cache(self.database, key, "text", self.model.width, True)


@dataclass(frozen=True)
class CachedEmbedder:
    """Embeds by projecting cached features. See `trainer.models.encoder.Embedder`."""

    features: Features
    projections: Projections

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed thumbnails: (n, d) float32 of length 1."""
        if self._in_blocks(digests, keep):
            self.features.fill_missing("vision", digests, source, count)
            return self._blocks(digests, lambda block: self.picture_vectors(block, source, uncounted))
        return self.projections.pictures(self.features.pictures(digests, source, count, keep=keep))

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles: (n, d) float32 of length 1."""
        if self._in_blocks(titles, keep):
            self.features.fill_missing("text", titles, StoredPictures(self.features.database), count)
            return self._blocks(titles, lambda block: self.title_vectors(block, uncounted))
        return self.projections.titles(self.features.titles(titles, count, keep=keep))

    def _in_blocks(self, inputs: Sequence[str], keep: bool) -> bool:
        """Whether there are too many inputs to hold their pooled vectors in memory beside the embeddings."""
        return keep and not self.features.database.unwritable and len(inputs) > BLOCK

    def _blocks(self, inputs: Sequence[str], embed: Callable[[Sequence[str]], Vectors]) -> Vectors:
        found = np.empty((len(inputs), len(self.projections.text)), np.float32)
        for start in range(0, len(inputs), BLOCK):
            found[start : start + BLOCK] = embed(inputs[start : start + BLOCK])
        return found

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """See `Features.cut_titles`. Nothing is cached."""
        return self.features.cut_titles(titles, keep=False)


class _Table:
    """An (n, width) float32 array, allocated when the first vector gives the width."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._rows: Vectors | None = None

    def put(self, row: int, vector: Vectors) -> None:
        if self._rows is None:
            self._rows = np.empty((self._n, len(vector)), np.float32)
        self._rows[row] = vector

    def take(self, rows: list[int]) -> Vectors:
        if self._rows is None:
            return np.empty((0, 0), np.float32)
        return self._rows if rows == list(range(self._n)) else self._rows[rows]


@dataclass(frozen=True)
class _Cache:
    database: Database
    fingerprint: str
    tower: Tower
    width: int
    keep: bool

    def filled(self, digests: Sequence[str], encode: Callable[[Sequence[str]], Encoded], count: Count) -> Vectors:
        """Return the vectors of `digests`, in the same order. Missing vectors are encoded and saved in the cache."""
        rows = {digest: row for row, digest in enumerate(dict.fromkeys(digests))}
        table = _Table(len(rows))
        known = self._read(rows, table)
        count(sum(digest in known for digest in digests))
        missing = [digest for digest in rows if digest not in known]
        for batch, vectors in encode(missing) if missing else ():
            for digest, vector in zip(batch, vectors, strict=True):
                table.put(rows[digest], vector)
            # Saved after each batch, so that an interruption loses little: encoding takes far longer than saving.
            self.write(batch, vectors)
            count(len(batch))
        return table.take([rows[digest] for digest in digests])

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return the digests without a vector of the right width, in the same order. Checksums are not compared."""
        found: list[str] = []
        with self.database.read() as session:
            for batch in batches(list(digests), _READ):
                known = cached_digests(session, self.fingerprint, self.tower, batch, self.width)
                found += [digest for digest in batch if digest not in known]
        return found

    def _read(self, rows: Mapping[str, int], table: _Table) -> set[str]:
        """Copy the cached vectors into the table. Return their digests."""
        known: set[str] = set()
        with self.database.read() as session:
            for batch in batches(list(rows), _READ):
                found = read_features(session, self.fingerprint, self.tower, batch, self.width)
                for digest, vector in found.items():
                    table.put(rows[digest], np.frombuffer(vector, "<f4"))
                known |= found.keys()
        return known

    def write(self, digests: Sequence[str], vectors: Vectors) -> None:
        """Save vectors in the cache, if they are to be kept and the store can be written."""
        if self.keep and not self.database.unwritable:
            rows = {digest: vector.astype("<f4").tobytes() for digest, vector in zip(digests, vectors, strict=True)}
            self.database.transact(lambda session: write_features(session, self.fingerprint, self.tower, rows))


def _by_length(digests: Iterable[str], titles: Mapping[str, str]) -> list[str]:
    """Sort by the titles' lengths, because batches of titles of similar length need less padding."""
    return sorted(digests, key=lambda digest: len(titles[digest]))


def _digest(title: str) -> str:
    return hashlib.sha256(title.encode("utf-8", "surrogatepass")).hexdigest()
