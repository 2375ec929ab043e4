"""Limits on concurrent requests to thumbnail hosts and on the bytes that wait to be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["ByteBudget", "Flow", "InFlight"]


@dataclass(slots=True)
class Flow:
    """Limit of concurrent requests: additive increase, multiplicative decrease (RFC 5681, section 3.1). No I/O.

    The limit starts at `most`. A refusal halves it, unless the refused request was sent before the last halving.
    As many responses as the limit raise it by one.
    """

    most: int = 64
    least: int = 2
    limit: float = 64.0
    halvings: int = 0

    def answered(self) -> None:
        """Record that a request was answered."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self, sent_after: int) -> None:
        """Record that a request was refused or timed out; `sent_after` is the value of `halvings` when it was sent."""
        if sent_after == self.halvings:
            self.limit = max(float(self.least), self.limit / 2)
            self.halvings += 1


class InFlight:
    """Admits requests as `Flow` allows."""

    def __init__(self, flow: Flow | None = None) -> None:
        self.flow = flow or Flow()
        self.running = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[int]:
        """Wait until one more request is allowed; yields the value of `halvings` for `Flow.refused`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.running < int(self.flow.limit))
            self.running += 1
        try:
            yield self.flow.halvings
        finally:
            self.running -= 1
            async with self._changed:
                self._changed.notify(2)  # the limit may have grown by one meanwhile


class ByteBudget:
    """Bounds the bytes that wait to be written. A single item may exceed the budget if nothing else is held."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Wait until `size` more bytes fit, and reserve them."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.held or self.held + size <= self.most)
            self.held += size

    async def give_back(self, size: int) -> None:
        """Release `size` bytes."""
        async with self._changed:
            self.held -= size
            self._changed.notify_all()
