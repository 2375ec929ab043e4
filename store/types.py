"""Column types shared by the tables: what is stored, byte for byte, on each database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["UtcDateTime", "json_type", "utc_now"]


class UtcDateTime(TypeDecorator[datetime]):
    """An instant. Python side: timezone-aware UTC `datetime`, microseconds.

    PostgreSQL: `timestamptz`. SQLite: ISO-8601 text without zone, always UTC, so that text order is time order and
    SQLite's own date functions read it.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn any aware datetime to UTC; a naive one is a bug of the caller.

        Raises:
            ValueError: the datetime has no timezone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: times in the store are UTC instants")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware UTC datetime whatever the database's session zone is."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def json_type() -> TypeEngine[Any]:
    """JSON text on SQLite, `jsonb` on PostgreSQL; None is SQL NULL, not the JSON value null."""
    return JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def utc_now() -> datetime:
    """The current instant, timezone-aware."""
    return datetime.now(UTC)
