"""The words that a reader found on thumbnails: a cache by picture and reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.db import insert
from store.tables import ThumbnailWords

__all__ = ["read_words_of", "write_words"]

# More bound values than this in one statement is more than an old SQLite takes.
_BATCH = 500


def read_words_of(session: Session, reader: str, digests: Sequence[str]) -> dict[str, str]:
    """The words that this reader found: {SHA-256 (hex) of the picture: text}; pictures not yet read are left out."""
    found: dict[str, str] = {}
    for start in range(0, len(digests), _BATCH):
        query = select(ThumbnailWords.picture_sha256, ThumbnailWords.text).where(
            ThumbnailWords.reader == reader, ThumbnailWords.picture_sha256.in_(digests[start : start + _BATCH])
        )
        found.update((digest, text) for digest, text in session.execute(query))
    return found


def write_words(session: Session, reader: str, texts: Mapping[str, str], at: datetime) -> None:
    """Keep the words that a reader found: {SHA-256 (hex) of the picture: text}. A row that is there is replaced."""
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
