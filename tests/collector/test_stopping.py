"""A sync that is told to stop keeps what it has fetched."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import update

from collector.progress import Silent
from collector.settings import settings_from
from collector.sync import SyncOptions, SyncReport, sync_channels
from collector.sync.pipeline import PICTURES_AT_ONCE
from collector.youtube import parse_channel_name
from store.db import Database
from store.tables import Channel
from store.types import utc_now
from store.youtube import begin_sync, quota_day, units_spent
from tests.collector.channels import channel, contents, failures, hasty_http, later, sync, sync_runs
from tests.standin import Fault, Faults, StandIn

WORKERS = PICTURES_AT_ONCE
WRITTEN_AT_ONCE = 8
AT_HAND = WRITTEN_AT_ONCE + PICTURES_AT_ONCE
"""As many as are being written, and as can wait for that."""
DUE = AT_HAND + WORKERS + 24
SIZES_ASKED_FOR = 5
"""The stand-in announces so many sizes, and each is tried before a thumbnail counts as failed."""
NO_LISTING = Fault("hang", path="/youtube/v3/", delay_s=60)


@pytest.fixture(autouse=True)
def _small_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.sync.batches.PICTURES_A_WRITE", WRITTEN_AT_ONCE)
    monkeypatch.setattr("collector.sync.batches.LONGEST_UNWRITTEN_S", 60.0)


async def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


class Holding(Silent):
    """Blocks the store from the first fetch of a thumbnail until it is released."""

    def __init__(self, database: Database) -> None:
        self._other = sqlite3.connect(str(database.path), isolation_level=None)

    def pictures_wanted(self, pictures: int) -> None:
        if not self._other.in_transaction:
            self._other.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self._other.execute("ROLLBACK")
        self._other.close()


async def stopped(database: Database, server: StandIn, ready: Callable[[], bool]) -> SyncReport:
    """The second sync, of `DUE` due thumbnails; the store is blocked until the sync was told to stop."""
    holding, stop = Holding(database), asyncio.Event()
    syncing = asyncio.create_task(
        sync_channels(
            database,
            [parse_channel_name("@tests")],
            settings_from(server.environment()),
            progress=holding,
            stop=stop,
            http=hasty_http(),
            now=later(23),  # a title that was read longer ago would be read again first
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


@pytest.mark.slow
async def test_stopping_writes_thumbnails_that_wait_to_be_written(sqlite_database: Database) -> None:
    missing = Faults([Fault("status", path="/vi", status=404)], most_in_a_row=None)
    async with StandIn(channel(DUE), faults=missing) as server:
        await sync(sqlite_database, server)
        beyond = Fault("slow", path="/vi", after=AT_HAND, delay_s=60)
        server.faults = plan = Faults([NO_LISTING, beyond], most_in_a_row=None)
        # All fetching tasks have passed on their thumbnails, and wait for more work.
        report = await stopped(sqlite_database, server, lambda: plan.made["slow"] == WORKERS)
    assert report.pictures_fetched == AT_HAND
    assert sum(row[4] is not None for row in contents(sqlite_database).values()) == AT_HAND


@pytest.mark.slow
async def test_stopping_writes_thumbnails_that_were_not_queued_yet(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "collector.http.session")
    async with StandIn(channel(DUE)) as server:
        server.faults = Faults([Fault("status", path="/vi", status=404)], most_in_a_row=None)
        await sync(sqlite_database, server)
        requests = (AT_HAND + WORKERS) * SIZES_ASKED_FOR
        refused = Fault("status", path="/vi", times=requests, status=403)
        beyond = Fault("slow", path="/vi", delay_s=60)
        server.faults = Faults([NO_LISTING, refused, beyond], most_in_a_row=None)

        def read() -> int:
            return sum(": 403, " in record.getMessage() for record in caplog.records)

        report = await stopped(sqlite_database, server, lambda: read() == requests)
    assert report.pictures_failed == AT_HAND + WORKERS
    assert sum("403" in reason for reason in failures(sqlite_database).values()) == AT_HAND + WORKERS


class Telling(Silent):
    """Tells a sync to stop while it writes: the store is blocked at the first read of the clock after `ready`."""

    def __init__(self, database: Database, ready: Callable[[], bool]) -> None:
        self.stop = asyncio.Event()
        self._ready = ready
        self._other = sqlite3.connect(str(database.path), isolation_level=None)

    def now(self) -> datetime:
        if not self.stop.is_set() and self._ready():
            self._other.execute("BEGIN IMMEDIATE")
            self.stop.set()
        return utc_now()

    async def let_go(self, told: Callable[[], object] = lambda: None) -> None:
        """Release the store, after the sync was told to stop."""
        await until(self.stop.is_set)
        told()
        for _ in range(10):
            await asyncio.sleep(0)
        self._other.execute("ROLLBACK")
        self._other.close()


def begun(
    database: Database,
    server: StandIn,
    telling: Telling,
    *names: str,
    stop: asyncio.Event | None,
    options: SyncOptions | None = None,
) -> asyncio.Task[list[SyncReport]]:
    return asyncio.create_task(
        sync_channels(
            database,
            [parse_channel_name(name) for name in names],
            settings_from(server.environment()),
            options,
            progress=telling,
            stop=stop,
            http=hasty_http(),
            now=telling.now,
        )
    )


def units_of_today(database: Database) -> int:
    with database.read() as session:
        return units_spent(session, quota_day(utc_now()))


@pytest.mark.slow
async def test_stopping_closes_a_run_that_is_being_opened(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        telling = Telling(sqlite_database, lambda: True)
        syncing = begun(sqlite_database, server, telling, "@tests", stop=telling.stop)
        await telling.let_go()
        (report,) = await syncing
        assert (report.status, report.id) == ("interrupted", server.catalogues[0].channel_id)
        (run,) = sync_runs(sqlite_database)
        assert run.status == "interrupted"
        assert run.units == report.units == units_of_today(sqlite_database) == server.units == 1
        assert (await sync(sqlite_database, server, alone_since=utc_now())).status == "complete"


async def test_cancelling_closes_a_run_that_is_being_opened(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        telling = Telling(sqlite_database, lambda: True)
        syncing = begun(sqlite_database, server, telling, "@tests", stop=None)
        await telling.let_go(syncing.cancel)
        with pytest.raises(asyncio.CancelledError):
            await syncing
        (run,) = sync_runs(sqlite_database)
        assert (run.status, run.units) == ("interrupted", 1)


async def test_stopping_while_the_units_of_a_failed_lookup_are_counted(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        telling = Telling(sqlite_database, lambda: server.journal.count("channels") == 2)
        syncing = begun(sqlite_database, server, telling, "@tests", "@nobody", "@tests", stop=telling.stop)
        await telling.let_go()
        first, second = await syncing
        assert [(report.status, report.units) for report in (first, second)] == [("complete", 3), ("interrupted", 1)]
        assert (second.error, second.exit_code) == (None, 3)
        assert units_of_today(sqlite_database) == server.units == 4


async def test_stopping_while_the_units_of_a_busy_channel_are_counted(sqlite_database: Database) -> None:
    looks: list[None] = []

    def second_look() -> bool:
        """The first is for the run that is not opened."""
        looks.append(None)
        return len(looks) == 2

    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)
        with sqlite_database.write() as session:
            channel_id = server.catalogues[0].channel_id
            begin_sync(session, channel_id, "incremental", host="elsewhere", pid=1, now=utc_now())
            session.execute(update(Channel).values(handle="@before"))  # so that YouTube must be queried
        telling = Telling(sqlite_database, second_look)
        alone = SyncOptions(alone_since=utc_now())
        syncing = begun(sqlite_database, server, telling, "@tests", stop=telling.stop, options=alone)
        await telling.let_go()
        (report,) = await syncing
        assert (report.status, report.id, report.units) == ("interrupted", channel_id, 1)
        assert units_of_today(sqlite_database) == server.units == 3 + 1


async def test_stopping_counts_a_lookup_in_progress(sqlite_database: Database) -> None:
    hang = Fault("hang", path="/youtube/v3/channels", times=1, delay_s=60)
    async with StandIn(channel(3), faults=Faults([hang])) as server:
        telling = Telling(sqlite_database, lambda: False)
        syncing = begun(sqlite_database, server, telling, "@tests", stop=telling.stop)
        await until(lambda: server.units == 1)
        telling.stop.set()
        (report,) = await syncing
        assert (report.status, report.id, report.units) == ("interrupted", None, 1)
        assert units_of_today(sqlite_database) == server.units == 1


async def test_stopping_counts_calls_in_progress_for_the_run(sqlite_database: Database) -> None:
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=60)
    async with StandIn(channel(120), faults=Faults([hang])) as server:
        telling = Telling(sqlite_database, lambda: False)
        syncing = begun(sqlite_database, server, telling, "@tests", stop=telling.stop)
        # The channel, both pages, and the details of the first; once its thumbnails are there, nothing else is asked.
        await until(lambda: server.units == 4 and server.journal.count("picture") == 50)
        telling.stop.set()
        (report,) = await syncing
        assert report.status == "interrupted"
        assert report.units == units_of_today(sqlite_database) == server.units == 4


async def test_stopping_while_a_failure_is_recorded_raises_the_failure(sqlite_database: Database) -> None:
    failed = []

    class Broken(Telling):
        def channel(self, title: str) -> None:
            failed.append(title)
            raise ZeroDivisionError

    async with StandIn(channel(3)) as server:
        telling = Broken(sqlite_database, lambda: bool(failed))
        syncing = begun(sqlite_database, server, telling, "@tests", stop=telling.stop)
        await telling.let_go()
        with pytest.raises(ZeroDivisionError):
            await syncing
        (run,) = sync_runs(sqlite_database)
        assert (run.status, run.units) == ("failed", server.units)
