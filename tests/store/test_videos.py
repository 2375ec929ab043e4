"""Writing pages of the listing and batches of details; videos that must be read; the definition of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from store.db import Database
from store.tables import Availability, Kind, Picture, Video, VideoVersion
from store.youtube import (
    DetailsResult,
    FailedPicture,
    ListedVideo,
    PageResult,
    PictureJob,
    PicturesResult,
    UnchangedPicture,
    VideoDetails,
    add_from_feed,
    count_not_pairs,
    count_waiting,
    finish_listing,
    get_channel,
    pictures_due,
    record_details,
    record_page,
    record_pictures,
    summaries,
    unread_ids,
    unseen_ids,
    unsettled_ids,
    unsettled_in_feed,
    videos_to_refresh,
)
from store.youtube.videos import NOT_PAIRS, is_pair
from tests.store.observations import (
    CHANNEL,
    PUBLISHED,
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


@pytest.fixture(autouse=True)
def _channel(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UCother")


# --- a page of the listing ---


def test_a_first_page_inserts_videos_whose_details_are_unread(database: Database) -> None:
    brought = page(database, listed("v2", "Füchse 🦊 \u202eabc", published_at=None), listed("v1"))
    assert brought == PageResult(new=2, gone=0, wanted=("v1", "v2"), all_known=False)
    video = the_video(database, "v2")
    assert (video.title, video.published_at, video.channel_id) == ("Füchse 🦊 \u202eabc", None, CHANNEL)
    assert (video.kind, video.availability, video.details_at) == ("unknown", "available", None)
    assert (video.first_seen_at, video.last_seen_at) == (T0, T0)
    assert history(database, "v2") == []


def test_a_repeated_page_adds_nothing_and_keeps_the_details(database: Database) -> None:
    page(database, listed("v1", "listed"))
    read_details(database, details("v1", "as the details say"))
    brought = page(database, listed("v1", "listed"), now=at(1), known_until=at(0.5))
    assert brought == PageResult(new=0, gone=0, wanted=(), all_known=True)
    video = the_video(database, "v1")
    assert (video.title, video.kind, video.first_seen_at, video.last_seen_at) == (
        "as the details say",
        "video",
        T0,
        at(1),
    )


def test_an_empty_page_does_not_count_as_known(database: Database) -> None:
    assert page(database) == PageResult(new=0, gone=0, wanted=(), all_known=False)


def test_a_repeated_id_on_a_page_is_one_video(database: Database) -> None:
    brought = page(database, listed("v1"), listed("v2"), listed("v1"))
    assert (brought.new, brought.wanted) == (2, ("v1", "v2"))
    brought = page(database, listed("v1"), listed("v1"), now=at(1), known_until=T0)
    assert brought == PageResult(new=0, gone=0, wanted=(), all_known=True)
    assert count(database, Video) == 2


def test_a_video_listed_by_another_channel_keeps_its_channel(database: Database) -> None:
    page(database, listed("v1"))
    with database.write() as session:
        brought = record_page(session, "UCother", [listed("v1")], now=at(1), known_until=None)
    assert (brought.new, the_video(database, "v1").channel_id) == (0, CHANNEL)


@pytest.mark.parametrize("state", ["private", "gone"])
def test_private_and_deleted_entries_are_recorded_but_not_read(database: Database, state: Availability) -> None:
    brought = page(database, listed("v1", "Private video", published_at=None, availability=state))
    assert (brought.new, brought.gone, brought.wanted) == (1, 0, ())
    assert the_video(database, "v1").availability == state
    with database.read() as session:
        assert unread_ids(session, CHANNEL, after="", now=at(99), listed_before=at(9)) == []
        assert count_waiting(session, CHANNEL) == 0


def test_known_videos_can_vanish_and_return(database: Database) -> None:
    states: tuple[Availability, ...] = ("available", "private", "gone")
    for before, now in product(states, states):
        video_id = f"{before}-{now}"
        with database.write() as session:
            add_video(session, video_id, title="kept", availability=before)
        brought = page(database, listed(video_id, "Private video", availability=now), now=at(1), known_until=T0)
        returned = before != "available" and now == "available"
        assert brought == PageResult(
            new=0,
            gone=int(before == "available" and now != "available"),
            wanted=(video_id,) if returned else (),
            all_known=True,
        )
        video = the_video(database, video_id)
        assert (video.title, video.availability, video.last_seen_at) == ("kept", now, at(1))
        with database.read() as session:
            unread = unread_ids(session, CHANNEL, after="", listed_before=at(1), now=at(1))
        # Only the details show whether a video that is listed again is available, in whichever sync they are read.
        assert (video_id in unread) == returned


def test_a_page_counts_as_known_only_if_no_gap_follows(database: Database) -> None:
    """The second listing stops after one page: the videos of that page must not end the third listing early."""

    def known_until() -> datetime | None:
        with database.read() as session:
            return get_channel(session, CHANNEL).listed_at

    assert not page(database, listed("v1"), now=at(0), known_until=known_until()).all_known
    assert not page(database, listed("v1"), now=at(1), known_until=known_until()).all_known
    with database.write() as session:
        finish_listing(session, CHANNEL, at(1))
    assert page(database, listed("v1"), now=at(2), known_until=known_until()).all_known

    newest = [listed("v9"), listed("v8")]
    assert not page(database, *newest, now=at(3), known_until=known_until()).all_known
    again = page(database, *newest, now=at(4), known_until=known_until())
    assert (again.new, again.all_known) == (0, False)
    assert not page(database, listed("v8"), listed("v1"), now=at(4), known_until=known_until()).all_known
    with database.write() as session:
        finish_listing(session, CHANNEL, at(4))
    assert page(database, *newest, now=at(5), known_until=known_until()).all_known


# --- a batch of details ---


def test_first_details_create_a_version_and_make_the_thumbnail_due(database: Database) -> None:
    page(database, listed("v1", "listed", published_at=None))
    brought = read_details(database, details("v1", "exact ✓", duration_s=301), now=at(1))
    assert (brought.changed, brought.gone) == (0, 0)
    (job,) = brought.pictures
    assert (job.video_id, job.thumbnails) == ("v1", thumbnails("v1"))
    assert (job.url, job.etag, job.last_modified) == (None, None, None)
    video = the_video(database, "v1")
    assert (video.title, video.duration_s, video.kind, video.published_at) == ("exact ✓", 301, "video", PUBLISHED)
    assert (video.details_at, video.last_seen_at, video.first_seen_at) == (at(1), at(1), T0)
    with database.read() as session:
        item = session.get_one(Video, "v1").api_item
    assert item == details("v1", "exact ✓").api_item
    assert history(database, "v1") == [("exact ✓", None)]


def test_an_unchanged_title_creates_no_version(database: Database) -> None:
    page(database, listed("v1"))
    for hour in (1, 2):
        assert read_details(database, details("v1", "same"), now=at(hour)).changed == 0
    with database.read() as session:
        (version,) = session.scalars(select(VideoVersion))
    assert (version.title, version.first_seen_at, version.last_seen_at) == ("same", at(1), at(2))


def pairs(database: Database) -> list[tuple[str, str]]:
    """(title, picture digest) of each row of the view."""
    with database.read() as session:
        return [(row[0], row[1]) for row in session.execute(text("SELECT title, picture_sha256 FROM pairs"))]


def renamed(database: Database) -> PictureJob:
    """A video whose title has changed; the job that checks its thumbnail."""
    page(database, listed("v1"))
    read_details(database, details("v1", "old"))
    pictures(database, fetched("v1", b"one"))
    brought = read_details(database, details("v1", "NEW"), now=at(1))
    (job,) = brought.pictures
    assert brought.changed == 1
    assert the_video(database, "v1").title == "NEW"
    assert (pairs(database), history(database, "v1")) == (
        [("old", sha(b"one"))],
        [("old", sha(b"one")), ("NEW", None)],
    )
    return job


def test_a_changed_title_is_a_pair_after_its_thumbnail_was_checked(database: Database) -> None:
    assert renamed(database).etag == '"e1"'
    assert pictures(database, UnchangedPicture("v1"), now=at(1), started_at=at(1)) == PicturesResult(0, 1, 0, 0)
    assert pairs(database) == [("NEW", sha(b"one"))]
    assert history(database, "v1") == [("old", sha(b"one")), ("NEW", sha(b"one"))]
    read_details(database, details("v1", "old"), now=at(2))
    assert [title for title, _ in history(database, "v1")] == ["old", "NEW", "old"]


def test_a_title_and_a_thumbnail_that_change_together_are_one_version(database: Database) -> None:
    renamed(database)
    assert pictures(database, fetched("v1", b"two"), now=at(1), started_at=at(1)) == PicturesResult(1, 0, 0, 0)
    assert pairs(database) == [("NEW", sha(b"two"))]
    assert history(database, "v1") == [("old", sha(b"one")), ("NEW", sha(b"two"))]


def test_a_thumbnail_stays_due_after_a_killed_sync(database: Database) -> None:
    renamed(database)
    read_details(database, details("v1", "NEW"), now=at(1.5))  # again, before the picture
    assert pairs(database) == [("old", sha(b"one"))]
    with database.read() as session:
        (job,) = pictures_due(session, CHANNEL, after="", now=at(2), read_before=at(2))
    assert job.etag == '"e1"'


@pytest.mark.parametrize("first", [False, True], ids=["replaced", "first"])
def test_a_thumbnail_fetched_days_after_the_title_waits_for_a_new_read_of_the_title(
    database: Database, first: bool
) -> None:
    if first:
        page(database, listed("v1"))
        read_details(database, details("v1", "NEW"), now=at(1))
    else:
        renamed(database)
    pictures(database, FailedPicture("v1", "u", "timed out"), now=at(2))
    before = pairs(database)
    pictures(database, fetched("v1", b"two"), now=at(72))
    assert pairs(database) == before
    with database.read() as session:
        assert unread_ids(session, CHANNEL, after="", listed_before=at(73), now=at(73)) == ["v1"]
    brought = read_details(database, details("v1", "NEW"), now=at(73))
    if first:
        assert brought.pictures
        pictures(database, fetched("v1", b"two"), now=at(73))
    assert pairs(database) == [("NEW", sha(b"two"))]
    assert history(database, "v1")[-1] == ("NEW", sha(b"two"))


def test_a_title_can_change_while_a_late_thumbnail_waits(database: Database) -> None:
    renamed(database)
    pictures(database, fetched("v1", b"two"), now=at(72))
    assert read_details(database, details("v1", "NEWER"), now=at(73)).pictures
    assert pairs(database) == [("old", sha(b"one"))]
    pictures(database, UnchangedPicture("v1"), now=at(73))
    assert pairs(database) == [("NEWER", sha(b"two"))]
    assert history(database, "v1") == [("old", sha(b"one")), ("NEW", None), ("NEWER", sha(b"two"))]


def test_a_thumbnail_unchanged_days_later_belongs_to_the_title(database: Database) -> None:
    renamed(database)
    pictures(database, UnchangedPicture("v1"), now=at(72))
    assert pairs(database) == [("NEW", sha(b"one"))]


def test_a_changed_video_is_counted_once_per_sync(database: Database) -> None:
    page(database, listed("v1"))
    read_details(database, details("v1", "a"))
    pictures(database, fetched("v1", b"one"))
    begun = at(1)
    assert read_details(database, details("v1", "b"), now=at(1.1), started_at=begun).changed == 1
    assert pictures(database, fetched("v1", b"two"), now=at(1.2), started_at=begun).changed == 0
    assert read_details(database, details("v1", "c"), now=at(1.3), started_at=begun).changed == 0
    assert history(database, "v1") == [("a", sha(b"one")), ("b", sha(b"two")), ("c", None)]


def test_a_premiere_becomes_a_pair_once_it_has_a_duration(database: Database) -> None:
    page(database, listed("v1"))
    read_details(database, details("v1", "soon", kind="upcoming", duration_s=None))
    with database.read() as session:
        assert unsettled_ids(session, CHANNEL, limit=50) == ["v1"]
    brought = read_details(database, details("v1", "soon", published_at=None), now=at(1))
    assert [job.video_id for job in brought.pictures] == ["v1"]
    assert the_video(database, "v1").published_at == PUBLISHED
    pictures(database, fetched("v1"), now=at(1))
    with database.read() as session:
        assert unsettled_ids(session, CHANNEL, limit=50) == []
        assert list(session.scalars(text("SELECT video_id FROM pairs"))) == ["v1"]


def test_a_requested_but_missing_video_is_gone_and_keeps_its_history(database: Database) -> None:
    page(database, listed("v1"), listed("v2"), listed("v3", availability="private"))
    read_details(database, details("v1", "kept"), details("v2"))
    pictures(database, fetched("v1"))
    brought = read_details(database, details("v2"), missing=["v1", "v3", "never seen"], now=at(1))
    assert (brought.gone, brought.changed) == (1, 0)
    states = {name: the_video(database, name) for name in ("v1", "v2", "v3")}
    assert {name: video.availability for name, video in states.items()} == {
        "v1": "gone",
        "v2": "available",
        "v3": "private",
    }
    assert (states["v1"].title, states["v1"].details_at, states["v1"].last_seen_at) == ("kept", at(1), T0)
    assert history(database, "v1") == [("kept", sha(b"one"))]
    assert read_details(database, missing=["v1"], now=at(2)).gone == 0


def test_a_video_listed_repeatedly_without_details_is_counted_as_gone_once(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
    assert page(database, listed("v1"), now=at(1)).new == 1
    assert read_details(database, missing=["v1"], now=at(1), started_at=at(1)).gone == 1
    for hours in (2, 3):
        assert page(database, listed("v1"), now=at(hours)).wanted == ("v1",)
        assert read_details(database, missing=["v1"], now=at(hours), started_at=at(hours)).gone == 0
        assert the_video(database, "v1").availability == "gone"


def test_a_returned_video_is_available_without_a_new_version(database: Database) -> None:
    page(database, listed("v1"))
    read_details(database, details("v1", "kept"))
    pictures(database, fetched("v1"))
    read_details(database, missing=["v1"], now=at(1))
    assert page(database, listed("v1"), now=at(2)).wanted == ("v1",)
    brought = read_details(database, details("v1", "kept"), now=at(2))
    assert (brought.changed, brought.gone) == (0, 0)
    assert [job.video_id for job in brought.pictures] == ["v1"], "its thumbnail may have changed"
    assert the_video(database, "v1").availability == "available"
    assert history(database, "v1") == [("kept", sha(b"one"))]


def test_details_of_an_unknown_video_are_ignored(database: Database) -> None:
    assert read_details(database, details("stranger")).pictures == ()
    assert (count(database, Video), count(database, VideoVersion)) == (0, 0)


def test_a_failed_thumbnail_is_not_fetched_before_its_pause_ends(database: Database) -> None:
    page(database, listed("v1"))
    read_details(database, details("v1"))
    pictures(database, FailedPicture("v1", None, "404"), now=T0)

    def asked(hour: float) -> bool:
        return bool(read_details(database, details("v1"), now=at(hour)).pictures)

    assert [asked(0.99), asked(1), asked(1.01)] == [False, True, True]


def test_a_refresh_checks_each_stored_thumbnail_once(database: Database) -> None:
    page(database, listed("v1"))
    read_details(database, details("v1"))
    pictures(database, fetched("v1", etag='"e7"'), now=at(1))
    assert read_details(database, details("v1"), now=at(2)).pictures == ()
    assert read_details(database, details("v1"), now=at(2), recheck_before=at(1)).pictures == ()
    (job,) = read_details(database, details("v1"), now=at(2), recheck_before=at(2)).pictures
    assert job.url == thumbnails("v1")["high"]["url"]
    assert (job.etag, job.last_modified) == ('"e7"', "Mon, 01 Jul 2024 12:00:00 GMT")
    pictures(database, UnchangedPicture("v1"), now=at(3))
    assert read_details(database, details("v1"), now=at(4), recheck_before=at(2)).pictures == ()


def test_a_refresh_skips_a_thumbnail_that_failed_recently(database: Database) -> None:
    page(database, listed("v1"))
    read_details(database, details("v1"))
    pictures(database, fetched("v1"), now=at(1))
    pictures(database, FailedPicture("v1", "u", "timed out"), now=at(2))
    assert read_details(database, details("v1"), now=at(2.5), recheck_before=at(2.5)).pictures == ()
    assert len(read_details(database, details("v1"), now=at(3), recheck_before=at(3)).pictures) == 1


# --- the history ---

OBSERVATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("title"), st.sampled_from(["a", "A", "a ", "ä", "a\u0308"])),
        st.tuples(st.just("picture"), st.sampled_from(["one", "two", "three"])),
        st.tuples(st.just("unchanged"), st.just("")),
    ),
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.sampled_from(["a", "ä"]), observations=OBSERVATIONS)
def test_the_history_is_a_run_length_encoding_of_the_observations(
    database: Database, first: str, observations: list[tuple[str, str]]
) -> None:
    video_id = f"v{count(database, Video):05}"
    page(database, listed(video_id))
    expected: list[tuple[tuple[str, str | None], datetime, datetime]] = []
    title: str | None = None
    picture: str | None = None
    for hour, (side, value) in enumerate([("title", first), *observations]):
        state, since, _ = expected[-1] if expected else ((value, None), at(hour), at(hour))
        if side == "title":
            read_details(database, details(video_id, value), now=at(hour))
            state = state if title == value else (value, None)  # until its picture was checked
            title = value
        elif side == "picture":
            picture = sha(value.encode())
            pictures(database, fetched(video_id, value.encode()), now=at(hour))
            state = (state[0], picture)
        else:
            pictures(database, UnchangedPicture(video_id), now=at(hour))
            state = (state[0], picture)
        if expected and expected[-1][0] in (state, (state[0], None)) and (side != "title" or expected[-1][0] == state):
            # The same as before, or the thumbnail that was missing.
            expected[-1] = (state, since, at(hour))
        else:
            expected.append((state, at(hour), at(hour)))
    with database.read() as session:
        query = select(VideoVersion).where(VideoVersion.video_id == video_id).order_by(VideoVersion.number)
        versions = list(session.scalars(query))
        video = session.get_one(Video, video_id)
    assert [((v.title, v.picture_sha256), v.first_seen_at, v.last_seen_at) for v in versions] == expected
    assert [v.number for v in versions] == list(range(1, len(expected) + 1))
    assert (video.title, video.picture_sha256) == (title, picture)


# --- what is still to be read ---


def test_unread_videos_are_returned_in_pages_by_id(database: Database) -> None:
    page(database, *(listed(f"v{n}") for n in range(5)), listed("x", availability="private"))
    page(database, listed("later"), now=at(2))
    read_details(database, details("v3"), now=at(1))
    with database.read() as session:
        assert unread_ids(session, CHANNEL, after="", now=at(99), listed_before=at(1), limit=2) == ["v0", "v1"]
        assert unread_ids(session, CHANNEL, after="v1", now=at(99), listed_before=at(1), limit=2) == ["v2", "v4"]
        assert unread_ids(session, CHANNEL, after="v4", now=at(99), listed_before=at(1), limit=2) == []
        assert unread_ids(session, CHANNEL, after="", now=at(99), listed_before=T0) == []
        assert unread_ids(session, "UCother", after="", now=at(99), listed_before=at(9)) == []
        assert count_waiting(session, CHANNEL) == 5


def test_unsettled_videos_are_returned_least_recently_read_first(database: Database) -> None:
    with database.write() as session:
        add_video(session, "live", kind="live", details_at=at(2))
        add_video(session, "premiere", kind="upcoming", duration_s=None, details_at=at(1))
        add_video(session, "odd", kind="unknown", duration_s=None, details_at=at(2))
        add_video(session, "unread", kind="unknown", duration_s=None, details_at=None)
        add_video(session, "gone", kind="live", availability="gone", details_at=at(0))
        add_video(session, "short", kind="short", details_at=at(0))
        add_video(session, "done", details_at=at(0))
        add_video(session, "other", channel_id="UCother", kind="live", details_at=at(0))
    with database.read() as session:
        assert unsettled_ids(session, CHANNEL, limit=50) == ["premiere", "live", "odd"]
        assert unsettled_ids(session, CHANNEL, limit=1) == ["premiere"]
        assert count_waiting(session, CHANNEL) == 4


def test_videos_missing_from_a_complete_listing_are_requested_once(database: Database) -> None:
    with database.write() as session:
        add_video(session, "a", last_seen_at=at(1), details_at=at(1))
        add_video(session, "b", last_seen_at=at(1), details_at=None)
        add_video(session, "shown", last_seen_at=at(5), details_at=at(1))
        add_video(session, "read since", last_seen_at=at(1), details_at=at(5))
        add_video(session, "gone", last_seen_at=at(1), details_at=at(1), availability="gone")
        add_video(session, "other", channel_id="UCother", last_seen_at=at(1), details_at=at(1))
    with database.read() as session:
        assert unseen_ids(session, CHANNEL, after="", now=at(99), listed_from=at(5)) == ["a", "b"]
        assert unseen_ids(session, CHANNEL, after="a", now=at(99), listed_from=at(5)) == ["b"]
        assert unseen_ids(session, CHANNEL, after="", now=at(99), listed_from=at(5), limit=1) == ["a"]
    read_details(database, missing=["a", "b"], now=at(6))
    with database.read() as session:
        assert unseen_ids(session, CHANNEL, after="", now=at(99), listed_from=at(5)) == []


def test_a_refresh_reads_every_known_video_once_including_vanished_videos(database: Database) -> None:
    with database.write() as session:
        add_video(session, "a", details_at=at(1))
        add_video(session, "b", details_at=None)
        add_video(session, "c", details_at=at(1), availability="gone")
        add_video(session, "read", details_at=at(5))
        add_video(session, "new", first_seen_at=at(6), details_at=None)
        add_video(session, "other", channel_id="UCother", details_at=at(1))
    with database.read() as session:
        assert videos_to_refresh(session, CHANNEL, after="", read_before=at(5), now=at(99), listed_before=at(6)) == [
            "a",
            "b",
            "c",
        ]
        assert videos_to_refresh(
            session, CHANNEL, after="a", read_before=at(5), now=at(99), listed_before=at(6), limit=1
        ) == ["b"]
    read_details(database, details("a"), missing=["b", "c"], now=at(7))
    with database.read() as session:
        assert videos_to_refresh(session, CHANNEL, after="", read_before=at(5), now=at(99), listed_before=at(6)) == []


def test_videos_in_the_feed_are_requested_unless_known_or_requested_before(database: Database) -> None:
    page(database, listed("v1"), listed("v2"), listed("v3", availability="private"), listed("v4"))
    read_details(database, details("v1"), missing=["v4"], now=at(2))
    ids = ["v1", "v9", "v3", "v4", "v9"]
    with database.read() as session:
        assert unsettled_in_feed(session, [], asked_since=at(1)) == []
        assert unsettled_in_feed(session, ["v1", "v2", "v1"], asked_since=at(1)) == []
        assert unsettled_in_feed(session, ids, asked_since=at(1)) == ["v9", "v3"]
        assert unsettled_in_feed(session, ids, asked_since=at(3)) == ["v9", "v3", "v4"]
    with database.write() as session:
        assert add_from_feed(session, CHANNEL, ids, now=at(3), listed_at=at(1), asked_since=at(1)) == (1, ["v9", "v3"])
        assert add_from_feed(session, CHANNEL, ["v1", "v9"], now=at(3), listed_at=at(1), asked_since=at(1)) == (0, [])
        assert unread_ids(session, CHANNEL, after="", listed_before=at(4), now=at(4)) == ["v2", "v9"]


# --- what a pair is ---

KINDS: tuple[Kind, ...] = ("video", "short", "upcoming", "live", "unknown")
STATES: tuple[Availability, ...] = ("available", "private", "gone")
TITLES = ("a", "", "  ", " a ", "\t", "\u00a0", "\u200b")


def test_every_query_of_pairs_agrees_with_the_view(database: Database) -> None:
    """All combinations: the view, `is_pair`, the counts, the list of channels, and the thumbnails to fetch agree."""
    combinations = list(product(KINDS, STATES, (None, 0, 300), TITLES, (None, sha(b"one"))))
    with database.write() as session:
        session.add(
            Picture(sha256=sha(b"one"), bytes=b"one", mime="image/jpeg", width=1, height=1, byte_count=3, fetched_at=T0)
        )
        session.flush()
        for n, (kind, availability, duration_s, title, picture) in enumerate(combinations):
            add_video(
                session,
                f"v{n:04}",
                kind=kind,
                availability=availability,
                duration_s=duration_s,
                title=title,
                picture_sha256=picture,
                picture_checked_at=picture and T0,
            )
        add_video(session, "other", channel_id="UCother", picture_sha256=sha(b"one"))
    expected = {
        f"v{n:04}"
        for n, (kind, availability, duration_s, title, picture) in enumerate(combinations)
        if (kind, availability) == ("video", "available") and duration_s is not None and title.strip(" ") and picture
    }
    with database.read() as session:
        in_view = set(session.scalars(text("SELECT video_id FROM pairs WHERE channel_id = :c"), {"c": CHANNEL}))
        by_condition = set(session.scalars(select(Video.id).where(is_pair(), Video.channel_id == CHANNEL)))
        not_pairs = count_not_pairs(session, CHANNEL)
        line = summaries(session)[0]
        due = {
            job.video_id for job in pictures_due(session, CHANNEL, after="", now=at(1), read_before=at(1), limit=1_000)
        }
    assert in_view == by_condition == expected
    assert (line.videos, line.pairs) == (len(combinations), len(expected))
    assert sum(not_pairs.values()) == len(combinations) - len(expected)
    # Each pair has a counterpart that only lacks the thumbnail.
    assert due == {f"v{int(name[1:]) - 1:04}" for name in expected}

    available = [
        (f"v{n:04}", kind, duration_s, title)
        for n, (kind, availability, duration_s, title, picture) in enumerate(combinations)
        if availability == "available" and picture is None
    ]
    brought = read_details(
        database, *(details(name, title, kind=kind, duration_s=length) for name, kind, length, title in available)
    )
    assert {job.video_id for job in brought.pictures} == due


def test_videos_that_are_not_pairs_are_counted_by_reason(database: Database) -> None:
    with database.read() as session:
        assert count_not_pairs(session, CHANNEL) == dict.fromkeys(NOT_PAIRS, 0)
    with database.write() as session:
        for kind in KINDS:
            add_video(session, f"{kind}", kind=kind)
            add_video(session, f"private {kind}", kind=kind, availability="private")
        add_video(session, "gone short", kind="short", availability="gone")
        add_video(session, "pair")
        add_video(session, "other", channel_id="UCother", kind="live")
    pictures(database, fetched("pair"), fetched("private video"))
    with database.read() as session:
        assert count_not_pairs(session, CHANNEL) == {
            "short": 1,
            "upcoming": 1,
            "live": 1,
            "private": 5,
            "gone": 1,
            "unknown": 1,
            "no_picture": 1,
        }


# --- two processes at once ---


def test_a_page_recorded_by_two_concurrent_writers_is_stored_once(database: Database) -> None:
    for turn in range(8):
        entries = [listed(f"{turn}-{n:02}") for n in range(50)]

        def record(session: Session, entries: Sequence[ListedVideo]) -> PageResult:
            return record_page(session, CHANNEL, entries, now=T0, known_until=None)

        one, two = at_once(database, partial(record, entries=entries), partial(record, entries=entries[::-1]))
        assert one.new + two.new == 50
        assert sorted(one.wanted + two.wanted) == [entry.id for entry in entries]
    assert count(database, Video) == 400


def record_read(session: Session, found: Sequence[VideoDetails], missing: Sequence[str], hour: int) -> DetailsResult:
    return record_details(session, found, missing, now=at(hour), started_at=at(hour))


def test_details_recorded_by_two_concurrent_writers_create_one_version(database: Database) -> None:
    names = [f"v{n:02}" for n in range(50)]
    page(database, *(listed(name) for name in names))
    for turn in range(1, 9):
        found = [details(name, f"title {turn}") for name in names[:40]]
        one, two = at_once(
            database,
            partial(record_read, found=found, missing=names[40:], hour=turn),
            partial(record_read, found=found[::-1], missing=names[:39:-1], hour=turn),
        )
        # Each change and each loss is counted by the process that wrote it.
        assert one.changed + two.changed == (40 if turn > 1 else 0)
        assert one.gone + two.gone == (10 if turn == 1 else 0)
    for name in names[:40]:
        assert [title for title, _ in history(database, name)] == [f"title {turn}" for turn in range(1, 9)]


def test_concurrent_writers_of_pages_details_and_thumbnails_do_not_deadlock(database: Database) -> None:
    names = [f"v{n:02}" for n in range(30)]
    entries = [listed(name) for name in names]
    page(database, *entries)
    read_details(database, *(details(name, "t") for name in names))

    def record_list(session: Session) -> None:
        record_page(session, CHANNEL, entries[::-1], now=T0, known_until=T0)

    def record_all(session: Session) -> None:
        record_read(session, [details(name, "t") for name in names], [], 0)

    def record_half(session: Session) -> None:
        record_read(session, [details(name, "t") for name in names[:15]], names[15:], 0)

    def record_files(session: Session) -> None:
        outcomes = [fetched(name) if n % 3 else FailedPicture(name, "u", "404") for n, name in enumerate(names)]
        record_pictures(session, outcomes[::-1], now=T0, started_at=T0)

    for _ in range(8):
        at_once(database, record_list, record_all, record_half, record_files)
    for n, name in enumerate(names):
        assert history(database, name) == [("t", sha(b"one") if n % 3 else None)]
