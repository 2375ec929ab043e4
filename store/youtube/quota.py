"""API quota units by day. The quota's day is that of Pacific time (https://developers.google.com/youtube/v3/getting-started)."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from sqlalchemy import Dialect, Executable, func, select
from sqlalchemy.orm import Session

from store.db import insert_for
from store.tables import QuotaDay

__all__ = ["add_units", "next_quota_day", "quota_day", "units_spent"]

PACIFIC = ZoneInfo("America/Los_Angeles")


def quota_day(instant: datetime) -> date:
    """The day that the quota counts an instant to: it starts at midnight Pacific time."""
    return instant.astimezone(PACIFIC).date()


def next_quota_day(instant: datetime) -> datetime:
    """When the quota's next day starts, in UTC: 23 to 25 hours after this one did."""
    midnight = datetime.combine(quota_day(instant) + timedelta(days=1), time(), tzinfo=PACIFIC)
    return midnight.astimezone(UTC)


def add_units(session: Session, key_fingerprint: str, units: int, now: datetime) -> None:
    """Count units spent with one key."""
    if units == 0:
        return
    row = {"day": quota_day(now), "key_fingerprint": key_fingerprint, "units": units}
    session.execute(_adding(session.get_bind().dialect), row)


@lru_cache(maxsize=8)
def _adding(dialect: Dialect) -> Executable:
    """Built once: it runs in every transaction of a sync that has spent units."""
    row = insert_for(dialect, QuotaDay)
    return row.on_conflict_do_update(
        index_elements=[QuotaDay.day, QuotaDay.key_fingerprint],
        set_={"units": QuotaDay.units + row.excluded.units},
    )


def units_spent(session: Session, day: date, key_fingerprint: str | None = None) -> int:
    """Units spent on one day, by one key or by all."""
    query = select(func.coalesce(func.sum(QuotaDay.units), 0)).where(QuotaDay.day == day)
    if key_fingerprint is not None:
        query = query.where(QuotaDay.key_fingerprint == key_fingerprint)
    return session.scalar(query) or 0
