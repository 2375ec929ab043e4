"""Column types shared by the tables, limits of stored values, comparison of stored times and ids, and progress."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from sqlalchemy import JSON, ColumnElement, DateTime, Dialect, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = [
    "CLOCKS_DIFFER",
    "DECODER_ERRORS",
    "LONG_AGO",
    "MAX_PICTURE_PIXELS",
    "PICTURE_FORMATS",
    "Phase",
    "UtcDateTime",
    "before",
    "can_be_id",
    "json_type",
    "storable",
    "unshown",
    "utc_now",
]

T = TypeVar("T")

Phase = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Shows progress: called with a description and a number of items, it yields a function that counts them."""

CLOCKS_DIFFER = timedelta(minutes=5)
"""The largest expected difference between the clocks of two machines. A time further in the future is wrong."""
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""A time before any collected data."""

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""Pillow's names of the formats that a stored thumbnail may have. Other decoders stay closed: some of them start
programs."""
MAX_PICTURE_PIXELS = 40_000_000
"""The largest area of a stored thumbnail, in pixels."""
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
"""Exceptions that decoders raise for damaged or hostile bytes, in addition to Pillow's own errors."""

# NUL (PostgreSQL) and lone surrogates (they have no UTF-8 form).
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LARGEST_ID = 2**31 - 1
"""The largest value of PostgreSQL's `integer`. SQLite allows larger ids, but assigns them from 1 upwards."""


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time. In Python: a timezone-aware UTC `datetime` with microseconds.

    PostgreSQL: `timestamptz`. SQLite: ISO-8601 text in UTC without an offset, so that text order is time order and
    SQLite's date functions can read it.
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
        raise ValueError(f"naive datetime {value!r}: times in the store need a time zone")
    return value.astimezone(UTC)


def json_type() -> TypeEngine[Any]:
    """JSON text on SQLite, `jsonb` on PostgreSQL; None is SQL NULL, not the JSON value null."""
    return JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def storable(value: T) -> T:
    """Return a value, with U+FFFD for each character in its strings that a database can't store.

    Args:
        value: a string, or lists and dictionaries that contain strings. Other values are returned as they are.
    """
    return cast("T", _storable(value))


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def utc_now() -> datetime:
    """Return the current UTC time, timezone-aware."""
    return datetime.now(UTC)


def before(column: InstrumentedAttribute[Any], moment: datetime, now: datetime) -> ColumnElement[bool]:
    """Whether a row's time is before `moment`, which is in the past.

    A time in the future also counts as before: a clock that was ahead wrote it, and the row must not be ignored until
    that time.
    """
    return or_(column < moment, column > now)


def can_be_id(number: int) -> bool:
    """Whether a row can have this id. The databases fail on larger numbers instead of finding no row."""
    return 1 <= number <= _LARGEST_ID


def unshown(_description: str, _total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """A `Phase` that shows nothing."""
    return nullcontext(lambda _n: None)
