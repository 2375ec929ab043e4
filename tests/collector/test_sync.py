"""Whole syncs against the stand-in server: their cost, what they store, and how they continue."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select, text

from collector.errors import BadChannel, BadKey, ChannelNotFound
from collector.settings import settings_from
from collector.sync import SyncOptions, SyncReport, sync_channels
from collector.youtube import parse_channel_name
from store.db import Database, open_database, rows_as_dicts
from store.tables import Picture
from store.types import utc_now
from store.youtube import get_channel, next_quota_day, quota_day, units_spent
from tests.collector.channels import When, channel, contents, failures, hasty_http, kinds, later, sync, sync_runs, video
from tests.standin import Fault, Faults, StandIn
from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.folder import load_folder


def clean_price(videos: int) -> int:
    return 1 + 2 * -(-videos // 50)


@pytest.mark.parametrize("count", [1, 49, 50, 51, 120])
async def test_a_first_sync_costs_one_unit_and_two_per_50_videos(sqlite_database: Database, count: int) -> None:
    async with StandIn(channel(count)) as server:
        report = await sync(sqlite_database, server)
        assert server.units == report.units == clean_price(count)
    assert report.status == "complete"
    assert (report.listed, report.new, report.pictures_fetched) == (count, count, count)
    assert report.requests == server.journal.count()
    with sqlite_database.read() as session:
        assert units_spent(session, quota_day(utc_now())) == report.units
        assert session.scalar(text("SELECT COUNT(*) FROM pairs")) == count


async def test_an_empty_channel_is_stored(sqlite_database: Database) -> None:
    async with StandIn(channel(0)) as server:
        report = await sync(sqlite_database, server)
        assert (report.status, report.new) == ("complete", 0)
        assert server.units == report.units <= 2


async def test_private_and_deleted_entries_need_no_details(sqlite_database: Database) -> None:
    catalogue = channel(60)
    for number in range(5):
        catalogue.change(f"video{number:06d}", privacy="private")
        catalogue.delete(f"video{number + 5:06d}")
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server)
        assert server.units == 1 + 2 + 1
    assert report.not_pairs["private"] == report.not_pairs["gone"] == 5
    assert report.pictures_fetched == 50


async def test_a_feed_without_new_videos_makes_the_sync_free(database: Database) -> None:
    async with StandIn(channel(70)) as server:
        await sync(database, server)
        before = contents(database)
        server.journal.clear()
        for name in ("@TESTS", server.catalogues[0].channel_id, "youtube.com/@tests/videos"):
            report = await sync(database, server, name)
            assert (report.status, report.units, report.requests) == ("unchanged", 0, 1)
        assert server.journal.count("feed") == server.journal.count() == 3
    assert contents(database) == before


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path="/feeds", status=404),
        Fault("status", path="/feeds", status=500),
        Fault("body", path="/feeds", body=b"<html>no feed", content_type="text/html"),
        Fault("reset", path="/feeds"),
    ],
    ids=["404", "500", "html", "reset"],
)
async def test_without_the_feed_an_unchanged_channel_costs_one_unit(sqlite_database: Database, fault: Fault) -> None:
    async with StandIn(channel(70)) as server:
        await sync(sqlite_database, server)
        spent = server.units
        server.faults = Faults([fault], most_in_a_row=None)
        report = await sync(sqlite_database, server)
        assert (report.status, report.listed, report.new) == ("complete", 50, 0)
        assert server.units - spent == report.units == 1


def feed_of(catalogue: Catalogue, *ids: str) -> Fault:
    """Make the feed show these videos, regardless of the catalogue."""
    entries = "".join(f"<entry><yt:videoId>{video_id}</yt:videoId></entry>" for video_id in ids)
    namespaces = 'xmlns="http://www.w3.org/2005/Atom" xmlns:yt="http://www.youtube.com/xml/schemas/2015"'
    body = f"<feed {namespaces}><yt:channelId>{catalogue.channel_id[2:]}</yt:channelId>{entries}</feed>"
    return Fault("body", path="/feeds", body=body.encode(), content_type="text/xml")


@pytest.mark.parametrize("hours", [1, 25])
async def test_a_video_in_the_feed_is_fetched_although_it_is_deep_in_the_playlist(
    database: Database, hours: float
) -> None:
    catalogue = channel(120)
    async with StandIn(catalogue) as server:
        await sync(database, server)
        catalogue.publish(video(0, id="scheduled01", published_at=video(3).published_at + timedelta(minutes=1)))
        server.faults = Faults([feed_of(catalogue, "scheduled01", "video000119")], most_in_a_row=None)
        report = await sync(database, server, now=later(hours))
        assert (report.status, report.new, report.pictures_fetched) == ("complete", 1, 1)
        report = await sync(database, server, now=later(hours + 0.5))
        assert (report.status, report.units) == ("unchanged", 0)
    assert "scheduled01" in contents(database)


async def test_a_video_that_only_the_feed_has_is_requested_once_a_day(sqlite_database: Database) -> None:
    catalogue = channel(70)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        server.faults = Faults([feed_of(catalogue, "nosuchvideo", "video000069")], most_in_a_row=None)
        assert (await sync(sqlite_database, server, now=later(1))).units == 2  # the first page, and the details
        assert (await sync(sqlite_database, server, now=later(2))).units == 0
        assert (await sync(sqlite_database, server, now=later(3))).units == 0


async def test_the_feed_is_trusted_for_a_limited_time(sqlite_database: Database) -> None:
    async with StandIn(channel(70)) as server:
        await sync(sqlite_database, server)
        assert (await sync(sqlite_database, server, now=later(23))).units == 0
        by_id = server.catalogues[0].channel_id  # a handle would be asked for, too
        assert (await sync(sqlite_database, server, by_id, now=later(25))).units == 1


async def test_new_videos_missing_from_a_late_feed_are_found_by_listing(sqlite_database: Database) -> None:
    catalogue = channel(70)
    async with StandIn(catalogue, feed_lag=2) as server:
        await sync(sqlite_database, server)
        catalogue.publish(video(70), video(71))
        assert (await sync(sqlite_database, server)).status == "unchanged"
        report = await sync(sqlite_database, server, catalogue.channel_id, now=later(25))
        assert (report.new, report.units) == (2, 3)  # two pages, until one is known; one batch


@pytest.mark.slow
async def test_an_incremental_sync_lists_up_to_a_page_of_known_videos(sqlite_database: Database) -> None:
    catalogue = channel(300)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        # 60 new videos, and an old video that is listed only now.
        catalogue.publish(*(video(number) for number in range(300, 360)))
        catalogue.publish(video(0, id="latecomer01", published_at=video(280).published_at + timedelta(minutes=1)))
        spent = server.units
        report = await sync(sqlite_database, server)
        assert report.new == 61
        assert server.units - spent == 3 + 2  # two pages with new ones, one known; 61 details
        assert len(contents(sqlite_database)) == 361


@pytest.mark.slow
async def test_a_quota_that_ends_at_any_unit_costs_no_unit_twice(tmp_path: Path) -> None:
    catalogue = channel(120)
    clean = open_database(f"sqlite:///{tmp_path / 'clean.db'}")
    async with StandIn(catalogue) as server:
        await sync(clean, server)
        wanted = contents(clean)
        for limit in range(clean_price(120)):
            database = open_database(f"sqlite:///{tmp_path / f'{limit}.db'}")
            server.quota.reset()
            server.quota.limit = limit
            report = await sync(database, server)
            assert (report.status, report.units) == ("quota", limit)
            assert report.exit_code == 3
            server.quota.limit = None
            assert (await sync(database, server)).status == "complete"
            assert server.units == clean_price(120)
            assert contents(database) == wanted
            database.close()
    clean.close()


@pytest.mark.slow
async def test_an_interrupted_incremental_sync_leaves_no_gap(sqlite_database: Database) -> None:
    catalogue = channel(60)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.publish(*(video(number) for number in range(60, 220)))
        server.quota.limit = server.units + 1  # the first of four pages
        assert (await sync(sqlite_database, server)).status == "quota"
        server.quota.limit = None
        report = await sync(sqlite_database, server)
        assert report.status == "complete"
        assert len(contents(sqlite_database)) == 220


async def test_with_a_spent_quota_known_thumbnails_are_fetched(sqlite_database: Database) -> None:
    async with StandIn(channel(50), faults=Faults([Fault("status", path="/vi", status=404)])) as server:
        await sync(sqlite_database, server)
        server.faults = Faults()
        server.quota.limit = server.units
        report = await sync(sqlite_database, server, now=later(26))
        assert (report.status, report.units, report.pictures_fetched) == ("quota", 0, 50)


async def test_an_expired_page_token_restarts_the_listing(sqlite_database: Database) -> None:
    async with StandIn(channel(170)) as server:
        server.quota.limit = 3
        await sync(sqlite_database, server)
        server.quota.limit = None
        with sqlite_database.write() as session:
            place = get_channel(session, server.catalogues[0].channel_id)
            assert place.listing_token is not None
            place.listing_token = "expired"
        report = await sync(sqlite_database, server)
        assert report.status == "complete"
        assert len(contents(sqlite_database)) == 170
        with sqlite_database.read() as session:
            assert get_channel(session, server.catalogues[0].channel_id).listing_token is None


@pytest.mark.slow
async def test_a_repeatedly_refused_token_does_not_use_up_the_quota(sqlite_database: Database) -> None:
    async with StandIn(channel(170)) as server:
        server.quota.limit = 3
        await sync(sqlite_database, server)
        server.quota.limit = None
        with sqlite_database.read() as session:
            token = get_channel(session, server.catalogues[0].channel_id).listing_token
        assert token is not None
        refusal = {"error": {"code": 400, "message": "no", "errors": [{"reason": "invalidPageToken"}]}}
        server.faults = Faults(
            [
                Fault(
                    "body",
                    path="/youtube/v3/playlistItems",
                    query={"pageToken": token},
                    status=400,
                    body=json.dumps(refusal).encode(),
                    content_type="application/json",
                )
            ],
            most_in_a_row=None,
        )
        server.journal.clear()
        report = await sync(sqlite_database, server)
        assert (report.status, report.exit_code) == ("failed", 1)
        assert "page token" in str(report.error)
        assert server.journal.count("playlistItems") <= 2 + 170 // 50
        server.faults = Faults()
        assert (await sync(sqlite_database, server)).status == "complete"
        assert len(contents(sqlite_database)) == 170


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
async def test_an_empty_page_does_not_end_the_listing(sqlite_database: Database, times: int) -> None:
    catalogue = channel(10)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.publish(*(video(number) for number in range(100, 230)))
        second, third = await page_token(server, 1), await page_token(server, 2)
        empty = {"kind": "youtube#playlistItemListResponse", "nextPageToken": third, "items": []}
        server.faults = Faults(
            [
                Fault(
                    "body",
                    path="/youtube/v3/playlistItems",
                    query={"pageToken": second},
                    times=times,
                    body=json.dumps(empty).encode(),
                    content_type="application/json",
                )
            ],
            most_in_a_row=None,
        )
        report = await sync(sqlite_database, server, now=later(7))
        # It is requested twice; a page that stays empty is accepted, and the following pages are read.
        assert (report.status, report.new) == ("complete", 130 if times == 1 else 80)


async def page_token(server: StandIn, pages: int) -> str:
    """The page token after this many pages of the listing."""
    query = {"part": "snippet", "playlistId": server.catalogues[0].uploads_playlist_id, "maxResults": "50"}
    headers = {"X-Goog-Api-Key": "stand-in-key"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(pages):
            async with session.get(f"{server.api_url}/playlistItems", params=query) as answer:
                query["pageToken"] = (await answer.json())["nextPageToken"]
    return query["pageToken"]


async def test_a_full_sync_finds_videos_that_are_no_longer_listed(database: Database) -> None:
    catalogue = channel(120)
    async with StandIn(catalogue) as server:
        await sync(database, server)
        catalogue.remove("video000003")
        catalogue.change("video000004", privacy="unlisted")  # not listed, but still available
        catalogue.change("video000005", privacy="private")
        assert (await sync(database, server)).status == "unchanged"
        spent = server.units
        report = await sync(database, server, mode="full")
        assert server.units - spent == 3 + 1
    assert (report.gone, report.listed) == (2, 118)
    found = kinds(database)
    assert found["video000003"] == ("video", "gone")
    assert found["video000004"] == ("video", "available")
    assert found["video000005"] == ("video", "private")
    assert len(found) == 120


@pytest.mark.slow
async def test_an_interrupted_full_sync_finds_vanished_videos(sqlite_database: Database) -> None:
    catalogue = channel(220)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.remove("video000003")
        server.quota.limit = server.units + 2
        assert (await sync(sqlite_database, server, mode="full")).status == "quota"
        server.quota.limit = None
        spent = server.units
        report = await sync(sqlite_database, server)
        assert (report.status, report.gone) == ("complete", 1)
        assert server.units - spent == 3 + 1


@pytest.mark.slow
@pytest.mark.parametrize("units", range(1, 5))
async def test_a_full_sync_stopped_by_the_quota_anywhere_finds_vanished_videos(
    sqlite_database: Database, units: int
) -> None:
    catalogue = channel(120)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        for number in range(60):
            catalogue.remove(f"video{number:06d}")  # no longer listed: two pages, and two batches of details to check
        spent = server.units
        server.quota.limit = spent + units
        first = await sync(sqlite_database, server, mode="full")
        server.quota.limit = None
        second = await sync(sqlite_database, server)
        assert (first.gone + second.gone, second.status) == (60, "complete")
        # A batch without any answer is requested twice; the quota may be spent between the two requests.
        assert server.units - spent <= 2 + 2 + 2 + 2
        assert (await sync(sqlite_database, server)).status == "unchanged"


async def test_a_full_sync_after_an_interrupted_sync_lists_everything(sqlite_database: Database) -> None:
    catalogue = channel(60)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.publish(*(video(number) for number in range(60, 170)))
        server.quota.limit = server.units + 1
        await sync(sqlite_database, server)
        server.quota.limit = None
        report = await sync(sqlite_database, server, mode="full")
        assert (report.status, report.listed, report.gone) == ("complete", 170, 0)
        assert len(contents(sqlite_database)) == 170


async def test_kinds(sqlite_database: Database) -> None:
    catalogue = channel(3)
    catalogue.publish(
        video(10, duration_s=180),
        video(11, duration_s=181),
        video(12, duration_s=None, live="upcoming"),
        video(13, duration_s=None, live="live"),
        video(14, duration_s=None),
        video(15, duration_s=0),
    )
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server)
        assert server.journal.count("picture") == 4
    assert report.not_pairs == {
        "short": 1,
        "upcoming": 1,
        "live": 1,
        "private": 0,
        "gone": 0,
        "unknown": 2,
        "no_picture": 0,
    }


async def test_a_premiere_becomes_a_pair_once_it_has_a_duration(sqlite_database: Database) -> None:
    catalogue = channel(60)
    catalogue.publish(video(60, duration_s=None, live="upcoming"))
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        spent = server.units
        assert (await sync(sqlite_database, server)).units == server.units - spent == 1  # its details; the feed is free
        catalogue.change("video000060", duration_s=700, live="none")
        report = await sync(sqlite_database, server)
        assert report.pictures_fetched == 1
        assert kinds(sqlite_database)["video000060"] == ("video", "available")
        assert (await sync(sqlite_database, server)).units == 0


async def test_many_unsettled_videos_cost_at_most_two_units_per_sync(sqlite_database: Database) -> None:
    async with StandIn(channel(160, duration_s=None)) as server:
        await sync(sqlite_database, server)
        spent = server.units
        report = await sync(sqlite_database, server)
        assert server.units - spent == report.units == 1
        by_id = server.catalogues[0].channel_id
        assert (await sync(sqlite_database, server, by_id, now=later(25))).units == 2


async def test_a_new_minimum_classifies_stored_videos_without_a_request(database: Database) -> None:
    catalogue = channel(10)
    catalogue.publish(*(video(number, duration_s=200) for number in range(10, 15)))
    async with StandIn(catalogue) as server:
        report = await sync(database, server, min_duration_s=300)
        assert report.not_pairs["short"] == 5
        report = await sync(database, server, min_duration_s=190)
        assert (report.units, report.pictures_fetched, report.not_pairs["short"]) == (0, 5, 0)
        assert (await sync(database, server)).not_pairs["short"] == 0  # kept
        report = await sync(database, server, min_duration_s=601)
        assert (report.units, report.not_pairs["short"]) == (0, 15)


async def test_a_missing_size_is_replaced_by_the_next(sqlite_database: Database) -> None:
    catalogue = channel(1, missing_sizes=frozenset({"maxres", "standard"}))
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server, thumbnail="maxres")
        assert [r.path.rpartition("/")[2] for r in server.journal.requests("picture")] == ["hqdefault.jpg"]
        # The API names this size, but the file does not exist.
        server.faults = Faults([Fault("status", path="/vi/video000001/hqdefault.jpg", status=404)], most_in_a_row=None)
        catalogue.publish(video(1))
        await sync(sqlite_database, server, thumbnail="high")
    urls = rows_as_dicts_of(sqlite_database, "SELECT picture_url FROM video ORDER BY id")
    assert urls[1].endswith("/mqdefault.jpg")


def rows_as_dicts_of(database: Database, sql: str) -> list[str]:
    with database.read() as session:
        return [next(iter(row.values())) for row in rows_as_dicts(session, sql)]


async def test_a_thumbnail_of_two_videos_is_stored_once(sqlite_database: Database) -> None:
    same = video(0).picture
    async with StandIn(channel(30, picture=same)) as server:
        report = await sync(sqlite_database, server)
    assert report.pictures_fetched == 30
    with sqlite_database.read() as session:
        assert session.scalar(select(func.count()).select_from(Picture)) == 1


async def test_endless_pages_end_the_listing(sqlite_database: Database) -> None:
    async with StandIn(channel(120)) as server:
        page = server_page(server, next_token="again")
        server.faults = Faults(
            [Fault("body", path="/youtube/v3/playlistItems", body=page, content_type="application/json")],
            most_in_a_row=None,
        )
        report = await sync(sqlite_database, server)
        assert (report.status, report.exit_code) == ("failed", 1)
        assert "does not end" in str(report.error)
        assert server.journal.count("playlistItems") == 2
        # What was listed is complete, and the next sync starts over.
        assert len(contents(sqlite_database)) == 1
        server.faults = Faults()
        assert (await sync(sqlite_database, server)).status == "complete"
        assert len(contents(sqlite_database)) == 120


def server_page(server: StandIn, next_token: str) -> bytes:
    return (
        '{"kind": "youtube#playlistItemListResponse", "nextPageToken": "' + next_token + '", "items": ['
        '{"contentDetails": {"videoId": "video000001"}}, {"contentDetails": {"videoId": "video000001"}},'
        '{"snippet": {"title": "no id"}}, 7, {"contentDetails": {"videoId": "../etc/passwd"}}]}'
    ).encode()


async def test_a_failed_channel_does_not_affect_others(sqlite_database: Database) -> None:
    one, two = channel(3, name="one-one"), channel(4, name="two-two")
    async with StandIn(one, two) as server:
        reports = await sync_channels(
            sqlite_database,
            [parse_channel_name(name) for name in ("@one-one", "@nobody", "@two-two")],
            settings_from(server.environment()),
            http=hasty_http(),
        )
        assert [report.status for report in reports] == ["complete", "failed", "complete"]
        assert isinstance(reports[1].error, ChannelNotFound)
        assert [report.id for report in reports] == [one.channel_id, None, two.channel_id]
        # After the first refusal for a spent quota, no more requests are sent, and each channel reports it.
        server.quota.limit = server.units
        for catalogue in (one, two):
            catalogue.publish(video(100, id=f"{catalogue.handle[1:]}-new"))
        server.journal.clear()
        reports = await sync_channels(
            sqlite_database,
            [parse_channel_name("@one-one"), parse_channel_name("@two-two")],
            settings_from(server.environment()),
            http=hasty_http(),
        )
        assert [report.status for report in reports] == ["quota", "quota"]
        assert server.journal.count("playlistItems") == 1


async def test_units_are_counted_for_an_unknown_channel(sqlite_database: Database) -> None:
    async with StandIn(channel(1)) as server:
        await sync(sqlite_database, server, "@nobody")
        assert server.units == 1
    with sqlite_database.read() as session:
        assert units_spent(session, quota_day(utc_now())) == 1


async def test_a_refused_key_is_reported_at_once(sqlite_database: Database) -> None:
    async with StandIn(channel(1), keys=["right"]) as server:
        report = await sync(sqlite_database, server, key="wrong")
        assert isinstance(report.error, BadKey)
        assert server.journal.count() == 1


async def test_every_form_of_name_finds_the_channel(sqlite_database: Database) -> None:
    catalogue = channel(1)
    async with StandIn(catalogue) as server:
        for name in ("youtube.com/c/tests", f"https://m.youtube.com/channel/{catalogue.channel_id}", "@Tests"):
            assert (await sync(sqlite_database, server, name)).id == catalogue.channel_id
        assert server.journal.count("channels") == 1


async def test_a_video_that_moves_to_the_next_page_is_stored_once(sqlite_database: Database) -> None:
    catalogue = channel(110)  # the second page may be requested before the first is written, but not the third
    async with StandIn(catalogue) as server:
        published = When("listed", lambda: catalogue.publish(video(110)))
        report = await sync(sqlite_database, server, progress=published)
        assert (report.status, report.listed, report.new) == ("complete", 111, 110)
        assert server.units == 1 + 3 + 3
        assert (await sync(sqlite_database, server)).new == 1


@pytest.mark.slow
async def test_stopping_ends_the_run_cleanly_and_the_next_sync_completes(sqlite_database: Database) -> None:
    catalogue = channel(200)
    async with StandIn(catalogue) as server:
        server.faults = Faults([Fault("hang", path="/youtube/v3/playlistItems", after=2, times=1, delay_s=30)])
        stop = asyncio.Event()
        reports = await sync_channels(
            sqlite_database,
            [parse_channel_name(catalogue.handle)],
            settings_from(server.environment()),
            http=hasty_http(),
            progress=When("pictures", stop.set),
            stop=stop,
        )
        assert [(report.status, report.exit_code) for report in reports] == [("interrupted", 3)]
        server.release()
        assert (await sync(sqlite_database, server)).status == "complete"
    assert [run.status for run in sync_runs(sqlite_database)] == ["interrupted", "complete"]
    assert len(contents(sqlite_database)) == 200


async def test_stopping_a_finished_sync_leaves_it_complete(sqlite_database: Database) -> None:
    """The clock is read last when the run's row is closed: the sync is told to stop then."""
    stop, looks = asyncio.Event(), 0
    last: int | None = None

    def now() -> datetime:
        nonlocal looks
        looks += 1
        if looks == last:
            asyncio.get_running_loop().call_soon(stop.set)
        return utc_now()

    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)

        async def unchanged() -> list[SyncReport]:
            name, settings = parse_channel_name("@tests"), settings_from(server.environment())
            return await sync_channels(sqlite_database, [name], settings, http=hasty_http(), now=now, stop=stop)

        await unchanged()
        last, looks = looks, 0
        (report,) = await unchanged()
        assert stop.is_set()
    assert (report.status, report.exit_code) == ("unchanged", 0)
    assert [run.status for run in sync_runs(sqlite_database)] == ["complete", "unchanged", "unchanged"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [(Fault("status", path="/vi", status=503), "answered 503"), (Fault("reset", path="/vi"), "the connection")],
    ids=["503", "reset"],
)
async def test_an_unreachable_thumbnail_host_ends_the_sync_without_failures(
    sqlite_database: Database, fault: Fault, said: str
) -> None:
    async with StandIn(channel(120), faults=Faults([fault], most_in_a_row=None)) as server:
        report = await sync(sqlite_database, server)
        assert (report.status, report.exit_code) == ("failed", 1)
        assert "20 thumbnails in a row" in str(report.error)
        assert said in str(report.error)
        assert failures(sqlite_database) == {}
        server.faults = Faults()
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched) == ("complete", 120)


async def test_a_cancellation_marks_the_run_and_is_raised_again(sqlite_database: Database) -> None:
    catalogue = channel(200)
    async with StandIn(catalogue) as server:
        server.faults = Faults([Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=30)])
        running = asyncio.current_task()
        assert running is not None
        with pytest.raises(asyncio.CancelledError):
            await sync(sqlite_database, server, progress=When("listed", running.cancel))
        running.uncancel()
    assert [run.status for run in sync_runs(sqlite_database)] == ["interrupted"]


async def test_a_run_of_a_dead_process_is_marked(sqlite_database: Database) -> None:
    async with StandIn(channel(1)) as server:
        await sync(sqlite_database, server)
        with sqlite_database.write() as session:
            session.execute(text("UPDATE sync_run SET status = 'running', pid = 999999999, finished_at = NULL"))
        await sync(sqlite_database, server)
    assert [run.status for run in sync_runs(sqlite_database)] == ["interrupted", "unchanged"]


@pytest.mark.slow
async def test_the_shared_channel(sqlite_database: Database, shared_channel: Path) -> None:
    catalogue: Catalogue = load_folder(shared_channel)
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server)
        assert (report.units, report.pictures_fetched, sum(report.not_pairs.values())) == (7, 120, 0)
        assert (await sync(sqlite_database, server)).units == 0


def test_an_invalid_name_is_refused_before_any_request() -> None:
    with pytest.raises(BadChannel):
        parse_channel_name("https://www.youtube.com/watch?v=abc")


async def test_options_are_validated_when_created() -> None:
    options = SyncOptions(min_duration_s=5, thumbnail="best")
    with pytest.raises(Exception, match="maxres"):
        replace(options, thumbnail="huge")
    with pytest.raises(Exception, match="-1 s"):
        replace(options, min_duration_s=-1)


@pytest.mark.slow
async def test_units_are_counted_for_the_day_on_which_they_were_spent(sqlite_database: Database) -> None:
    midnight = next_quota_day(utc_now())

    async with StandIn(channel(120)) as server:

        def now() -> datetime:
            """A new day begins with the second page."""
            return midnight + timedelta(seconds=-1 if server.journal.count("playlistItems") < 2 else 1)

        await sync(sqlite_database, server, now=now)
    with sqlite_database.read() as session:
        before, after = (units_spent(session, quota_day(midnight + timedelta(hours=hours))) for hours in (-1, 1))
    assert before + after == server.units == 7
    assert after >= 3
