"""The store's thumbnails as a library that is searched by text or by picture."""

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
from trainer.progress import Progress, Silent
from trainer.scoring import why_unusable

__all__ = [
    "Found",
    "Library",
    "all_pairs",
    "cosines",
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

# Rows that are multiplied in double precision at a time.
_BLOCK = 4096
# A float32 product of unit vectors is off by less than this, in whichever order a BLAS adds it up.
_SLACK = 1e-5


@dataclass(frozen=True)
class Library:
    """Thumbnails and their vectors.

    Args:
        pairs: the videos, newest first.
        vectors: (n, d) float32 of length 1, a row for each of `pairs`.
        left_out: videos whose stored picture can't be decoded.
    """

    pairs: list[Pair]
    vectors: Vectors
    left_out: list[Pair]


@dataclass(frozen=True, slots=True)
class Found:
    """One answer: a video and the cosine similarity of its thumbnail to what was asked for."""

    pair: Pair
    score: float


def resolve_channels(database: Database, names: Sequence[str]) -> frozenset[str]:
    """The ids of the channels that the user named by id or handle.

    Raises:
        BadSetting: a channel is not in the store.
    """
    if not names:
        return frozenset()
    with database.read() as session:
        known = channel_titles(session)
    return frozenset(channel_id(name, known) for name in names)


def all_pairs(database: Database) -> list[Pair]:
    """The store's current pairs, newest first."""
    with database.read() as session:
        return current_pairs(session)


def searchable(database: Database, channels: Sequence[str] = ()) -> list[Pair]:
    """The pairs of these channels (ids or handles), or of all, newest first.

    Raises:
        BadSetting: a channel is not in the store.
        NotEnoughPairs: there is no thumbnail to search.
    """
    wanted = resolve_channels(database, channels)
    pairs = [pair for pair in all_pairs(database) if not wanted or pair.channel_id in wanted]
    if not pairs:
        where = f" of {', '.join(channels)}" if channels else ""
        raise NotEnoughPairs(f"the store has no thumbnail{where} to search; run 'thumbtune sync' first")
    return pairs


def load_library(
    database: Database, embedder: Embedder, pairs: Sequence[Pair], progress: Progress | None = None
) -> Library:
    """Embed the thumbnails of these pairs, each distinct picture once.

    A picture that can't be decoded does not keep the others from being found: its videos are left out.

    Args:
        database: where the pictures are.
        embedder: the model.
        pairs: at least one, see `searchable`.
        progress: told of each distinct picture.

    Raises:
        BadPicture: none of the pictures can be decoded.
        RunUnusable: the model's vectors can't be compared.
    """
    digests = list(dict.fromkeys(pair.picture_sha256 for pair in pairs))
    source = StoredPictures(database)
    with (progress or Silent()).phase("Reading the library", len(digests)) as count:
        try:
            vectors = embedder.picture_vectors(digests, source, count)
        except BadPicture:
            digests = _decodable(digests, source)
            if not digests:
                raise
            vectors = embedder.picture_vectors(digests, source, lambda _n: None)
    row_of = {digest: row for row, digest in enumerate(digests)}
    kept = [pair for pair in pairs if pair.picture_sha256 in row_of]
    rows = np.array([row_of[pair.picture_sha256] for pair in kept], dtype=np.intp)
    left_out = [pair for pair in pairs if pair.picture_sha256 not in row_of]
    return Library(kept, usable(vectors)[rows], left_out)


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
    """Embed a text to search by: (d,) float32 of length 1.

    Raises:
        BadSetting: it is blank, or not Unicode text.
        RunUnusable: the model's vectors can't be compared.
    """
    if not text.strip():
        raise BadSetting("the text to search for is empty; say what the thumbnails should show")
    require_unicode(text)
    return _one(embedder.title_vectors([text], lambda _n: None, keep=False))


def picture_vector(embedder: Embedder, picture: QueryPicture) -> Vectors:
    """Embed a picture to ask about: (d,) float32 of length 1.

    Raises:
        RunUnusable: the model's vectors can't be compared.
    """
    # What is not in the store is not to stay in its cache.
    keep = picture.video_id is not None
    return _one(embedder.picture_vectors([picture.digest], picture, lambda _n: None, keep=keep))


def require_unicode(text: str) -> None:
    """Refuse what came from a command line in another encoding: no tokenizer takes it.

    Raises:
        BadSetting: the text holds bytes that are not UTF-8.
    """
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadSetting(f"{text!r} is not UTF-8 text; use a UTF-8 terminal, or give titles in a file")


def _one(vectors: Vectors) -> Vectors:
    vector: Vectors = usable(vectors)[0]
    return vector


def usable(vectors: Vectors) -> Vectors:
    """Pass (n, d) embeddings on if they can be compared.

    Raises:
        RunUnusable: one is not finite, or has no length: no order can be made of them.
    """
    reason = why_unusable(vectors)
    if reason is not None:
        raise RunUnusable(f"the model's vectors are {reason} (its training diverged); name another model with --model")
    return vectors


def search(library: Library, query: Vectors, k: int, without: str | None = None) -> list[Found]:
    """The `k` thumbnails that are most like `query`, best first, the newer one first at equal scores.

    Args:
        library: where to look.
        query: (d,) float32 of length 1.
        k: how many, 1 or more.
        without: a video that is not to be among the answers.

    Raises:
        BadSetting: `k` is less than 1.
    """
    rows, scores = rank_library(query, library.vectors, k + (without is not None))
    found = [Found(library.pairs[row], float(score)) for row, score in zip(rows, scores, strict=True)]
    return [answer for answer in found if answer.pair.video_id != without][:k]


def rank_library(query: Vectors, vectors: Vectors, k: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The `k` rows of `vectors` that are most like `query`, best first; equal scores by lowest row.

    One float32 matrix product and a partition find the candidates; these alone are multiplied again in double
    precision, one row like another. So equal vectors have equal scores wherever they stand, and the answer does not
    depend on the BLAS.

    Args:
        query: (d,) float32 of length 1.
        vectors: (n, d) float32 of length 1.
        k: how many; more than n means all.

    Returns:
        Rows and their cosine similarities, min(k, n) of each.

    Raises:
        BadSetting: `k` is less than 1.
    """
    if k < 1:
        raise BadSetting(f"-k {k} is too few; use 1 or more")
    n = len(vectors)
    if k < n:
        rough = vectors @ query
        least = np.partition(rough, n - k)[n - k]
        rows = np.flatnonzero(rough >= least - 2 * _SLACK)
    else:
        rows = np.arange(n)
    scores = cosines(query, vectors, rows)
    best = np.argsort(-scores, kind="stable")[:k]
    return rows[best], scores[best]


def cosines(query: Vectors, vectors: Vectors, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
    """Cosine similarity of `query` (d,) to the rows of `vectors` (n, d), all of length 1, summed in double precision.

    Each row is summed by itself, in an order that depends on d alone: equal rows have equal scores.

    Args:
        query: (d,) float32.
        vectors: (n, d) float32.
        rows: which of them; None for all.
    """
    rows = np.arange(len(vectors)) if rows is None else rows
    wide = query.astype(np.float64)
    scores = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), _BLOCK):
        block = vectors[rows[start : start + _BLOCK]].astype(np.float64)
        block *= wide
        scores[start : start + _BLOCK] = block.sum(axis=1)
    return scores
