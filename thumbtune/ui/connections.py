"""Bounds on what clients may take: connections, and the time for a request's head and for reading an answer.

aiohttp bounds heads and bodies by size, but waits for either without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Connections", "Limits"]


class Limits:
    """How much is allowed.

    Args:
        connections: open at a time, from all clients together; further ones are closed at once.
        head_s: from the start of a connection, or the end of the last answer, to the end of the next request's head.
        stalled_s: how long an answer may wait for its reader.
    """

    def __init__(self, connections: int = 256, head_s: float = 15.0, stalled_s: float = 30.0) -> None:
        self.connections = connections
        self.head_s = head_s
        self.stalled_s = stalled_s


class Connections:
    """Makes the protocol of each connection: `inner`'s, within limits.

    Args:
        inner: makes aiohttp's protocol.
        limits: how much is allowed.
    """

    def __init__(self, inner: Callable[[], asyncio.Protocol], limits: Limits) -> None:
        self._inner = inner
        self.limits = limits
        self.open: dict[asyncio.BaseTransport, _Bounded] = {}

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol for a new connection."""
        return _Bounded(self._inner(), self)

    def working(self, transport: asyncio.BaseTransport | None, *, yes: bool) -> None:
        """Note that a request's head has come and it is being answered, or that it was."""
        bounded = None if transport is None else self.open.get(transport)
        if bounded is not None:
            bounded.working(yes=yes)


class _Bounded(asyncio.Protocol):
    def __init__(self, inner: asyncio.Protocol, owner: Connections) -> None:
        self._inner = inner
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if len(self._owner.open) >= self._owner.limits.connections:
            transport.abort()
            return
        self._transport = transport
        self._owner.open[transport] = self
        self._inner.connection_made(transport)
        self.working(yes=False)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._transport is not None else None

    def connection_lost(self, error: Exception | None) -> None:
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._owner.open.pop(self._transport, None)
            self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._stalled = self._end_in(self._owner.limits.stalled_s)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        self._inner.resume_writing()

    def working(self, *, yes: bool) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if yes else self._end_in(self._owner.limits.head_s)

    def _end_in(self, seconds: float) -> asyncio.TimerHandle | None:
        transport = self._transport
        return None if transport is None else asyncio.get_running_loop().call_later(seconds, transport.abort)
