"""Column types shared by the tables, and how each database stores them."""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["DECODER_ERRORS", "MAX_PICTURE_PIXELS", "PICTURE_FORMATS", "UtcDateTime", "json_type", "utc_now"]

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""What a thumbnail in the store may be, as Pillow calls it. Nothing opens any other: some run other programs."""
MAX_PICTURE_PIXELS = 40_000_000
"""Of a thumbnail in the store."""
DECODER_ERRORS = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What decoders raise for damaged or hostile bytes, in addition to Pillow's own errors."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant. In Python: a timezone-aware UTC `datetime` with microseconds.

    PostgreSQL: `timestamptz`. SQLite: ISO-8601 text without zone, always UTC, so that text order is time order and
    SQLite's own date functions can read it.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert an aware datetime to UTC.

        Raises:
            ValueError: the datetime has no timezone.
        """
        if value is None:
            return None
        utc = _as_utc(value)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware UTC datetime, whatever the database session's time zone is."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"naive datetime {value!r}: times in the store are UTC instants")
    return value.astimezone(UTC)


def json_type() -> TypeEngine[Any]:
    """JSON text on SQLite, `jsonb` on PostgreSQL; None is SQL NULL, not the JSON value null."""
    return JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def utc_now() -> datetime:
    """Return the current instant, timezone-aware."""
    return datetime.now(UTC)
