"""Run the watch service with a simulated clock, and read its metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from collector.http import Listen
from collector.settings import settings_from
from collector.watch import Retraining, Rhythm, Service, WatchOptions
from collector.watch.metrics import Metrics
from collector.youtube import parse_channel_name
from store.db import Database
from tests.collector.channels import hasty_http
from tests.standin import StandIn

START = datetime(2024, 7, 1, 12, tzinfo=UTC)
"""5:00 in Pacific time."""
EVERY = timedelta(hours=6)


class Clock:
    """A clock that only advances while the service waits. It stops the service at `end`, or when `until` is true."""

    def __init__(self, hours: float, until: Callable[[], bool] = lambda: False) -> None:
        self.time = START
        self.end = START + timedelta(hours=hours)
        self.until = until
        self.at: list[tuple[datetime, Callable[[], object]]] = []
        """Events: functions to call at a time."""
        self.waits_for: Callable[[], bool] = lambda: False
        """The clock does not advance while this is true, for example until a real process has ended."""

    def now(self) -> datetime:
        return self.time

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        assert seconds > 0
        deadline = time.monotonic() + 30
        while self.waits_for():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        self.time += timedelta(seconds=seconds)
        for moment, happen in list(self.at):
            if moment <= self.time:
                self.at.remove((moment, happen))
                happen()
        if self.time >= self.end or self.until():
            stop.set()


def service(
    database: Database,
    server: StandIn,
    clock: Clock,
    *names: str,
    retraining: Retraining | None = None,
    units: int = 9000,
    listen: Listen | None = None,
    refresh_every: timedelta | None = None,
    **options: Any,
) -> Service:
    settings = settings_from(server.environment())
    return Service(
        database,
        [parse_channel_name(name) for name in names],
        settings,
        WatchOptions(Rhythm(EVERY, "tests"), units, retraining, listen, refresh_every),
        stop=options.pop("stop", None) or asyncio.Event(),
        now=clock.now,
        wait=clock.wait,
        http=options.pop("http", hasty_http),
        **options,
    )


@asynccontextmanager
async def answering(watch: Service, stop: asyncio.Event) -> AsyncIterator[str]:
    """Run a service that listens; yield its URL, and stop it cleanly afterwards."""
    address: asyncio.Future[Listen] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(watch.run(address.set_result))
    either: set[asyncio.Future[Any]] = {task, address}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield f"http://{await address}"
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


def values(metrics: Metrics | bytes, name: str) -> dict[tuple[str, ...], float]:
    """Return {label values: value} of the samples with a name."""
    text = metrics if isinstance(metrics, bytes) else metrics.text()
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def gaps(moments: Sequence[datetime]) -> list[timedelta]:
    return [later - earlier for earlier, later in pairwise(moments)]


def retrains(metrics: Metrics | bytes) -> dict[str, float]:
    """{exit code: number of retrainings that ended with it}, without zeros."""
    return {code: n for (code,), n in values(metrics, "thumbtune_retrains_total").items() if n}
