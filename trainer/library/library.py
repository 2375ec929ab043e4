"""Search the store's thumbnails by text or by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.db import Database
from store.training import Pair, channel_titles, current_pairs
from trainer.data import PictureSource, StoredPictures, batches, channel_id
from trainer.errors import BadPicture, BadSetting, NotEnoughPairs, RunUnusable
from trainer.library.query_picture import QueryPicture
from trainer.models import Embedder, Vectors
from trainer.progress import Progress, Silent, uncounted
from trainer.scoring import why_unusable

__all__ = [
    "ROUNDING",
    "Found",
    "Library",
    "all_pairs",
    "cosines",
    "equal_scores",
    "load_library",
    "picture_vector",
    "rank_library",
    "require_unicode",
    "resolve_channels",
    "search",
    "searchable",
    "text_vector",
    "usable",
]

# The number of rows that are multiplied in double precision at a time.
_BLOCK = 4096
ROUNDING = 1e-5
"""The error of a float32 product of unit vectors is less than this, in whichever order a BLAS sums it."""


@dataclass(frozen=True)
class Library:
    """Thumbnails and their vectors.

    Args:
        pairs: the videos, newest first.
        vectors: (n, d) float32 of length 1, one row for each of `pairs`.
        left_out: videos whose stored thumbnail can't be decoded.
    """

    pairs: list[Pair]
    vectors: Vectors
    left_out: list[Pair]


@dataclass(frozen=True, slots=True)
class Found:
    """A search result: a video and the cosine similarity of its thumbnail to the query."""

    pair: Pair
    score: float


def resolve_channels(database: Database, names: Sequence[str]) -> frozenset[str]:
    """Return the ids of the channels that the user named by id or handle.

    Raises:
        BadSetting: a channel is not in the store.
    """
    if not names:
        return frozenset()
    with database.read() as session:
        known = channel_titles(session)
    return frozenset(channel_id(name, known) for name in names)


def all_pairs(database: Database) -> list[Pair]:
    """Return the store's current pairs, newest first."""
    with database.read() as session:
        return current_pairs(session)


def searchable(database: Database, channels: Sequence[str] = ()) -> list[Pair]:
    """Return the pairs of these channels (ids or handles), or of all channels, newest first.

    Raises:
        BadSetting: a channel is not in the store.
        NotEnoughPairs: there are no thumbnails to search.
    """
    channel_ids = resolve_channels(database, channels)
    pairs = [pair for pair in all_pairs(database) if not channel_ids or pair.channel_id in channel_ids]
    if not pairs:
        where = f" of {', '.join(channels)}" if channels else ""
        raise NotEnoughPairs(f"the store has no thumbnails{where}; run 'thumbtune sync' first")
    return pairs


def load_library(
    database: Database, embedder: Embedder, pairs: Sequence[Pair], progress: Progress | None = None
) -> Library:
    """Embed the thumbnails of these pairs, each distinct thumbnail once.

    Videos whose thumbnail can't be decoded are left out, so that the others can still be found.

    Args:
        database: the store with the thumbnails.
        embedder: the model.
        pairs: at least one, see `searchable`.
        progress: receives each distinct thumbnail.

    Raises:
        BadPicture: none of the thumbnails can be decoded.
        RunUnusable: the model's vectors can't be compared.
    """
    digests = list(dict.fromkeys(pair.picture_sha256 for pair in pairs))
    source = StoredPictures(database)
    with (progress or Silent()).phase("Embedding thumbnails", len(digests)) as count:
        try:
            vectors = embedder.picture_vectors(digests, source, count)
        except BadPicture:
            digests = _decodable(digests, source)
            if not digests:
                raise
            vectors = embedder.picture_vectors(digests, source, uncounted)
    row_of = {digest: row for row, digest in enumerate(digests)}
    kept = [pair for pair in pairs if pair.picture_sha256 in row_of]
    rows = np.array([row_of[pair.picture_sha256] for pair in kept], dtype=np.intp)
    left_out = [pair for pair in pairs if pair.picture_sha256 not in row_of]
    # Without a copy where each video has a thumbnail of its own: a large store's vectors take gigabytes.
    alone = np.array_equal(rows, np.arange(len(vectors)))
    return Library(kept, usable(vectors) if alone else usable(vectors)[rows], left_out)


def _decodable(digests: Sequence[str], source: PictureSource) -> list[str]:
    kept: list[str] = []
    for batch in batches(digests, 1):
        try:
            source.load(batch)
        except BadPicture:
            continue
        kept += batch
    return kept


def text_vector(embedder: Embedder, text: str) -> Vectors:
    """Embed a query text: (d,) float32 of length 1.

    Raises:
        BadSetting: the text is blank, or not Unicode.
        RunUnusable: the model's vectors can't be compared.
    """
    if not text.strip():
        raise BadSetting("the query is empty; describe what the thumbnails should show")
    require_unicode(text)
    return _one(embedder.title_vectors([text], uncounted, keep=False))


def picture_vector(embedder: Embedder, picture: QueryPicture) -> Vectors:
    """Embed a query picture: (d,) float32 of length 1.

    Raises:
        RunUnusable: the model's vectors can't be compared.
    """
    # Pictures that are not in the store are not cached in it.
    keep = picture.video_id is not None
    return _one(embedder.picture_vectors([picture.digest], picture, uncounted, keep=keep))


def require_unicode(text: str) -> None:
    """Refuse text that came from a command line in another encoding, because tokenizers don't accept it.

    Raises:
        BadSetting: the text contains bytes that are not UTF-8.
    """
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadSetting(f"{text!r} is not valid UTF-8; use a UTF-8 terminal, or read the titles from a file")


def _one(vectors: Vectors) -> Vectors:
    vector: Vectors = usable(vectors)[0]
    return vector


def usable(vectors: Vectors) -> Vectors:
    """Return (n, d) embeddings unchanged if they can be compared.

    Raises:
        RunUnusable: a vector is not finite or has zero length, so that it can't be ranked.
    """
    reason = why_unusable(vectors)
    if reason is not None:
        raise RunUnusable(f"the model's embeddings are {reason}; use another model with --model")
    return vectors


def search(library: Library, query: Vectors, k: int, without: str | None = None) -> list[Found]:
    """Return the `k` thumbnails that are most similar to `query`, best first; at equal scores, the newer one first.

    Args:
        library: the thumbnails to search.
        query: (d,) float32 of length 1.
        k: the number of results, at least 1.
        without: id of a video to exclude from the results.

    Raises:
        BadSetting: `k` is less than 1.
    """
    rows, scores = rank_library(query, library.vectors, k + (without is not None))
    found = [Found(library.pairs[row], float(score)) for row, score in zip(rows, scores, strict=True)]
    return [answer for answer in found if answer.pair.video_id != without][:k]


def equal_scores(found: Sequence[Found]) -> list[tuple[int, int]]:
    """Return the first and last rank (1 is best) of each run of results whose scores only differ by rounding.

    Their order has no meaning. Videos with the same thumbnail are an example, and for the model that reads words, all
    thumbnails without words.
    """
    runs: list[tuple[int, int]] = []
    first = 1
    for rank, answer in enumerate(found, start=1):
        if rank < len(found) and answer.score - found[rank].score <= ROUNDING:
            continue
        if rank > first:
            runs.append((first, rank))
        first = rank + 1
    return runs


def rank_library(query: Vectors, vectors: Vectors, k: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the `k` rows of `vectors` most similar to `query`, best first; at equal scores, the lowest row first.

    One float32 matrix product and a partition find the candidates. Only these are multiplied again in double precision,
    each row in the same way. So equal vectors have equal scores at any position, and the result does not depend on the
    BLAS.

    Args:
        query: (d,) float32 of length 1.
        vectors: (n, d) float32 of length 1.
        k: the number of results; more than n means all.

    Returns:
        Rows and their cosine similarities, min(k, n) of each.

    Raises:
        BadSetting: `k` is less than 1.
    """
    if k < 1:
        raise BadSetting(f"-k {k} is too small; use 1 or more")
    n = len(vectors)
    if k < n:
        rough = vectors @ query
        least = np.partition(rough, n - k)[n - k]
        rows = np.flatnonzero(rough >= least - 2 * ROUNDING)
    else:
        rows = np.arange(n)
    scores = cosines(query, vectors, rows)
    best = np.argsort(-scores, kind="stable")[:k]
    return rows[best], scores[best]


def cosines(query: Vectors, vectors: Vectors, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
    """Cosine similarity of `query` (d,) to the rows of `vectors` (n, d), all of length 1, summed in double precision.

    Each row is summed separately, in an order that depends only on d: equal rows have equal scores.

    Args:
        query: (d,) float32.
        vectors: (n, d) float32.
        rows: the rows to compute; None for all.
    """
    rows = np.arange(len(vectors)) if rows is None else rows
    wide = query.astype(np.float64)
    scores = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), _BLOCK):
        block = vectors[rows[start : start + _BLOCK]].astype(np.float64)
        block *= wide
        scores[start : start + _BLOCK] = block.sum(axis=1)
    return scores
