"""Units are counted per Pacific day, also if the day has 23 or 25 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.db import Database
from store.tables import QuotaDay
from store.youtube import add_units, next_quota_day, quota_day, units_spent
from tests.store.observations import at_once, count

NOON = datetime(2024, 7, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2024-03-10T07:59:59Z", date(2024, 3, 9)),
        ("2024-03-10T08:00:00Z", date(2024, 3, 10)),  # midnight, standard time
        ("2024-03-11T06:59:59Z", date(2024, 3, 10)),  # 23 hours later
        ("2024-03-11T07:00:00Z", date(2024, 3, 11)),
        ("2024-11-03T06:59:59Z", date(2024, 11, 2)),
        ("2024-11-03T07:00:00Z", date(2024, 11, 3)),  # midnight, daylight saving time
        ("2024-11-04T07:59:59Z", date(2024, 11, 3)),  # 25 hours later
        ("2024-11-04T08:00:00Z", date(2024, 11, 4)),
        ("2024-07-01T15:30:00+09:00", date(2024, 6, 30)),
        ("2025-01-01T07:59:59.999999Z", date(2024, 12, 31)),
    ],
)
def test_the_day_starts_at_midnight_pacific_time(instant: str, day: date) -> None:
    assert quota_day(datetime.fromisoformat(instant)) == day


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_the_day_does_not_depend_on_the_time_zone_of_the_value(instant: datetime) -> None:
    utc = instant.astimezone(UTC)
    assert quota_day(instant) == quota_day(utc)
    assert timedelta(0) <= utc.date() - quota_day(utc) <= timedelta(days=1)


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_the_next_day_starts_at_the_end_of_the_day(instant: datetime) -> None:
    start = next_quota_day(instant)
    assert timedelta(0) < start - instant.astimezone(UTC) <= timedelta(hours=25)
    assert quota_day(start) == quota_day(instant) + timedelta(days=1)
    assert quota_day(start - timedelta(microseconds=1)) == quota_day(instant)


def test_units_are_summed_by_day_and_key(database: Database) -> None:
    before, after = (datetime(2024, 7, 1, hour, tzinfo=UTC) for hour in (6, 7))
    with database.write() as session:
        add_units(session, "key1", 3, before)
        add_units(session, "key1", 4, before.astimezone(timezone(timedelta(hours=9))))
        add_units(session, "key2", 10, before)
        add_units(session, "key1", 100, after)
    with database.read() as session:
        assert units_spent(session, date(2024, 6, 30), "key1") == 7
        assert units_spent(session, date(2024, 6, 30), "key2") == 10
        assert units_spent(session, date(2024, 6, 30)) == 17
        assert units_spent(session, date(2024, 7, 1), "key1") == 100
        assert units_spent(session, date(2024, 7, 1), "key2") == 0
        assert units_spent(session, date(2024, 7, 2)) == 0


def test_zero_units_write_no_row(database: Database) -> None:
    with database.write() as session:
        add_units(session, "key", 0, NOON)
    assert count(database, QuotaDay) == 0


def test_units_of_concurrent_writers_add_up(database: Database) -> None:
    for _ in range(10):
        at_once(database, *(lambda session, n=n: add_units(session, "key", n, NOON) for n in (1, 2, 3)))
    with database.read() as session:
        assert units_spent(session, quota_day(NOON)) == 60
