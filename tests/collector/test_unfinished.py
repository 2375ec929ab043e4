"""Syncs that stopped early several times and at unfavourable points: the next sync completes everything."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress

import pytest
from sqlalchemy import select, text

from store.db import Database
from store.errors import StoreError
from store.tables import SyncMode, Video
from store.youtube import change_settings
from tests.collector.channels import HIGH, When, channel, contents, drawn, jpeg, kinds, later, sync, video
from tests.standin import Fault, Faults, StandIn

LISTING = "/youtube/v3/playlistItems"
REFUSED_TOKEN = json.dumps(
    {"error": {"code": 400, "message": "no", "errors": [{"reason": "invalidPageToken"}], "status": "INVALID_ARGUMENT"}}
).encode()


def refused_token(*, after: int = 0, times: int | None = None) -> Fault:
    return Fault(
        "body",
        path=LISTING,
        status=400,
        body=REFUSED_TOKEN,
        content_type="application/json",
        after=after,
        times=times,
    )


@pytest.mark.slow
@pytest.mark.parametrize("units", [1, 2, 3])
async def test_returned_videos_are_read_by_the_next_sync(sqlite_database: Database, units: int) -> None:
    catalogue = channel(120)
    back = [f"video{number:06d}" for number in range(40)]
    for video_id in back:
        catalogue.change(video_id, privacy="private")
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        for video_id in back:
            catalogue.change(video_id, privacy="public")
        server.quota.limit = server.units + units
        assert (await sync(sqlite_database, server, mode="full")).status == "quota"
        server.quota.limit = None
        assert (await sync(sqlite_database, server)).status == "complete"
        # Three pages and the 40 videos' details, whichever sync had read them.
        assert server.units == 1 + 3 + 2 + 3 + 1
    assert set(kinds(sqlite_database).values()) == {("video", "available")}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["incremental", "refresh"])
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_returned_video_gets_its_current_thumbnail(
    sqlite_database: Database, stopped: bool, mode: SyncMode
) -> None:
    catalogue = channel(40)
    back = "video000039"

    def stop() -> None:
        task.cancel()

    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.change(back, privacy="private")
        await sync(sqlite_database, server, now=later(24), mode="full")
        catalogue.change(back, privacy="public", title="Another title", picture=drawn("another picture"))
        if stopped:  # when its details are written, and its thumbnail is not yet fetched
            task = asyncio.ensure_future(
                sync(sqlite_database, server, now=later(48), mode=mode, progress=When("details", stop))
            )
            with suppress(asyncio.CancelledError):
                await task
            assert contents(sqlite_database)[back][0] == "Another title"
        await sync(sqlite_database, server, now=later(60), mode="incremental" if stopped else mode)
        server.journal.clear()
        assert (await sync(sqlite_database, server, now=later(61))).status == "unchanged"
        assert server.journal.count("picture") == 0
    pictured = hashlib.sha256(jpeg("another picture", HIGH)).hexdigest()
    assert contents(sqlite_database)[back][4] == pictured


async def test_a_short_that_now_counts_as_a_video_gets_its_current_thumbnail(sqlite_database: Database) -> None:
    catalogue = channel(3, duration_s=100)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server, min_duration_s=60)
        await sync(sqlite_database, server, min_duration_s=180)
        catalogue.change("video000001", title="Another title", picture=drawn("another picture"))
        await sync(sqlite_database, server, mode="refresh")
        report = await sync(sqlite_database, server, min_duration_s=60)
        assert (report.pictures_fetched, report.pictures_unchanged) == (1, 2)
    assert contents(sqlite_database)["video000001"][4] == hashlib.sha256(jpeg("another picture", HIGH)).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("units", range(1, 8))
async def test_videos_missing_from_a_complete_listing_are_checked_despite_interruptions(
    sqlite_database: Database, units: int
) -> None:
    catalogue = channel(120)
    removed = {f"video{number:06d}" for number in range(60)}
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        for video_id in removed:
            catalogue.remove(video_id)
        server.quota.limit = server.units + 1
        assert (await sync(sqlite_database, server, mode="full")).status == "quota"
        # The newest videos must be listed again, in addition to the rest of the listing.
        catalogue.publish(video(500))
        server.quota.limit = server.units + units
        await sync(sqlite_database, server)
        server.quota.limit = None
        await sync(sqlite_database, server)
        assert (await sync(sqlite_database, server)).units == 0
    assert {i for i, (_, availability) in kinds(sqlite_database).items() if availability == "gone"} == removed


@pytest.mark.slow
async def test_after_a_complete_listing_only_the_newest_videos_are_listed(sqlite_database: Database) -> None:
    catalogue = channel(600)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        assert (await sync(sqlite_database, server, now=later(1), mode="full", most_units=5)).units == 5
        catalogue.publish(*(video(number) for number in range(600, 760)))
        # The seven pages left of the whole list, then two of the newest with their details.
        stopped = await sync(sqlite_database, server, now=later(2), most_units=12)
        assert (stopped.status, stopped.units) == ("quota", 12)
        report = await sync(sqlite_database, server, now=later(3))
        assert report.status == "complete"
        assert report.listed <= 200
    assert len(contents(sqlite_database)) == 760


@pytest.mark.slow
async def test_the_newest_videos_do_not_hide_a_gap_in_the_listing(sqlite_database: Database) -> None:
    """The sync whose page YouTube rejected had stored the videos of the feed."""
    catalogue = channel(60)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.publish(*(video(number) for number in range(60, 260)))
        server.faults = Faults([refused_token(after=1)], most_in_a_row=None)
        assert (await sync(sqlite_database, server)).status == "failed"
        server.faults = Faults()
        assert len(contents(sqlite_database)) == 60 + 50
        assert (await sync(sqlite_database, server)).new == 150
        assert (await sync(sqlite_database, server)).status == "unchanged"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["incremental", "full"])
async def test_an_expired_token_and_a_network_failure_leave_no_gap(sqlite_database: Database, mode: SyncMode) -> None:
    catalogue = channel(160)
    removed = {f"video{number:06d}" for number in range(30)} if mode == "full" else set()
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        for video_id in removed:
            catalogue.remove(video_id)
        catalogue.publish(*(video(number) for number in range(160, 420)))
        assert (await sync(sqlite_database, server, mode=mode, most_units=2)).status == "quota"
        server.faults = Faults([refused_token(times=1), Fault("reset", path=LISTING)], most_in_a_row=None)
        assert (await sync(sqlite_database, server)).status == "failed"
        server.faults = Faults()
        assert (await sync(sqlite_database, server, now=later(1))).status == "complete"
        assert (await sync(sqlite_database, server, now=later(2))).status == "unchanged"
    found = kinds(sqlite_database)
    assert {i for i, (_, availability) in found.items() if availability == "available"} == set(catalogue.videos)
    assert len(found) == 420


async def test_a_minimum_changed_during_a_sync_applies_to_the_remaining_videos(sqlite_database: Database) -> None:
    catalogue = channel(120, duration_s=100)

    def change() -> None:
        with sqlite_database.write() as session:
            change_settings(session, catalogue.channel_id, min_duration_s=60, thumbnail_size=None)

    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server, progress=When("details", change))
    assert set(kinds(sqlite_database).values()) == {("video", "available")}


@pytest.mark.slow
async def test_a_resumed_refresh_with_another_size_replaces_every_thumbnail(sqlite_database: Database) -> None:
    async with StandIn(channel(150)) as server:
        await sync(sqlite_database, server)
        stopped = await sync(sqlite_database, server, mode="refresh", most_units=3)
        assert (stopped.status, stopped.pictures_unchanged) == ("quota", 100)
        assert (await sync(sqlite_database, server, mode="refresh", thumbnail="maxres")).status == "complete"
    with sqlite_database.read() as session:
        assert all("maxres" in (url or "") for url in session.scalars(select(Video.picture_url)))


@pytest.mark.slow
async def test_a_page_that_was_not_written_is_listed_by_the_next_sync(sqlite_database: Database) -> None:
    """Even if the next page has arrived by then, it must not be written instead."""
    with sqlite_database.write() as session:
        # The database takes long enough to refuse for the third page to arrive.
        count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT i FROM n"
        session.execute(text(f"CREATE VIEW long AS {count}"))
        refuse = "BEGIN SELECT count(*) FROM long; SELECT RAISE(ABORT, 'refused'); END"
        session.execute(text(f"CREATE TRIGGER refused BEFORE INSERT ON video WHEN new.id = 'video000100' {refuse}"))
    async with StandIn(channel(200)) as server:
        with pytest.raises(StoreError, match="refused"):
            await sync(sqlite_database, server)
        with sqlite_database.write() as session:
            session.execute(text("DROP TRIGGER refused"))
        assert (await sync(sqlite_database, server)).status == "complete"
    assert set(kinds(sqlite_database)) == {f"video{number:06d}" for number in range(200)}
