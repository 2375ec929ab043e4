"""`--refresh`: changes are found, the history is kept, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text

from store.db import Database
from store.tables import Picture, PictureFailure, VideoReading, VideoVersion
from store.youtube import get_channel
from tests.collector.channels import HIGH, When, channel, contents, drawn, failures, jpeg, kinds, later, sync, video
from tests.standin import Fault, Faults, StandIn

ONE, TWO, THREE = "video000001", "video000002", "video000003"

SIZES_ASKED_FOR = 5
"""The stand-in announces so many sizes, and each is tried before a thumbnail counts as failed."""


def versions(database: Database, video_id: str) -> list[tuple[str, str | None]]:
    with database.read() as session:
        query = select(VideoVersion).where(VideoVersion.video_id == video_id).order_by(VideoVersion.number)
        return [(version.title, version.picture_sha256) for version in session.scalars(query)]


@pytest.mark.slow
async def test_an_unchanged_channel_costs_one_unit_per_50_videos_and_no_thumbnail(database: Database) -> None:
    async with StandIn(channel(120)) as server:
        await sync(database, server)
        before, spent = contents(database), server.units
        server.journal.clear()
        report = await sync(database, server, mode="refresh")
        assert server.units - spent == report.units == 1 + 1 + 3  # the channel, the head, the details
        assert (report.changed, report.gone) == (0, 0)
        assert (report.pictures_fetched, report.pictures_unchanged) == (0, 120)
        assert server.journal.count("picture", 304) == server.journal.count("picture") == 120
    assert contents(database) == before


@pytest.mark.slow
async def test_changed_titles_and_thumbnails_create_versions(database: Database) -> None:
    catalogue = channel(5)
    async with StandIn(catalogue) as server:
        await sync(database, server)
        (_, first_picture), (_, second_picture) = versions(database, ONE)[0], versions(database, TWO)[0]
        catalogue.change(ONE, title="Another title")
        catalogue.change(TWO, picture=drawn("another picture"))
        catalogue.change(THREE, title="Both", picture=drawn("both"))
        report = await sync(database, server, mode="refresh")
        assert report.changed == 3
        assert (report.pictures_fetched, report.pictures_unchanged) == (2, 3)
    assert versions(database, ONE) == [("Title 1", first_picture), ("Another title", first_picture)]
    found = versions(database, TWO)
    assert [title for title, _ in found] == ["Title 2", "Title 2"]
    assert found[0][1] == second_picture != found[1][1]
    title, *_, picture, _, history = contents(database)[THREE]
    assert title == "Both"
    assert history[-1][1:] == ("Both", picture)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Picture)) == 7  # none was deleted


@pytest.mark.slow
async def test_a_new_title_is_never_a_pair_with_the_old_thumbnail(database: Database) -> None:
    seen: list[set[tuple[str, str]]] = []

    def look() -> None:
        with database.read() as session:
            rows = session.execute(text("SELECT title, picture_sha256 FROM pairs WHERE video_id = :id"), {"id": TWO})
            seen.append({(row[0], row[1]) for row in rows})

    old = ("Title 2", hashlib.sha256(jpeg(TWO, HIGH)).hexdigest())
    new = ("Another title", hashlib.sha256(jpeg("another picture", HIGH)).hexdigest())
    catalogue = channel(5)
    async with StandIn(catalogue) as server:
        await sync(database, server)
        catalogue.change(TWO, title=new[0], picture=drawn("another picture"))
        server.faults = Faults([Fault("status", path=f"/vi/{TWO}/", status=403, times=SIZES_ASKED_FOR)])
        # The state after a process was killed before it fetched the thumbnail.
        await sync(database, server, mode="refresh", progress=When("details", look))
        with database.write() as session:
            session.execute(delete(PictureFailure))
        look()
        report = await sync(database, server, progress=When("pictures", look))
        look()
    assert report.pictures_fetched == 1
    assert seen == [{old}, {old}, {new}, {new}]
    assert versions(database, TWO) == [old, new]


@pytest.mark.slow
async def test_vanished_videos_are_marked_and_returned_videos_are_restored(database: Database) -> None:
    catalogue = channel(60)
    async with StandIn(catalogue) as server:
        await sync(database, server)
        catalogue.delete("video000055")
        catalogue.change("video000056", privacy="private")
        catalogue.remove(ONE)
        report = await sync(database, server, mode="refresh")
        assert report.gone == 3
        found = kinds(database)
        assert found["video000055"] == ("video", "gone")
        assert found["video000056"] == ("video", "private")
        assert found[ONE] == ("video", "gone")
        assert report.not_pairs["gone"] + report.not_pairs["private"] == 3
        assert (await sync(database, server, mode="refresh")).gone == 0
        catalogue.publish(video(55), video(56), video(1))
        await sync(database, server, mode="refresh")
    assert set(kinds(database).values()) == {("video", "available")}
    assert [len(versions(database, i)) for i in ("video000055", "video000056", ONE)] == [1, 1, 1]


async def test_a_private_newest_video_that_returns_is_found_without_a_refresh(sqlite_database: Database) -> None:
    catalogue = channel(3)
    catalogue.change(TWO, privacy="private")
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server)
        assert report.not_pairs["private"] == 1
        catalogue.change(TWO, privacy="public")
        report = await sync(sqlite_database, server)
        assert report.status == "complete"
    assert contents(sqlite_database)[TWO][:3] == ("Title 2", "video", "available")


@pytest.mark.slow
async def test_an_empty_response_is_requested_again(sqlite_database: Database) -> None:
    async with StandIn(channel(50)) as server:
        await sync(sqlite_database, server)
        empty: dict[str, Any] = {"kind": "youtube#videoListResponse", "items": []}
        glitch = Fault(
            "body",
            path="/youtube/v3/videos",
            body=json.dumps(empty).encode(),
            content_type="application/json",
            times=1,
        )
        server.faults = Faults([glitch])
        report = await sync(sqlite_database, server, mode="refresh")
        assert (report.status, report.gone) == ("complete", 0)
    assert set(kinds(sqlite_database).values()) == {("video", "available")}


async def test_the_removal_of_all_videos_is_accepted_after_confirmation(sqlite_database: Database) -> None:
    catalogue = channel(50)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        for video_id in list(catalogue.videos):
            catalogue.delete(video_id)
        report = await sync(sqlite_database, server, mode="refresh")
    assert report.gone == 50
    assert report.pictures_failed == 0


@pytest.mark.slow
async def test_a_refresh_stopped_by_the_quota_continues_where_it_stopped(sqlite_database: Database) -> None:
    catalogue = channel(220)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.change(ONE, title="Changed")
        spent = server.units
        server.quota.limit = spent + 4
        report = await sync(sqlite_database, server, mode="refresh")
        assert (report.status, report.units) == ("quota", 4)
        server.quota.limit = None
        report = await sync(sqlite_database, server, mode="refresh")
        assert report.status == "complete"
        # The whole cost is 1 + 1 + 5; both syncs read the channel and the first page.
        assert server.units - spent <= 1 + 1 + 5 + 2
    assert versions(sqlite_database, ONE)[-1][0] == "Changed"
    with sqlite_database.read() as session:
        assert get_channel(session, catalogue.channel_id).refreshed_at is not None


@pytest.mark.slow
async def test_a_new_size_replaces_stored_thumbnails_at_the_next_refresh(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)
        assert (await sync(sqlite_database, server, thumbnail="medium")).status == "unchanged"
        report = await sync(sqlite_database, server, mode="refresh")
        assert (report.pictures_fetched, report.changed) == (3, 3)
        assert server.journal.requests("picture")[-1].path.endswith("mqdefault.jpg")


@pytest.mark.slow
async def test_a_thumbnail_without_validators_is_compared_by_its_bytes(sqlite_database: Database) -> None:
    async with StandIn(channel(2)) as server:
        await sync(sqlite_database, server)
        with sqlite_database.write() as session:
            session.connection().exec_driver_sql("UPDATE video SET picture_etag = NULL, picture_last_modified = NULL")
        report = await sync(sqlite_database, server, mode="refresh")
        assert (report.pictures_fetched, report.pictures_unchanged, report.changed) == (0, 2, 0)
        assert server.journal.count("picture", 200) == 4


@pytest.mark.slow
async def test_a_failed_thumbnail_is_retried_when_due(database: Database) -> None:
    catalogue = channel(20)
    broken = Fault("body", path="/vi/video000007/", body=b"no picture", content_type="image/jpeg")
    async with StandIn(catalogue, faults=Faults([broken], most_in_a_row=None)) as server:
        report = await sync(database, server)
        assert (report.status, report.exit_code) == ("partial", 3)
        assert (report.pictures_fetched, report.pictures_failed) == (19, 1)
        assert report.not_pairs["no_picture"] == 1
        assert "not an image" in failures(database)["video000007"]
        # Not due yet: not requested, and not reported again.
        server.journal.clear()
        assert (await sync(database, server)).status == "unchanged"
        assert (await sync(database, server, mode="refresh")).status == "complete"
        assert not any("video000007" in r.path for r in server.journal.requests("picture"))
        report = await sync(database, server, now=later(2))
        assert (report.status, report.units, report.pictures_failed) == ("partial", 0, 1)
        # The pause has grown to four hours.
        assert (await sync(database, server, now=later(5))).status == "unchanged"
        server.faults = Faults()
        report = await sync(database, server, now=later(7))
        assert (report.status, report.pictures_fetched) == ("complete", 1)
        assert failures(database) == {}


@pytest.mark.slow
async def test_a_thumbnail_that_failed_in_a_refresh_is_retried_by_a_later_sync(database: Database) -> None:
    catalogue = channel(5)
    async with StandIn(catalogue) as server:
        await sync(database, server)
        catalogue.change(TWO, title="Another title", picture=drawn("another picture"))
        server.faults = Faults([Fault("status", path=f"/vi/{TWO}/", status=403, times=SIZES_ASKED_FOR)])
        report = await sync(database, server, mode="refresh")
        assert (report.status, report.pictures_failed) == ("partial", 1)
        assert (await sync(database, server, now=later(0.5))).pictures_fetched == 0
        report = await sync(database, server, now=later(1.5))
        assert (report.status, report.pictures_fetched, report.units) == ("complete", 1, 0)
        assert failures(database) == {}
        server.journal.clear()
        assert (await sync(database, server, now=later(3))).status == "unchanged"
        assert server.journal.count("picture") == 0
    assert versions(database, TWO)[-1] == ("Another title", hashlib.sha256(jpeg("another picture", HIGH)).hexdigest())


@pytest.mark.slow
async def test_the_videos_of_a_closed_channel_stay_and_it_is_reported(database: Database) -> None:
    catalogue = channel(120)
    async with StandIn(catalogue) as server:
        await sync(database, server)
        before = contents(database)
        server.catalogues = ()
        for mode in ("incremental", "full"):
            report = await sync(database, server, catalogue.channel_id, mode=mode, now=later(24))
            assert (report.status, report.exit_code, report.gone) == ("failed", 1, 0)
            assert report.units == 2, "requested twice"
            assert f"sync --refresh {catalogue.channel_id}" in str(report.error)
        assert contents(database) == before
        report = await sync(database, server, catalogue.channel_id, mode="refresh", now=later(25))
        assert (report.status, report.gone) == ("failed", 120)
        assert "sync --refresh" not in str(report.error)
        report = await sync(database, server, catalogue.channel_id, mode="refresh", now=later(50))
        assert (report.status, report.units) == ("failed", 1), "they were requested"
        server.catalogues = (catalogue,)
        assert (await sync(database, server, now=later(75))).status == "complete"
    assert contents(database) == before, "all versions are restored"


async def test_a_channel_without_uploads_does_not_count_as_closed(sqlite_database: Database) -> None:
    catalogue = channel(1)
    catalogue.change("video000000", privacy="private")
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.remove("video000000")
        assert (await sync(sqlite_database, server, mode="full")).status == "complete"


@pytest.mark.slow
async def test_each_read_of_the_details_adds_a_reading(database: Database) -> None:
    catalogue = channel(2)
    catalogue.change(ONE, statistics={"viewCount": "10", "likeCount": "2"})  # comments are turned off
    async with StandIn(catalogue) as server:
        await sync(database, server, now=later(0))
        catalogue.change(ONE, statistics={"viewCount": "18446744073709551616", "likeCount": "x", "commentCount": "0"})
        await sync(database, server, mode="refresh", now=later(24))
        catalogue.change(ONE, statistics={"viewCount": "30", "likeCount": "4", "commentCount": "1"})
        await sync(database, server, mode="refresh", now=later(48))
    with database.read() as session:
        query = select(VideoReading).where(VideoReading.video_id == ONE).order_by(VideoReading.read_at)
        found = [(row.views, row.likes, row.comments) for row in session.scalars(query)]
    assert found == [(10, 2, None), (None, None, 0), (30, 4, 1)]
