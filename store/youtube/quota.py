"""API quota units by day. A quota day is a day in Pacific time.

See https://developers.google.com/youtube/v3/getting-started.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from sqlalchemy import Dialect, Executable, func, select
from sqlalchemy.orm import Session

from store.db import insert_for
from store.tables import QuotaDay

__all__ = ["add_units", "next_quota_day", "quota_day", "units_by_key", "units_spent"]

PACIFIC = ZoneInfo("America/Los_Angeles")


def quota_day(instant: datetime) -> date:
    """The quota day of a point in time. It starts at midnight Pacific time."""
    return instant.astimezone(PACIFIC).date()


def next_quota_day(instant: datetime) -> datetime:
    """The start of the next quota day, in UTC. A quota day has 23 to 25 hours."""
    midnight = datetime.combine(quota_day(instant) + timedelta(days=1), time(), tzinfo=PACIFIC)
    return midnight.astimezone(UTC)


def add_units(session: Session, key_fingerprint: str, units: int, now: datetime) -> None:
    """Add units spent with an API key."""
    if units == 0:
        return
    row = {"day": quota_day(now), "key_fingerprint": key_fingerprint, "units": units}
    session.execute(_adding(session.get_bind().dialect), row)


@lru_cache(maxsize=8)
def _adding(dialect: Dialect) -> Executable:
    """Cached because every transaction of a sync that spent units executes it."""
    row = insert_for(dialect, QuotaDay)
    return row.on_conflict_do_update(
        index_elements=[QuotaDay.day, QuotaDay.key_fingerprint],
        set_={"units": QuotaDay.units + row.excluded.units},
    )


def units_spent(session: Session, day: date, key_fingerprint: str | None = None) -> int:
    """Units spent on one quota day, with one key or with all keys."""
    query = select(func.coalesce(func.sum(QuotaDay.units), 0)).where(QuotaDay.day == day)
    if key_fingerprint is not None:
        query = query.where(QuotaDay.key_fingerprint == key_fingerprint)
    return session.scalar(query) or 0


def units_by_key(session: Session, day: date) -> dict[str, int]:
    """Return {key fingerprint: units spent} for one quota day."""
    rows = session.execute(select(QuotaDay.key_fingerprint, QuotaDay.units).where(QuotaDay.day == day))
    return dict(rows.all())
