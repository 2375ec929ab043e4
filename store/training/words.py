"""A cache of the text that OCR found on thumbnails, by thumbnail and OCR reader."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import column, select, table
from sqlalchemy.orm import Session

from store.db import batches, insert
from store.tables import ThumbnailWords

__all__ = ["Worded", "WordsFound", "read_words_of", "texts_of", "thumbnails_with_words", "write_words"]

_PAIRS = table("pairs", *map(column, ("video_id", "channel_id", "title", "published_at", "thumbnail_text")))


def read_words_of(session: Session, reader: str, digests: Sequence[str]) -> dict[str, str]:
    """Return {SHA-256 (hex) of the thumbnail: text} found by this reader, without thumbnails not yet read."""
    found: dict[str, str] = {}
    for batch in batches(digests):
        query = select(ThumbnailWords.picture_sha256, ThumbnailWords.text).where(
            ThumbnailWords.reader == reader, ThumbnailWords.picture_sha256.in_(batch)
        )
        found.update((digest, text) for digest, text in session.execute(query))
    return found


def texts_of(session: Session, digests: Collection[str] | None = None) -> dict[str, str]:
    """Return {SHA-256 (hex) of a thumbnail: the words last read on it}, for the given thumbnails or all."""
    query = select(ThumbnailWords.picture_sha256, ThumbnailWords.text).order_by(
        ThumbnailWords.read_at, ThumbnailWords.reader
    )
    if digests is not None:
        query = query.where(ThumbnailWords.picture_sha256.in_(digests))
    return {row.picture_sha256: row.text for row in session.execute(query)}


@dataclass(frozen=True, slots=True)
class Worded:
    """A current pair whose thumbnail has words."""

    video_id: str
    channel_id: str
    title: str
    text: str


@dataclass(frozen=True)
class WordsFound:
    """The result of a search for words.

    Args:
        matching: the pairs whose thumbnail has all the words, newest first.
        searched: the number of pairs that were searched.
        unread: the number of them whose thumbnail was never read.
    """

    matching: list[Worded]
    searched: int
    unread: int


def thumbnails_with_words(session: Session, words: str, channels: Collection[str] = ()) -> WordsFound:
    """Find the current pairs whose `thumbnail_text` contains each of the words anywhere.

    Case, accents and compatibility forms are ignored in any script, in Python, because the databases differ.

    Args:
        session: any session.
        words: one or more words, separated by white space.
        channels: ids of the channels to search; empty for all.
    """
    query = select(_PAIRS).order_by(_PAIRS.c.published_at.is_(None), _PAIRS.c.published_at.desc(), _PAIRS.c.video_id)
    sought, matching, searched, unread = _folded(words).split(), [], 0, 0
    for row in session.execute(query):
        if channels and row.channel_id not in channels:
            continue
        searched += 1
        unread += row.thumbnail_text is None
        text = _folded(row.thumbnail_text or "")
        if all(word in text for word in sought):
            matching.append(Worded(row.video_id, row.channel_id, row.title, row.thumbnail_text))
    return WordsFound(matching, searched, unread)


def _folded(text: str) -> str:
    """Remove case and accents."""
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char for char in parts if not unicodedata.combining(char))


def write_words(session: Session, reader: str, texts: Mapping[str, str], at: datetime) -> None:
    """Cache {SHA-256 (hex) of the thumbnail: text} found by a reader. Existing rows are replaced."""
    rows = [
        {"picture_sha256": digest, "reader": reader, "text": text, "read_at": at}
        for digest, text in sorted(texts.items())
    ]
    if not rows:
        return
    statement = insert(session, ThumbnailWords)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[ThumbnailWords.picture_sha256, ThumbnailWords.reader],
            set_={"text": statement.excluded.text, "read_at": statement.excluded.read_at},
        ),
        rows,
    )
