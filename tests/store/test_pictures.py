"""Thumbnails: stored once, used by versions, checked again, and paused after failures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from store.db import Database
from store.tables import Picture, PictureFailure, Video, VideoVersion
from store.youtube import (
    FailedPicture,
    PictureOutcome,
    PicturesResult,
    UnchangedPicture,
    any_picture_due,
    pictures_due,
    record_pictures,
)
from store.youtube.pictures import pause_after
from tests.store.observations import (
    CHANNEL,
    T0,
    add_channel,
    add_video,
    at,
    at_once,
    count,
    details,
    fetched,
    history,
    listed,
    page,
    pictures,
    read_details,
    sha,
    the_video,
    thumbnails,
)

IDS = ["v1", "v2", "v3"]


@pytest.fixture(autouse=True)
def _videos(database: Database) -> None:
    """Three videos with details and without thumbnails."""
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UCother")
    page(database, *(listed(video_id) for video_id in IDS))
    read_details(database, *(details(video_id, "t") for video_id in IDS))


def failure(database: Database, video_id: str) -> PictureFailure | None:
    with database.read() as session:
        return session.get(PictureFailure, video_id)


def due(database: Database, hour: float, **changes: object) -> list[str]:
    options: dict[str, object] = {"after": "", "now": at(hour), "read_before": at(hour)}
    with database.read() as session:
        return [job.video_id for job in pictures_due(session, CHANNEL, **options | changes)]  # type: ignore[arg-type]


def test_a_first_thumbnail_is_stored_and_completes_the_version(database: Database) -> None:
    data = bytes(range(256)) * 40
    assert pictures(database, fetched("v1", data), now=at(1)) == PicturesResult(1, 0, 0, 0)
    with database.read() as session:
        picture = session.get_one(Picture, sha(data))
        assert picture.bytes == data
        (version,) = session.scalars(select(VideoVersion).where(VideoVersion.video_id == "v1"))
    assert (picture.mime, picture.width, picture.height) == ("image/jpeg", 480, 360)
    assert (picture.byte_count, picture.fetched_at) == (10_240, at(1))
    assert (version.picture_sha256, version.first_seen_at, version.last_seen_at) == (sha(data), T0, at(1))
    video = the_video(database, "v1")
    assert (video.picture_sha256, video.picture_checked_at) == (sha(data), at(1))
    assert (video.picture_url, video.picture_etag) == (thumbnails("v1")["high"]["url"], '"e1"')
    assert video.picture_last_modified == "Mon, 01 Jul 2024 12:00:00 GMT"


def test_a_thumbnail_of_many_videos_is_stored_once(database: Database) -> None:
    assert pictures(database, fetched("v1"), fetched("v2")).fetched == 2
    assert pictures(database, fetched("v3"), now=at(1)).fetched == 1
    with database.read() as session:
        (picture,) = session.scalars(select(Picture))
        shown = set(session.scalars(select(Video.picture_sha256)))
    assert (shown, picture.fetched_at) == ({sha(b"one")}, T0)


def test_a_new_thumbnail_creates_a_version_and_keeps_the_old_file(database: Database) -> None:
    pictures(database, fetched("v1", b"one"))
    assert pictures(database, fetched("v1", b"two", etag='"e2"'), now=at(1)) == PicturesResult(1, 0, 0, 1)
    assert history(database, "v1") == [("t", sha(b"one")), ("t", sha(b"two"))]
    assert count(database, Picture) == 2
    video = the_video(database, "v1")
    assert (video.picture_sha256, video.picture_etag) == (sha(b"two"), '"e2"')
    pictures(database, fetched("v1", b"one"), now=at(2))
    assert [picture for _, picture in history(database, "v1")] == [sha(b"one"), sha(b"two"), sha(b"one")]
    assert count(database, Picture) == 2


def test_a_thumbnail_changed_twice_in_one_sync_is_counted_once(database: Database) -> None:
    pictures(database, fetched("v1", b"one"))
    assert pictures(database, fetched("v1", b"two"), now=at(1.1), started_at=at(1)).changed == 1
    assert pictures(database, fetched("v1", b"three"), now=at(1.2), started_at=at(1)).changed == 0


def test_equal_bytes_create_no_version_and_update_the_validators(database: Database) -> None:
    pictures(database, fetched("v1", etag='"e1"'))
    again = fetched("v1", etag='"e2"')
    assert pictures(database, again, now=at(1)) == PicturesResult(0, 1, 0, 0)
    assert history(database, "v1") == [("t", sha(b"one"))]
    video = the_video(database, "v1")
    assert (video.picture_etag, video.picture_checked_at) == ('"e2"', at(1))
    pictures(database, fetched("v1", etag=None), now=at(2))
    assert the_video(database, "v1").picture_etag is None


def test_an_unchanged_thumbnail_is_recorded_as_seen(database: Database) -> None:
    pictures(database, fetched("v1"))
    assert pictures(database, UnchangedPicture("v1"), now=at(1)) == PicturesResult(0, 1, 0, 0)
    video = the_video(database, "v1")
    assert (video.picture_sha256, video.picture_etag, video.picture_checked_at) == (sha(b"one"), '"e1"', at(1))
    with database.read() as session:
        (version,) = session.scalars(select(VideoVersion).where(VideoVersion.video_id == "v1"))
    assert (version.first_seen_at, version.last_seen_at) == (T0, at(1))


def test_a_title_changed_before_the_first_fetch_leaves_the_old_version_without_a_thumbnail(database: Database) -> None:
    read_details(database, details("v1", "new"), now=at(1))
    assert pictures(database, fetched("v1"), now=at(2)).changed == 0
    assert history(database, "v1") == [("t", None), ("new", sha(b"one"))]


def test_a_mixed_batch_is_counted_by_outcome(database: Database) -> None:
    pictures(database, fetched("v2"))
    outcomes = fetched("v1"), UnchangedPicture("v2"), FailedPicture("v3", "u", "404"), fetched("stranger")
    assert pictures(database, *outcomes, now=at(1)) == PicturesResult(1, 1, 1, 0)


def test_no_outcomes_change_nothing(database: Database) -> None:
    assert pictures(database) == PicturesResult(0, 0, 0, 0)


# --- failures ---


def test_consecutive_failures_are_counted_and_pauses_grow(database: Database) -> None:
    hour, pauses = 0.0, []
    for _ in range(8):
        assert pictures(database, FailedPicture("v1", "u", f"after {hour} h"), now=at(hour)).failed == 1
        row = failure(database, "v1")
        assert row is not None
        assert (row.first_failed_at, row.last_failed_at, row.reason) == (T0, at(hour), f"after {hour} h")
        pauses.append((row.next_try_at - row.last_failed_at) / timedelta(hours=1))
        hour += pauses[-1]
    assert pauses == [1, 4, 16, 64, 256, 720, 720, 720]
    row = failure(database, "v1")
    assert row is not None
    assert row.tries == 8
    assert the_video(database, "v1").picture_checked_at is None


@given(st.integers(min_value=1, max_value=10**9))
def test_the_pause_grows_up_to_a_limit(tries: int) -> None:
    assert timedelta(hours=1) <= pause_after(tries) <= pause_after(tries + 1) <= timedelta(days=30)


@pytest.mark.parametrize("success", [fetched("v1"), UnchangedPicture("v1")])
def test_a_success_deletes_the_failure(database: Database, success: PictureOutcome) -> None:
    pictures(database, FailedPicture("v1", "u", "404"), FailedPicture("v2", None, "none named"))
    pictures(database, FailedPicture("v1", "u", "404"), now=at(1))
    pictures(database, success, now=at(2))
    assert failure(database, "v1") is None
    other = failure(database, "v2")
    assert other is not None
    assert (other.tries, other.url, other.reason) == (1, None, "none named")
    pictures(database, FailedPicture("v1", "u", "404"), now=at(3))
    anew = failure(database, "v1")
    assert anew is not None
    assert (anew.tries, anew.first_failed_at, anew.next_try_at) == (1, at(3), at(4))


def test_a_failed_check_keeps_the_stored_thumbnail(database: Database) -> None:
    pictures(database, fetched("v1"))
    pictures(database, FailedPicture("v1", "u", "timed out"), now=at(1))
    video = the_video(database, "v1")
    assert (video.picture_sha256, video.picture_checked_at) == (sha(b"one"), T0)
    assert history(database, "v1") == [("t", sha(b"one"))]


# --- what is due ---


def test_missing_thumbnails_are_due_in_pages_by_id(database: Database) -> None:
    assert due(database, 1) == IDS
    assert due(database, 1, limit=2) == ["v1", "v2"]
    assert due(database, 1, after="v2", limit=2) == ["v3"]
    assert due(database, 0) == []  # the details of the running sync create their own jobs
    pictures(database, fetched("v2"))
    assert due(database, 1) == ["v1", "v3"]
    with database.read() as session:
        assert any_picture_due(session, CHANNEL, at(1))
        assert not any_picture_due(session, "UCother", at(1))


def test_a_failed_thumbnail_is_due_after_its_pause(database: Database) -> None:
    pictures(database, *(FailedPicture(video_id, "u", "404") for video_id in IDS))
    assert due(database, 0.99) == []
    assert due(database, 1) == IDS
    with database.read() as session:
        assert not any_picture_due(session, CHANNEL, at(0.99))
        assert any_picture_due(session, CHANNEL, at(1))


def test_a_job_has_the_urls_of_the_api_and_the_stored_validators(database: Database) -> None:
    pictures(database, fetched("v2"))
    with database.write() as session:
        add_video(session, "v4", api_item=None)
        add_video(session, "v5", api_item={"snippet": {}})
        add_video(session, "v6", api_item={"snippet": {"thumbnails": "broken"}})
        add_video(session, "v7", api_item={"snippet": {"thumbnails": None}})
        add_video(session, "v8", picture_url="lost", picture_etag='"lost"', picture_last_modified="lost")
    with database.read() as session:
        jobs = pictures_due(
            session, CHANNEL, after="", now=at(1), read_before=at(1), recheck_before=T0 + timedelta(seconds=1)
        )
    by_id = {job.video_id: job for job in jobs}
    assert by_id["v1"].thumbnails == thumbnails("v1")
    assert (by_id["v1"].url, by_id["v1"].etag, by_id["v1"].last_modified) == (None, None, None)
    # Without the stored thumbnail, "not modified" would be useless.
    assert (by_id["v8"].url, by_id["v8"].etag, by_id["v8"].last_modified) == (None, None, None)
    assert [by_id[name].thumbnails for name in ("v4", "v5", "v6", "v7")] == [{}, {}, {}, {}]


def test_a_refresh_makes_thumbnails_of_read_videos_due(database: Database) -> None:
    """The thumbnail of a video whose details a refresh has not read yet is fetched with those details."""
    pictures(database, *(fetched(video_id) for video_id in IDS), now=at(1))
    begun = at(2)
    read_details(database, details("v1", "t"), details("v2", "t"), now=at(2.1))
    assert due(database, 3) == []
    assert due(database, 3, recheck_before=begun) == ["v1", "v2"]
    pictures(database, UnchangedPicture("v1"), now=at(2.2))
    assert due(database, 3, recheck_before=begun) == ["v2"]
    pictures(database, FailedPicture("v2", "u", "timed out"), now=at(2.5))
    assert due(database, 3, recheck_before=begun) == []
    assert due(database, 3.5, recheck_before=begun) == ["v2"]
    with database.read() as session:
        (job,) = pictures_due(session, CHANNEL, after="", now=at(4), read_before=at(4), recheck_before=begun, limit=200)
    assert (job.url, job.etag) == (thumbnails("v2")["high"]["url"], '"e1"')


# --- two processes at once ---


def record(session: Session, outcomes: Sequence[PictureOutcome], hour: int) -> PicturesResult:
    return record_pictures(session, outcomes, now=at(hour), started_at=at(hour))


def test_thumbnails_recorded_by_two_concurrent_writers_are_stored_once(database: Database) -> None:
    names = [f"w{n:02}" for n in range(30)]
    page(database, *(listed(name) for name in names))
    read_details(database, *(details(name, "t") for name in names))
    for turn in range(6):
        batch = [fetched(name, f"{turn} {n // 2}".encode()) for n, name in enumerate(names)]
        one, two = at_once(
            database,
            partial(record, outcomes=batch, hour=turn),
            partial(record, outcomes=batch[::-1], hour=turn),
        )
        assert (one.fetched + two.fetched, one.unchanged + two.unchanged) == (30, 30)
        assert one.changed + two.changed == (30 if turn else 0)
    assert count(database, Picture) == 6 * 15
    assert history(database, "w03") == [("t", sha(f"{turn} 1".encode())) for turn in range(6)]


def test_a_success_and_a_failure_are_recorded_concurrently_without_a_deadlock(database: Database) -> None:
    names = [f"w{n:02}" for n in range(40)]
    page(database, *(listed(name) for name in names))

    def outcomes(turn: int, failing: int) -> list[PictureOutcome]:
        # Different files; otherwise the two would already wait for each other at the first file.
        return [
            FailedPicture(name, "u", "timed out") if n % 2 == failing else fetched(name, f"{turn} {failing}".encode())
            for n, name in enumerate(names)
        ]

    for turn in range(8):
        results = at_once(
            database,
            partial(record, outcomes=outcomes(turn, 0), hour=turn),
            partial(record, outcomes=outcomes(turn, 1), hour=turn),
        )
        assert [(result.fetched, result.failed) for result in results] == [(20, 20), (20, 20)]
    assert {the_video(database, name).picture_sha256 for name in names} == {sha(b"7 0"), sha(b"7 1")}


def test_failures_recorded_by_two_concurrent_writers_are_one_row_each(database: Database) -> None:
    failed = [FailedPicture(video_id, "u", "404") for video_id in IDS]
    at_once(database, partial(record, outcomes=failed, hour=0), partial(record, outcomes=failed[::-1], hour=0))
    for video_id in IDS:
        row = failure(database, video_id)
        assert row is not None
        assert (row.tries, row.next_try_at) == (2, at(4))
