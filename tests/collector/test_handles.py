"""Handles that move to another channel: the store trusts a handle for a day, and reports the move."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import update

from collector.errors import NetworkError
from collector.settings import settings_from
from collector.sync import SyncOptions, sync_channels
from collector.youtube import parse_channel_name
from store.db import Database
from store.tables import Channel
from store.types import utc_now
from store.youtube import get_channel
from tests.collector.channels import channel, hasty_http, later, sync, sync_runs, video
from tests.collector.watching import Clock, service
from tests.standin import Fault, Faults, StandIn
from thumbtune.standin.catalogue import Catalogue


def two() -> tuple[Catalogue, Catalogue]:
    second = channel(0, name="other")
    second.publish(*(video(number, id=f"other{number:06d}") for number in range(3)))
    return channel(3, name="tests"), second


def hand_over(first: Catalogue, second: Catalogue, *, to: str = "@renamed") -> None:
    second.handle, first.handle = first.handle, to


def handles(database: Database, *catalogues: Catalogue) -> list[str | None]:
    with database.read() as session:
        return [get_channel(session, catalogue.channel_id).handle for catalogue in catalogues]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["@tests", "@TESTS", "youtube.com/c/tests", "https://www.youtube.com/@tests/videos"])
async def test_a_moved_handle_names_the_new_channel_with_a_notice(database: Database, name: str) -> None:
    first, second = two()
    async with StandIn(first, second) as server:
        await sync(database, server, "@tests")
        hand_over(first, second)
        assert (await sync(database, server, name, now=later(23))).id == first.channel_id, "trusted for a day"
        report = await sync(database, server, name, now=later(25))
        assert (report.status, report.id, report.units) == ("complete", second.channel_id, 3)
        (notice,) = report.notices
        for said in (second.channel_id, second.title, first.channel_id, first.title):
            assert said in notice
        assert report.as_dict()["notices"] == [notice]
        assert handles(database, first, second) == [None, "@tests"]
        assert not (await sync(database, server, name, now=later(26))).notices, "once"
        # The details of the former channel contain its new handle.
        await sync(database, server, first.channel_id, mode="refresh", now=later(27))
        assert handles(database, first, second) == ["@renamed", "@tests"]


async def test_looking_up_a_handle_costs_one_unit_per_day(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)
        assert [(await sync(sqlite_database, server, now=later(hours))).units for hours in (1, 23)] == [0, 0]
        await sync(sqlite_database, server, server.catalogues[0].channel_id, now=later(30))
        assert [(await sync(sqlite_database, server, now=later(hours))).units for hours in (31, 32)] == [1, 0]
        assert (await sync(sqlite_database, server, server.catalogues[0].channel_id, now=later(50))).units == 0


@pytest.mark.slow
async def test_a_channel_synced_by_id_takes_its_handle_from_the_previous_owner(sqlite_database: Database) -> None:
    first, second = two()
    async with StandIn(first, second) as server:
        await sync(sqlite_database, server, "@tests", "@other")
        hand_over(first, second)
        report = await sync(sqlite_database, server, second.channel_id, mode="refresh")
        assert first.channel_id in report.notices[0]
        assert handles(sqlite_database, first, second) == [None, "@tests"]
        assert (await sync(sqlite_database, server, "@tests")).id == second.channel_id


async def test_two_channels_can_swap_handles(database: Database) -> None:
    first, second = two()
    async with StandIn(first, second) as server:
        await sync(database, server, "@tests", "@other")
        hand_over(first, second, to="@other")
        assert (await sync(database, server, "@tests", now=later(25))).id == second.channel_id
        assert (await sync(database, server, "@other", now=later(25))).id == first.channel_id
        assert handles(database, first, second) == ["@other", "@tests"]


@pytest.mark.slow
async def test_youtube_decides_between_two_stored_channels_with_one_handle(database: Database) -> None:
    """Earlier versions may have stored such channels."""
    first, second = two()
    async with StandIn(first, second) as server:
        await sync(database, server, "@tests", "@other")
        with database.write() as session:
            session.execute(update(Channel).where(Channel.id == second.channel_id).values(handle="@Tests"))
        report = await sync(database, server, "@tests")
        assert report.id == first.channel_id
        assert second.channel_id in report.notices[0]
        assert handles(database, first, second) == ["@tests", None]


async def test_an_unclaimed_handle_still_names_the_stored_channel(sqlite_database: Database) -> None:
    catalogue = channel(3)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.handle = "@renamed"
        catalogue.publish(video(3))
        report = await sync(sqlite_database, server, "@tests", now=later(25))
        assert (report.status, report.id, report.new) == ("complete", catalogue.channel_id, 1)
        assert catalogue.channel_id in report.notices[0]
        report = await sync(sqlite_database, server, "@tests", now=later(26))
        assert (report.status, report.units) == ("unchanged", 0), "looked up once a day, not in each sync"


async def test_with_a_spent_quota_the_stored_channel_is_used_with_a_notice(sqlite_database: Database) -> None:
    first, second = two()
    async with StandIn(first, second) as server:
        await sync(sqlite_database, server, "@tests")
        hand_over(first, second)
        server.quota.limit = server.units
        report = await sync(sqlite_database, server, "@tests", now=later(23.9))
        assert not report.notices
        report = await sync(sqlite_database, server, "@tests", now=later(25))
        assert (report.status, report.units, report.id) == ("quota", 0, first.channel_id)
        assert first.channel_id in report.notices[0]


async def test_a_network_failure_selects_no_channel(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)
        server.faults = Faults([Fault("reset", path="/youtube")], most_in_a_row=None)
        report = await sync(sqlite_database, server, now=later(25))
        assert isinstance(report.error, NetworkError)
        assert report.id is None


@pytest.mark.slow
async def test_the_service_follows_a_handle(sqlite_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    first, second = two()
    async with StandIn(first, second) as server:
        settings = settings_from(server.environment())
        names = [parse_channel_name("@tests")]
        await sync_channels(sqlite_database, names, settings, SyncOptions(), http=hasty_http())
        with sqlite_database.write() as session:
            session.execute(update(Channel).values(described_at=utc_now().replace(year=2020)))
        hand_over(first, second)
        with caplog.at_level(logging.WARNING):
            await service(sqlite_database, server, Clock(hours=24), "@tests").run()
        notices = [record for record in caplog.records if first.channel_id in record.getMessage()]
        assert len(notices) == 1
        synced = [run.channel_id for run in sync_runs(sqlite_database)]
        assert synced == [first.channel_id] + [second.channel_id] * (len(synced) - 1)
        assert len(synced) >= 4
