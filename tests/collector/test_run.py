"""A run's units are counted once, even if the store fails or its callers are cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from collector.progress import Silent
from collector.settings import settings_from
from collector.store_thread import StoreThread
from collector.sync.run import Clients, Meter, Run
from collector.thumbnails import Thumbnails
from collector.youtube import YouTube
from store.db import Database
from store.errors import DatabaseUnavailable
from store.types import utc_now
from store.youtube import SyncCounts, begin_sync, quota_day, units_spent
from tests.collector.channels import channel, hasty_http, sync, sync_runs
from tests.collector.watching import Clock, service, values
from tests.standin import StandIn
from tests.store.builders import add_channel


async def test_units_of_a_failed_write_are_counted_with_the_next_write(sqlite_database: Database) -> None:
    """The page and the details were read and charged; the store rejects titles, but accepts the end of the run."""
    with sqlite_database.write() as session:
        refuse = "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        session.execute(text(f"CREATE TRIGGER no_titles BEFORE INSERT ON video_version {refuse}"))
    async with StandIn(channel(20)) as server:
        with pytest.raises(DatabaseUnavailable, match="disk is full"):
            await sync(sqlite_database, server)
        (run,) = sync_runs(sqlite_database)
        assert run.status == "failed"
        assert (run.units, run.requests) == (server.units, server.journal.count())
        with sqlite_database.read() as session:
            assert units_spent(session, quota_day(utc_now())) == server.units > 0


@asynccontextmanager
async def begun(database: Database) -> AsyncIterator[Run]:
    """A new run of a channel."""
    settings, now = settings_from({"YOUTUBE_API_KEY": "key"}), utc_now()
    with database.write() as session:
        add_channel(session, "UC1")
        run_id = begin_sync(session, "UC1", "incremental", host="here", pid=1, now=now)
    with StoreThread(database) as store:
        async with hasty_http() as http:
            youtube, thumbnails = YouTube(http, settings), Thumbnails(http, ())
            clients = Clients(settings, http, youtube, thumbnails, store, Meter(http, youtube), None, utc_now, Silent())
            try:
                yield Run(clients, run_id, "UC1", "UU1", "incremental", "high", now, None)
            finally:
                thumbnails.close()


def one_new(_: None) -> SyncCounts:
    return SyncCounts(new=1)


async def test_a_cancelled_caller_waits_for_its_write(database: Database) -> None:
    """Neither the write in progress nor a waiting write is cancelled: their data was paid for."""
    at_work, go_on = threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        at_work.set()
        assert go_on.wait(30)

    async with begun(database) as run:
        run.clients.youtube.units = 2
        first = asyncio.create_task(run.write(slow, one_new))
        second = asyncio.create_task(run.write(lambda session: None, one_new))
        assert await asyncio.to_thread(at_work.wait, 30)
        for _ in range(2):  # regardless of how often
            for waiting in (first, second):
                waiting.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not first.done()
            assert not second.done()
        go_on.set()
        await asyncio.wait({first, second})
        assert first.cancelled()
        assert second.cancelled()
        (row,) = sync_runs(database)
        assert (row.new, row.units) == (2, 2)


async def test_units_of_a_write_that_a_bug_ended_are_counted_with_the_next_write(database: Database) -> None:
    def broken(session: Session) -> None:
        raise ZeroDivisionError

    async with begun(database) as run:
        run.clients.youtube.units = 2
        with pytest.raises(ZeroDivisionError):
            await run.write(broken, one_new)
        run.clients.youtube.units = 3
        await run.write(lambda session: None, one_new)
    (row,) = sync_runs(database)
    assert (row.new, row.units) == (1, 3)


async def test_a_failed_lookup_is_counted_in_the_report(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        report = await sync(sqlite_database, server, "youtube.com/c/nobody")  # looked up by both of its names
        assert (report.status, report.units, report.requests) == ("failed", 2, 2)
        assert report.as_dict()["units"] == server.units == 2


async def test_a_failed_lookup_is_counted_in_the_metrics(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        watch = service(sqlite_database, server, Clock(hours=2), "@nobody")
        await watch.run()
        assert server.units > 1
    assert values(watch.metrics, "thumbtune_units_total") == {("@nobody",): server.units}
