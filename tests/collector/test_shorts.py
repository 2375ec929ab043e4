"""Whole syncs of channels with possible Shorts: what the list of Shorts decides, and the cost of reading it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from store.db import Database
from store.tables import Video
from tests.collector.channels import channel, failures, kinds, sync, video
from tests.standin import Fault, Faults, StandIn
from thumbtune.standin.catalogue import Catalogue


def shorts_of(server: StandIn) -> int:
    """The number of requests for the list of Shorts."""
    asked = server.journal.requests("playlistItems")
    return sum(request.query["playlistId"].startswith("UUSH") for request in asked)


def with_shorts(long: int = 3, **durations: tuple[int, bool]) -> Catalogue:
    """A channel with some long videos, and others by id: (seconds, whether it is a Short)."""
    catalogue = channel(long)
    for number, (video_id, (seconds, is_short)) in enumerate(durations.items(), long):
        catalogue.publish(video(number, id=video_id, duration_s=seconds, is_short=is_short))
    return catalogue


def answers(database: Database) -> dict[str, bool | None]:
    """The stored kind and list membership of each video that was looked up."""
    with database.read() as session:
        asked = select(Video).where(Video.shorts_asked_at.is_not(None))
        return {row.id: row.in_shorts_list for row in session.scalars(asked)}


def kind(database: Database, video_id: str) -> str:
    return kinds(database)[video_id][0]


def shorts_fault(catalogue: Catalogue, fault_kind: str = "status", **options: object) -> Fault:
    query = {"playlistId": catalogue.uploads_playlist_id.replace("UU", "UUSH", 1)}
    return Fault(fault_kind, path="/youtube/v3/playlistItems", query=query, **options)  # type: ignore[arg-type]


async def test_a_landscape_video_of_two_minutes_is_a_pair_and_a_short_is_not(database: Database) -> None:
    catalogue = with_shorts(wide=(120, False), tall=(120, True), tiny=(30, True), small=(59, False))
    async with StandIn(catalogue) as server:
        report = await sync(database, server, min_duration_s=60)
        assert report.units == server.units == 1 + 2 + 1  # both at once, by a page of the list
        assert {name: kind(database, name) for name in ("wide", "tall", "tiny", "small")} == {
            "wide": "video",
            "tall": "short",
            "tiny": "short",
            "small": "short",
        }
        assert answers(database) == {"wide": False, "tall": True}
        # No thumbnail of a Short was fetched.
        assert report.pictures_fetched == server.journal.count("picture") == 4
        for mode in ("incremental", "full"):
            await sync(database, server, mode=mode)
        assert shorts_of(server) == 1, "each video is requested once"


async def test_conclusive_durations_need_no_request(database: Database) -> None:
    catalogue = with_shorts(a=(179, True), b=(182, False), c=(120, False), d=(60, True))
    async with StandIn(catalogue) as server:
        assert (await sync(database, server)).units == 3
        assert (await sync(database, server, min_duration_s=182)).units == 0
        assert (await sync(database, server, min_duration_s=0)).not_pairs["short"] == 0
        assert shorts_of(server) == 0


async def test_the_shorts_playlist_decides_at_the_default_minimum(database: Database) -> None:
    catalogue = with_shorts(tall180=(180, True), wide180=(180, False), tall181=(181, True), wide181=(181, False))
    async with StandIn(catalogue) as server:
        report = await sync(database, server)
        assert report.units == 1 + 2 + 1
        assert report.not_pairs["short"] == 2
        assert (kind(database, "wide180"), kind(database, "tall181")) == ("video", "short")
        assert report.pictures_fetched == 5


async def test_a_new_video_costs_one_unit_for_any_length_of_the_playlist(sqlite_database: Database) -> None:
    catalogue = channel(3)
    catalogue.publish(*(video(n, id=f"short{n:06}", duration_s=30, is_short=True) for n in range(3, 173)))
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.publish(video(200, id="wide", duration_s=180))
        assert (await sync(sqlite_database, server)).units == 2 + 1 + 1
        assert kind(sqlite_database, "wide") == "video"
        assert server.journal.requests("playlistItems")[-1].query["videoId"] == "wide"


async def test_many_videos_are_classified_by_pages_and_a_few_individually(sqlite_database: Database) -> None:
    catalogue = channel(0)
    catalogue.publish(*(video(n, id=f"short{n:06}", duration_s=100, is_short=True) for n in range(120)))
    catalogue.publish(*(video(n, id=f"older{n:06}", duration_s=30, is_short=True) for n in range(-600, 0)))
    catalogue.publish(video(200, id="wide", duration_s=100))
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server, min_duration_s=60)
        # Three pages contain the 120 videos; the last of the 12 others is cheaper to look up individually.
        assert shorts_of(server) == 3 + 1
        assert report.not_pairs["short"] == 720
        assert kind(sqlite_database, "wide") == "video"


async def test_a_new_minimum_classifies_by_stored_answers(database: Database) -> None:
    catalogue = with_shorts(wide=(120, False), tall=(120, True))
    async with StandIn(catalogue) as server:
        assert (await sync(database, server)).not_pairs["short"] == 2
        report = await sync(database, server, min_duration_s=60)
        assert (report.units, report.pictures_fetched) == (1, 1)
        assert answers(database) == {"wide": False, "tall": True}
        assert (await sync(database, server, min_duration_s=181)).not_pairs["short"] == 2
        report = await sync(database, server, min_duration_s=100)
        assert (report.units, report.not_pairs["short"]) == (0, 1)
        assert (await sync(database, server, min_duration_s=0)).not_pairs["short"] == 0
        assert (await sync(database, server, min_duration_s=121)).not_pairs["short"] == 2
        assert shorts_of(server) == 1


async def test_without_a_shorts_playlist_durations_decide(database: Database) -> None:
    catalogue = with_shorts(a=(120, False), b=(59, False), c=(180, False))
    async with StandIn(catalogue) as server:
        report = await sync(database, server, min_duration_s=60)
        assert (report.status, report.units) == ("complete", 4)
        assert (kind(database, "a"), kind(database, "b"), kind(database, "c")) == ("video", "short", "video")
        assert report.pictures_fetched == 5
        assert answers(database) == {"a": None, "c": None}
        assert (await sync(database, server)).units == 0, "requested once"
        # By durations, as without a list.
        assert (await sync(database, server, min_duration_s=181)).not_pairs["short"] == 3


@pytest.mark.slow
async def test_an_empty_playlist_and_a_refusal_are_no_answer(sqlite_database: Database) -> None:
    catalogue = with_shorts(a=(180, False), b=(181, False))
    empty = b'{"kind": "youtube#playlistItemListResponse", "items": [], "pageInfo": {"totalResults": 0}}'
    refused = b'{"error": {"code": 403, "message": "no", "errors": [{"reason": "playlistItemsNotAccessible"}]}}'
    json = "application/json"
    async with StandIn(catalogue) as server:
        for body, status in ((empty, 200), (refused, 403)):
            fault = shorts_fault(catalogue, "body", body=body, status=status, content_type=json)
            server.faults = Faults([fault], most_in_a_row=None)
            report = await sync(sqlite_database, server, mode="refresh")
            assert report.status == "complete"
            assert (kind(sqlite_database, "a"), kind(sqlite_database, "b")) == ("short", "video")
            assert answers(sqlite_database) == {"a": None, "b": None}
            assert (await sync(sqlite_database, server)).units == 0


async def test_after_a_transient_failure_the_next_sync_requests_the_playlist_again(database: Database) -> None:
    catalogue = with_shorts(wide=(120, False), tall=(120, True))
    async with StandIn(catalogue) as server:
        server.faults = Faults([shorts_fault(catalogue, status=500)], most_in_a_row=None)
        report = await sync(database, server, min_duration_s=60)
        assert (report.status, report.exit_code) == ("complete", 0)
        assert report.pictures_fetched == 5, "by their durations, both are videos"
        assert answers(database) == {}
        server.faults = Faults()
        report = await sync(database, server)
        assert (report.status, report.units) == ("complete", 1)
        assert (kind(database, "wide"), kind(database, "tall")) == ("video", "short")
        assert (await sync(database, server)).units == 0


@pytest.mark.parametrize("limit", [3, 5, 6])
async def test_a_spent_quota_keeps_answers_and_the_next_sync_continues(database: Database, limit: int) -> None:
    catalogue = channel(0)
    catalogue.publish(*(video(n, id=f"short{n:06}", duration_s=100, is_short=True) for n in range(2, 72)))
    catalogue.publish(*(video(n, id=f"wide{n:07}", duration_s=100) for n in range(2)))
    clean = 1 + 2 + 2 + 2
    async with StandIn(catalogue, daily_limit=limit) as server:
        report = await sync(database, server, min_duration_s=60)
        assert (report.status, report.exit_code) == ("quota", 3)
        spent = report.units
        assert not failures(database)
        server.quota.limit = None
        report = await sync(database, server)
        assert report.status == "complete"
        assert report.not_pairs["short"] == 70
        assert kind(database, "wide0000000") == "video"
        assert server.units == spent + report.units <= clean + 1  # the first page of the Shorts may be read twice
        assert report.pictures_fetched == 2


@pytest.mark.slow
async def test_a_refresh_requests_the_playlist_again(sqlite_database: Database) -> None:
    catalogue = with_shorts(a=(120, False), b=(120, True))
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server, min_duration_s=60)
        catalogue.change("a", is_short=True)
        catalogue.change("b", is_short=False)
        assert (await sync(sqlite_database, server, mode="full")).not_pairs["short"] == 1
        report = await sync(sqlite_database, server, mode="refresh")
        assert shorts_of(server) == 2
        assert (kind(sqlite_database, "a"), kind(sqlite_database, "b")) == ("short", "video")
        assert report.pictures_fetched == 1


@pytest.mark.slow
async def test_reading_details_again_keeps_the_answer(sqlite_database: Database) -> None:
    catalogue = with_shorts(a=(120, True))
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server, min_duration_s=60)
        server.faults = Faults([shorts_fault(catalogue, status=500)], most_in_a_row=None)
        catalogue.change("a", title="Another")
        await sync(sqlite_database, server, mode="refresh")
        assert kind(sqlite_database, "a") == "short"
        catalogue.change("a", duration_s=182)  # YouTube has cut or replaced it: no Short is so long
        await sync(sqlite_database, server, mode="refresh")
        assert kind(sqlite_database, "a") == "video"
