"""One sync in a separate process that measures its event loop. `bench.child` runs it and reports its peak memory."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from bench.clock import Clock
from collector.settings import settings_from
from collector.sync import sync_channels
from collector.youtube import parse_channel_name
from store.db import open_database

__all__ = ["run"]

TICK_S = 0.01


def run(clock: Clock, *, store: str, handle: str) -> dict[str, Any]:
    """Sync a channel, and measure the event loop's lag every 10 ms.

    Args:
        clock: times the process.
        store: the store's URL.
        handle: the channel. The server's address comes from the environment.

    Returns:
        The report's `status` and `pictures`, the `seconds`, and `lag_p99_ms` and `lag_max_ms` of the event loop.
    """
    lags: list[float] = []

    async def watched() -> Any:
        ticking = asyncio.create_task(_tick(lags))
        try:
            return await sync_channels(database, [parse_channel_name(handle)], settings_from(os.environ))
        finally:
            ticking.cancel()

    with open_database(store) as database, clock.phase("sync"):
        (report,) = asyncio.run(watched())
    lags.sort()
    return {
        "status": report.status,
        "pictures": report.pictures_fetched,
        "seconds": clock.phases["sync"],
        "lag_p99_ms": lags[int(len(lags) * 0.99)] * 1000,
        "lag_max_ms": lags[-1] * 1000,
    }


async def _tick(lags: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(TICK_S)
        lags.append(max(0.0, loop.time() - before - TICK_S))
