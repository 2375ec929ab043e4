"""Measures the lag of the event loop, which shows whether something blocks it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

__all__ = ["LoopLag"]

TICK_S = 0.5
KEPT_TICKS = 20


class LoopLag:
    """Measures every half second how much longer than requested a sleep takes.

    Args:
        observe: called with each lag in seconds.
    """

    def __init__(self, observe: Callable[[float], object]) -> None:
        self._observe = observe
        self._lags: deque[float] = deque(maxlen=KEPT_TICKS)
        self._ticked_at: float | None = None

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Measure while the context is active."""
        task = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            task.cancel()

    def worst_s(self) -> float:
        """The longest lag of the last ten seconds, including the current tick if it is overdue."""
        overdue = 0.0 if self._ticked_at is None else asyncio.get_running_loop().time() - self._ticked_at - TICK_S
        return max([overdue, 0.0, *self._lags])

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._ticked_at = loop.time()
            await asyncio.sleep(TICK_S)
            lag = max(0.0, loop.time() - self._ticked_at - TICK_S)
            self._lags.append(lag)
            self._observe(lag)
