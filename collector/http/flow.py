"""How much may be under way at a time: requests to thumbnail hosts, and bytes that wait to be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["ByteBudget", "Flow", "InFlight"]


@dataclass(slots=True)
class Flow:
    """How many requests a host bears: additive increase, multiplicative decrease (RFC 5681, section 3.1). Pure.

    It begins at `most`. Each refusal halves the limit, but refusals of requests that were sent before the last halving
    say nothing new. A whole round of answers raises it by one.
    """

    most: int = 64
    least: int = 2
    limit: float = 64.0
    halvings: int = 0

    def answered(self) -> None:
        """Note that a request was answered."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self, sent_after: int) -> None:
        """Note that a request was refused or timed out; `sent_after`: the value of `halvings` when it was sent."""
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
        """A place for one request; gives the value of `halvings` for `Flow.refused`."""
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
    """Bounds the bytes that are held until they are written. One item alone may be larger than the budget."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        """Wait until there is room for `size` more bytes, and hold them."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.held or self.held + size <= self.most)
            self.held += size

    async def give_back(self, size: int) -> None:
        """Stop holding `size` bytes."""
        async with self._changed:
            self.held -= size
            self._changed.notify_all()
