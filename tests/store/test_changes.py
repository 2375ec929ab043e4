"""Counts over time and the view `changes`, compared with values computed by hand, on both databases."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from store.db import Database
from store.tables import Channel, VideoReading, VideoVersion
from store.youtube import Counts, delete_readings
from store.youtube.readings import record_readings
from tests.store.builders import DAY_ONE, add_channel, add_video, change_video

SEEN = DAY_ONE + timedelta(days=100)
DAY = timedelta(days=1)


def read(session: Session, video_id: str, readings: Mapping[Any, int | None]) -> None:
    """Readings of views, {days after the change was seen: views}."""
    for days, views in readings.items():
        session.add(VideoReading(video_id=video_id, read_at=SEEN + days * DAY, views=views))
    session.flush()


def change(session: Session, video_id: str, *, at: datetime = SEEN, **changes: Any) -> None:
    version_id = change_video(session, video_id, **changes)
    version = session.get_one(VideoVersion, version_id)
    version.first_seen_at = version.last_seen_at = at
    session.flush()


def changes(database: Database) -> list[dict[str, Any]]:
    with database.read() as session:
        rows = session.execute(text("SELECT * FROM changes ORDER BY video_id, number"))
        return [dict(row) for row in rows.mappings()]


def test_a_change_is_compared_with_other_videos_of_the_same_age(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UC2", "@two")
        # Published on day 60: 40 days old at the change. Comparable videos are 20 to 80 days old: days 20 to 80.
        add_video(session, "changed", day=60, title="Old")
        read(session, "changed", {-1.5: 900, -0.5: 1000, 0: 1100, 2: 1500})
        change(session, "changed", title="New")
        add_video(session, "other-1", day=20)
        read(session, "other-1", {-1: 100, 0: 140, 1: 160})  # gains 40, 20
        add_video(session, "other-2", day=80)
        read(session, "other-2", {-2: 0, 0: 20, 1: 50})  # gains 10, 30
        # Not compared: too old or young, another kind or channel, changed itself, or without three readings.
        not_compared: tuple[tuple[str, int | None, dict[str, Any]], ...] = (
            ("too-old", 19, {}),
            ("too-young", 81, {}),
            ("a-short", 60, {"kind": "short"}),
            ("elsewhere", 60, {"channel_id": "UC2"}),
            ("also-new", 60, {}),
            ("undated", None, {}),
        )
        for name, day, more in not_compared:
            add_video(session, name, day=day, **more)
            read(session, name, {-1: 0, 0: 1000, 1: 5000})
        change(session, "also-new", at=SEEN - DAY / 2, picture=b"another")
        add_video(session, "no-after", day=60)
        read(session, "no-after", {-1: 0, 0: 1000})
        add_video(session, "hidden", day=60)
        read(session, "hidden", {-1: 0, 0: None, 1: None})
    row = next(row for row in changes(database) if row["video_id"] == "changed")
    assert (row["channel_id"], row["number"], row["changed"]) == ("UC1", 2, "title")
    assert (row["old_title"], row["new_title"]) == ("Old", "New")
    assert row["old_picture_sha256"] == row["new_picture_sha256"]
    # Halfway from 900 to 1000; as read; halfway from 1100 to 1500.
    assert row["views_day_before"] == pytest.approx(950)
    assert row["views_at"] == 1100
    assert row["views_day_after"] == pytest.approx(1300)
    assert row["ratio"] == pytest.approx(200 / 150)
    assert row["others"] == 2
    assert row["others_gain_before"] == pytest.approx(50)
    assert row["others_gain_after"] == pytest.approx(50)
    assert row["others_ratio"] == pytest.approx(1)


def test_only_the_25_nearest_videos_on_either_side_are_compared(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "changed", day=0, title="Old")
        read(session, "changed", {-1: 0, 0: 10, 1: 30})
        change(session, "changed", title="New")
        for n in range(1, 31):
            for side in (-1, 1):
                add_video(session, f"other{side * n:+03d}", day=side * n)
                # More distant videos gain 1,000 times as much.
                gain = 1 if n <= 25 else 1000
                read(session, f"other{side * n:+03d}", {-1: 0, 0: gain, 1: 3 * gain})
    (row,) = changes(database)
    assert (row["others"], row["others_gain_before"], row["others_gain_after"]) == (50, 50, 100)
    assert row["ratio"] == row["others_ratio"] == 2


def test_missing_readings_are_null(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        for name, readings in (
            ("far-apart", {-2: 0, 0.5: 100, 1.5: 200}),  # 2.5 days between two readings, then 1 day
            ("no-before", {0: 10, 1: 20}),
            ("no-gain", {-1: 10, 0: 10, 1: 30}),
            ("unread", {}),
        ):
            add_video(session, name, title="Old")
            read(session, name, readings)
            change(session, name, picture=b"new " + name.encode())
    rows = {row["video_id"]: row for row in changes(database)}
    found = {
        name: tuple(row[column] for column in ("views_day_before", "views_at", "views_day_after", "ratio"))
        for name, row in rows.items()
    }
    assert found == {
        "far-apart": (None, None, 150, None),
        "no-before": (None, 10, 20, None),
        "no-gain": (10, 10, 30, None),
        "unread": (None, None, None, None),
    }
    assert {(row["changed"], row["others"], row["others_gain_before"]) for row in rows.values()} == {
        ("thumbnail", 0, None)
    }


def test_a_thumbnail_that_was_fetched_later_is_not_a_change(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "both", title="Old")
        change(session, "both", title="New", picture=b"new")
        add_video(session, "late", title="Old", picture=None)
        change(session, "late", picture=b"new")
        session.get_one(Channel, "UC1").removed_at = None
    assert [(row["video_id"], row["changed"]) for row in changes(database)] == [("both", "both")]
    with database.write() as session:
        session.get_one(Channel, "UC1").removed_at = SEEN
    assert changes(database) == []


def readings(database: Database) -> list[tuple[float, int | None, int | None, int | None]]:
    with database.read() as session:
        rows = session.scalars(select(VideoReading).order_by(VideoReading.video_id, VideoReading.read_at))
        return [((row.read_at - SEEN) / DAY, row.views, row.likes, row.comments) for row in rows]


def test_of_equal_readings_the_first_and_the_last_are_kept(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "one")
    for day, counts in enumerate(
        (
            Counts(5, 1, None),
            Counts(5, 1, None),
            Counts(5, 1, None),
            Counts(5, 1, None),
            Counts(5, 1, 0),
            Counts(2**63 - 1, None, 0),
            Counts(5, 1, 0),
            Counts(5, 1, 0),
        )
    ):
        with database.write() as session:
            record_readings(session, {"one": counts}, SEEN + day * DAY)
    assert readings(database) == [
        (0, 5, 1, None),
        (3, 5, 1, None),
        (4, 5, 1, 0),
        (5, 2**63 - 1, None, 0),
        (6, 5, 1, 0),
        (7, 5, 1, 0),
    ]
    with database.write() as session:
        # A clock that was put back, and the same moment twice.
        record_readings(session, {"one": Counts(5, 1, 0)}, SEEN + 2 * DAY)
        record_readings(session, {"one": Counts(6, 1, 0)}, SEEN + 2 * DAY)
    assert readings(database)[1] == (2, 5, 1, 0)
    with database.write() as session:
        assert delete_readings(session, SEEN + 5 * DAY) == 4
    assert [row[0] for row in readings(database)] == [5, 6, 7]
