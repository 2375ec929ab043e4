"""Comparing the times that rows hold, whatever the clock did that wrote them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

__all__ = ["CLOCKS_DIFFER", "LONG_AGO", "before"]

CLOCKS_DIFFER = timedelta(minutes=5)
"""Times that are further ahead are none of another machine, but of a clock that was wrong."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Before anything that was ever collected."""


def before(column: InstrumentedAttribute[Any], moment: datetime, now: datetime) -> ColumnElement[bool]:
    """Whether a row's time lies before a moment of the past.

    One that is still to come counts as long ago: a clock wrote it that ran ahead, and what it stands for must not be
    left alone until the time has come.
    """
    return or_(column < moment, column > now)
