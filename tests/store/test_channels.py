"""Channels: stored settings, handles in any script, the position of a listing, and the summary's counts."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import update

from store.db import Database
from store.errors import AmbiguousHandle, NotFound
from store.tables import Channel
from store.youtube import (
    SyncCounts,
    add_counts,
    begin_sync,
    change_settings,
    channel_ids,
    count_not_pairs,
    find_by_handle,
    finish_check,
    finish_listing,
    finish_sync,
    get_channel,
    is_listing_unfinished,
    mark_refreshed,
    restart_listing,
    save_channel,
    save_listing_place,
    summaries,
)
from tests.store.observations import (
    CHANNEL,
    T0,
    add_channel,
    add_video,
    at,
    at_once,
    count,
    fetched,
    pictures,
    the_video,
)


def test_saving_a_known_channel_keeps_its_settings_and_progress(database: Database) -> None:
    with database.write() as session:
        add_channel(session, handle="@old", title="Old")
        change_settings(session, CHANNEL, min_duration_s=60, thumbnail_size="maxres")
        save_listing_place(session, CHANNEL, token="EAAa", began_at=T0)
    with database.write() as session:
        save_channel(
            session,
            channel_id=CHANNEL,
            handle=None,
            title="New ☕",
            uploads_playlist_id="UUother",
            api_item={"snippet": {"title": "New ☕"}},
            default_min_duration_s=180,
            default_thumbnail_size="high",
            now=at(5),
        )
    with database.read() as session:
        channel = get_channel(session, CHANNEL)
        assert channel_ids(session) == [CHANNEL]
    assert (channel.handle, channel.title, channel.uploads_playlist_id) == (None, "New ☕", "UUother")
    assert channel.api_item == {"snippet": {"title": "New ☕"}}
    assert (channel.min_duration_s, channel.thumbnail_size, channel.added_at) == (60, "maxres", T0)
    assert (channel.listing_token, channel.listing_began_at) == ("EAAa", T0)


def test_an_unknown_channel_is_an_error_with_the_command_to_run(database: Database) -> None:
    with database.read() as session, pytest.raises(NotFound, match="'thumbtune sync UCx'"):
        get_channel(session, "UCx")


def test_channels_are_ordered_by_when_they_were_added(database: Database) -> None:
    with database.write() as session:
        add_channel(session, "UCb", now=at(1))
        add_channel(session, "UCc", now=at(0))
        add_channel(session, "UCa", now=at(1))
    with database.read() as session:
        assert channel_ids(session) == ["UCc", "UCa", "UCb"]
        assert [line.id for line in summaries(session)] == ["UCc", "UCa", "UCb"]


def test_an_unambiguous_handle_is_found_in_any_script_and_case(database: Database) -> None:
    with database.write() as session:
        for channel_id, known in (
            ("UC1", "@Füchse"),
            ("UC2", "@Лиса"),
            ("UC3", "@キツネ"),
            ("UC4", None),
        ):
            add_channel(session, channel_id, handle=known)
    expected = {
        "@Füchse": "UC1",
        "@FÜCHSE": "UC1",
        "@füchse": "UC1",
        "@лИса": "UC2",
        "@キツネ": "UC3",
        "@fuchse": None,
        "@Füchs": None,
        "@%": None,
    }
    with database.read() as session:
        assert {handle: find_by_handle(session, handle) for handle in expected} == expected


def test_a_handle_belongs_to_the_channel_that_was_saved_with_it_last(database: Database) -> None:
    with database.write() as session:
        add_channel(session, "UC1", handle="@Füchse")
        add_channel(session, "UC2", handle="@other")
    with database.write() as session:
        former = save_channel(
            session,
            channel_id="UC2",
            handle="@FÜCHSE",
            title="Two",
            uploads_playlist_id="UU2",
            api_item={},
            default_min_duration_s=181,
            default_thumbnail_size="high",
            now=at(5),
        )
        assert [(channel.id, channel.described_at) for channel in former] == [("UC1", T0)]
    with database.read() as session:
        assert find_by_handle(session, "@füchse") == "UC2"
        assert find_by_handle(session, "@other") is None
        assert get_channel(session, "UC1").handle is None
        assert get_channel(session, "UC2").described_at == at(5)


def test_a_handle_of_two_channels_is_refused_with_both_ids(database: Database) -> None:
    """Earlier versions may have stored such channels."""
    with database.write() as session:
        add_channel(session, "UC1", handle="@Twin")
        add_channel(session, "UC2")
        session.execute(update(Channel).where(Channel.id == "UC2").values(handle="@twin"))
    with database.read() as session, pytest.raises(AmbiguousHandle) as refused:
        find_by_handle(session, "@TWIN")
    assert "UC1" in str(refused.value)
    assert "UC2" in str(refused.value)


def test_a_listing_can_be_interrupted_resumed_restarted_and_finished(database: Database) -> None:
    def places() -> tuple[object, ...]:
        with database.read() as session:
            channel = get_channel(session, CHANNEL)
            other = get_channel(session, "UCother")
        assert (other.listing_token, other.listing_began_at, other.listed_at) == (None, None, None)
        return channel.listing_token, channel.listing_began_at, channel.listed_at

    with database.write() as session:
        add_channel(session)
        add_channel(session, "UCother")
        save_listing_place(session, CHANNEL, token="EAAa", began_at=at(1))
    assert places() == ("EAAa", at(1), None)
    with database.write() as session:
        finish_listing(session, CHANNEL, at(2), began_at=at(1))
    assert places() == (None, at(1), at(2))
    with database.write() as session:
        finish_check(session, CHANNEL)
    assert places() == (None, None, at(2))
    with database.write() as session:
        save_listing_place(session, CHANNEL, token="EAAb", began_at=None)
    assert places() == ("EAAb", None, at(2))
    with database.write() as session:
        restart_listing(session, CHANNEL, whole=False)
    assert places() == (None, None, at(2))
    with database.write() as session:
        save_listing_place(session, CHANNEL, token="EAAc", began_at=at(3))
        restart_listing(session, CHANNEL, whole=True)
    assert places() == (None, None, None)


def test_a_partial_listing_keeps_the_pending_check_of_a_complete_listing(database: Database) -> None:
    def began_at() -> datetime | None:
        with database.read() as session:
            return get_channel(session, CHANNEL).listing_began_at

    with database.write() as session:
        add_channel(session)
        finish_listing(session, CHANNEL, at(2), began_at=at(1))
        save_listing_place(session, CHANNEL, token="EAAb", began_at=None)
    assert began_at() == at(1)
    with database.write() as session:
        finish_listing(session, CHANNEL, at(3))
    assert began_at() == at(1)


def test_a_listing_is_unfinished_if_videos_were_listed_since_the_last_complete_one(database: Database) -> None:
    def unfinished() -> bool:
        with database.read() as session:
            return is_listing_unfinished(session, CHANNEL, at(9))

    with database.write() as session:
        add_channel(session)
        add_channel(session, "UCother")
    assert not unfinished()
    for number, (seen, expected) in enumerate([(at(1), True), (at(2), False), (at(3), True)]):
        with database.write() as session:
            add_video(session, f"v{number}", first_seen_at=seen)
            if not expected:
                finish_listing(session, CHANNEL, seen)
        assert unfinished() == expected
    with database.write() as session:
        finish_listing(session, CHANNEL, at(4))
        add_video(session, "other", channel_id="UCother", first_seen_at=at(5))
        add_video(session, "ahead", first_seen_at=at(99))
    assert not unfinished()


def test_a_refresh_is_recorded_for_its_channel_only(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UCother")
        mark_refreshed(session, CHANNEL, at(3))
    with database.read() as session:
        assert get_channel(session, CHANNEL).refreshed_at == at(3)
        assert get_channel(session, "UCother").refreshed_at is None


def test_a_new_minimum_reclassifies_only_videos_and_shorts_of_the_channel(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UCother")
        add_video(session, "v059", duration_s=59, kind="short")
        add_video(session, "v060", duration_s=60, kind="short")
        add_video(session, "v180", duration_s=180)
        add_video(session, "live", duration_s=0, kind="live")
        add_video(session, "upcoming", duration_s=None, kind="upcoming")
        add_video(session, "listed", duration_s=None, kind="unknown")
        add_video(session, "private", duration_s=90, kind="short", availability="private")
        add_video(session, "other", channel_id="UCother", duration_s=90, kind="short")

    def kinds_with(minimum: int | None) -> dict[str, str]:
        with database.write() as session:
            change_settings(session, CHANNEL, min_duration_s=minimum, thumbnail_size=None)
        names = ("v059", "v060", "v180", "live", "upcoming", "listed", "private", "other")
        return {name: the_video(database, name).kind for name in names}

    fixed = {"live": "live", "upcoming": "upcoming", "listed": "unknown", "other": "short"}
    assert kinds_with(60) == {"v059": "short", "v060": "video", "v180": "video", "private": "video", **fixed}
    assert kinds_with(181) == {"v059": "short", "v060": "short", "v180": "short", "private": "short", **fixed}
    assert kinds_with(0) == {"v059": "video", "v060": "video", "v180": "video", "private": "video", **fixed}
    assert kinds_with(None) == kinds_with(0)
    with database.read() as session:
        channel = get_channel(session, CHANNEL)
    assert (channel.min_duration_s, channel.thumbnail_size) == (0, "high")


def test_a_new_minimum_reaches_every_video_of_a_large_channel(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        session.flush()
        for n in range(1_101):
            add_video(session, f"v{n:04}", duration_s=n % 2)
    with database.write() as session:
        change_settings(session, CHANNEL, min_duration_s=1, thumbnail_size=None)
    with database.read() as session:
        assert count_not_pairs(session, CHANNEL) | {"no_picture": 0} == {
            **dict.fromkeys(count_not_pairs(session, CHANNEL), 0),
            "short": 551,
        }


def test_the_list_counts_videos_pairs_and_units_of_each_channel(database: Database) -> None:
    with database.write() as session:
        add_channel(session, handle="@fox")
        add_channel(session, "UCempty", title="empty", now=at(1))
        add_video(session, "pair")
        add_video(session, "no_picture")
        add_video(session, "short", kind="short")
    pictures(database, fetched("pair"), fetched("short"))
    with database.write() as session:
        for hour, units in ((1, 7), (2, 2)):
            run = begin_sync(session, CHANNEL, "incremental", host="h", pid=1, now=at(hour))
            add_counts(session, run, SyncCounts(units=units), key_fingerprint="k", now=at(hour))
            status = "complete" if hour == 1 else "quota"
            finish_sync(session, run, status, seconds=1, error=None, now=at(hour + 0.5))  # type: ignore[arg-type]
    with database.read() as session:
        fox, empty = summaries(session)
    assert (fox.id, fox.handle, fox.videos, fox.pairs, fox.units) == (CHANNEL, "@fox", 3, 1, 9)
    assert (fox.last_sync_at, fox.last_status, fox.synced_at) == (at(2), "quota", at(1.5))
    assert (empty.title, empty.videos, empty.pairs, empty.units) == ("empty", 0, 0, 0)
    assert (empty.last_sync_at, empty.last_status, empty.synced_at) == (None, None, None)


def test_a_channel_first_synced_by_two_concurrent_processes_is_one_row(database: Database) -> None:
    at_once(database, *[add_channel] * 4)
    assert count(database, Channel) == 1
