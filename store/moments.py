"""Compare stored times, even if the clock that wrote them was wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

__all__ = ["CLOCKS_DIFFER", "LONG_AGO", "before"]

CLOCKS_DIFFER = timedelta(minutes=5)
"""The most that machines' clocks differ; a time further ahead was written by a wrong clock."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""A time before anything that was collected."""


def before(column: InstrumentedAttribute[Any], moment: datetime, now: datetime) -> ColumnElement[bool]:
    """Whether a row's time is before a past moment.

    A time in the future counts as long ago: it was written by a clock that was ahead, and its row must not be ignored
    until that time.
    """
    return or_(column < moment, column > now)
