"""What a sync that is told to stop does with what it has at hand."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable

import pytest

from collector.channel_names import parse_channel_name
from collector.progress import Silent
from collector.report import SyncReport
from collector.settings import settings_from
from collector.sync import sync_channels
from store.database import Database
from tests.collector.channels import channel, contents, failures, hasty_http, later, sync
from thumbtune.standin.faults import Fault, Faults
from thumbtune.standin.server import StandIn

WORKERS = 16
WRITTEN_AT_ONCE = 8
AT_HAND = WRITTEN_AT_ONCE + 32
"""As many as are being written, and as can wait for that."""
NO_LISTING = Fault("hang", path="/youtube/v3/", delay_s=60)


@pytest.fixture(autouse=True)
def _small_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.batches.PICTURES_A_WRITE", WRITTEN_AT_ONCE)
    monkeypatch.setattr("collector.batches.LONGEST_UNWRITTEN_S", 60.0)


async def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


class Holding(Silent):
    """Holds the store from the moment that thumbnails are wanted until it is let go."""

    def __init__(self, database: Database) -> None:
        self._other = sqlite3.connect(str(database.path), isolation_level=None)

    def pictures_wanted(self, pictures: int) -> None:
        if not self._other.in_transaction:
            self._other.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self._other.execute("ROLLBACK")
        self._other.close()


async def stopped(database: Database, server: StandIn, ready: Callable[[], bool]) -> SyncReport:
    """The second sync of 120 thumbnails that are due; the store is held until it has been told to stop."""
    holding, stop = Holding(database), asyncio.Event()
    syncing = asyncio.create_task(
        sync_channels(
            database,
            [parse_channel_name("@tests")],
            settings_from(server.environment()),
            progress=holding,
            stop=stop,
            http=hasty_http(),
            now=later(26),
        )
    )
    await until(ready)
    stop.set()
    await asyncio.sleep(0)
    holding.let_go()
    (report,) = await syncing
    server.release()
    assert report.status == "interrupted"
    return report


async def test_thumbnails_that_wait_to_be_written_are_written(sqlite_database: Database) -> None:
    missing = Faults([Fault("status", path="/vi", status=404)], most_in_a_row=None)
    async with StandIn(channel(120), faults=missing) as server:
        await sync(sqlite_database, server)
        beyond = Fault("slow", path="/vi", after=AT_HAND, delay_s=60)
        server.faults = plan = Faults([NO_LISTING, beyond], most_in_a_row=None)
        # All who fetch have handed on what they had, and ask for more.
        report = await stopped(sqlite_database, server, lambda: plan.made["slow"] == WORKERS)
    assert report.pictures_fetched == AT_HAND
    assert sum(row[4] is not None for row in contents(sqlite_database).values()) == AT_HAND


async def test_what_could_not_even_be_handed_on_is_written(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "collector.http")
    async with StandIn(channel(120)) as server:
        server.faults = Faults([Fault("status", path="/vi", status=404)], most_in_a_row=None)
        await sync(sqlite_database, server)
        refused = Fault("status", path="/vi", times=AT_HAND + WORKERS, status=403)
        beyond = Fault("slow", path="/vi", delay_s=60)
        server.faults = Faults([NO_LISTING, refused, beyond], most_in_a_row=None)

        def read() -> int:
            return sum(": 403, " in record.getMessage() for record in caplog.records)

        report = await stopped(sqlite_database, server, lambda: read() == AT_HAND + WORKERS)
    assert report.pictures_failed == AT_HAND + WORKERS
    assert sum("403" in reason for reason in failures(sqlite_database).values()) == AT_HAND + WORKERS
