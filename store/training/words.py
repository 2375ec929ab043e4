"""A cache of the text that OCR found on thumbnails, by thumbnail and OCR reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.db import insert
from store.tables import ThumbnailWords

__all__ = ["read_words_of", "write_words"]

# Old SQLite versions limit the bound values in one statement to 999.
_BATCH = 500


def read_words_of(session: Session, reader: str, digests: Sequence[str]) -> dict[str, str]:
    """Return {SHA-256 (hex) of the thumbnail: text} found by this reader, without thumbnails not yet read."""
    found: dict[str, str] = {}
    for start in range(0, len(digests), _BATCH):
        query = select(ThumbnailWords.picture_sha256, ThumbnailWords.text).where(
            ThumbnailWords.reader == reader, ThumbnailWords.picture_sha256.in_(digests[start : start + _BATCH])
        )
        found.update((digest, text) for digest, text in session.execute(query))
    return found


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
