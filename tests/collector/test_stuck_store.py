"""A database server that accepts a query and does not respond for a while."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime

import pytest

from store.db import Database
from tests.collector.channels import channel, sync_runs
from tests.collector.watching import Clock, service, values
from tests.standin import StandIn


class _Stuck(Clock):
    """Blocks the store's thread when it reads the time, like a stuck server, until the service waits."""

    def __init__(self) -> None:
        super().__init__(hours=24)
        self.answers = threading.Event()

    def now(self) -> datetime:
        if threading.current_thread() is not threading.main_thread():
            self.answers.wait(30)
        return super().now()

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        self.answers.set()
        await super().wait(stop, seconds)


async def test_a_hanging_store_is_reported_and_retried(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("collector.watch.service.STORE_IS_STUCK_S", 0.01)
    clock = _Stuck()
    clock.until = lambda: bool(sync_runs(sqlite_database))
    async with StandIn(channel(3)) as server:
        watch = service(sqlite_database, server, clock, "@tests")
        await watch.run()
    assert "the schedule can't be read: the store does not answer" in caplog.messages
    assert values(watch.metrics, "thumbtune_store_errors_total")[()] >= 1
    assert [run.status for run in sync_runs(sqlite_database)] == ["complete"]
