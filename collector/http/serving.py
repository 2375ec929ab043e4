"""Serves an application within bounds on connections and slow clients.

aiohttp limits the size of headers and bodies, but waits for them without a time limit. Half-open connections could use
up all file descriptors of the process.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from collector.errors import BadSetting, CantListen

__all__ = ["Limits", "Listen", "note_work", "parse_listen", "serve_bounded"]


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Whether to log a record: aiohttp would log a traceback for each malformed request."""
    malformed = (HttpProcessingError, web.RequestPayloadError)
    return record.exc_info is None or not isinstance(record.exc_info[1], malformed)


logger = logging.getLogger(__name__)
logger.addFilter(_is_worth_logging)

OPEN_FOR_S = 1.0
"""Seconds to wait for open requests at shutdown."""


@dataclass(frozen=True, slots=True)
class Listen:
    """The address to listen on. Port 0 selects a free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether the address is reachable only from this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def is_any(self) -> bool:
        """Whether the address means all addresses of the machine."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """Parse `HOST:PORT` or `[IPv6]:PORT`.

    Raises:
        BadSetting: the text has another form.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
        whole = parts.netloc == text and "@" not in text
    except ValueError:
        host, port, whole = None, None, False
    if not host or port is None or not whole or any(char.isspace() for char in text):
        raise BadSetting(f"{text!r} is not an address to listen on; write HOST:PORT")
    return Listen(host, port)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for clients.

    Attributes:
        connections: the most open connections of all clients together. A new connection replaces the connection that
            has sent no request for longest, or else the one that has been reading its response for longest. If all
            connections wait for their responses, the new one is closed at once.
        head_s: seconds from the start of a connection, or the end of the last response, to the end of the next
            request's headers.
        stalled_s: seconds in which a client must read at least some bytes of a response that is being sent.
    """

    connections: int = 256
    head_s: float = 15.0
    stalled_s: float = 30.0


class _Connections:
    """Creates the protocol of each connection, which enforces the limits on aiohttp's protocol.

    Args:
        inner: creates aiohttp's protocol.
        limits: the limits.
    """

    def __init__(self, inner: Callable[[], asyncio.Protocol], limits: Limits) -> None:
        self._inner = inner
        self.limits = limits
        self.open: dict[asyncio.BaseTransport, _Bounded] = {}

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol for a new connection."""
        return _Bounded(self._inner(), self)

    def make_room(self) -> bool:
        """If there are too many connections, close one that waits for its client; False if all wait for the server."""
        if len(self.open) < self.limits.connections:
            return True
        waiting = [bounded for bounded in self.open.values() if not bounded.is_working]
        if not waiting:
            return False
        # `open` is in the order of the last change: the first one has waited for longest. `min` takes the first.
        min(waiting, key=lambda bounded: bounded.unsent > 0).abort()
        return True

    def working(self, transport: asyncio.BaseTransport | None, *, yes: bool) -> None:
        """Record whether the connection's request is being answered."""
        bounded = None if transport is None else self.open.get(transport)
        if bounded is not None:
            bounded.working(yes=yes)


class _Bounded(asyncio.Protocol):
    """A connection that waits for a request's headers, waits for its handler, or sends a response. It has one timer.

    A response is still being sent when its handler has ended, and only the transport knows how much is left.
    """

    def __init__(self, inner: asyncio.Protocol, owner: _Connections) -> None:
        self._inner = inner
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        """Bytes of the response that were left when the timer was started; 0 if there were none."""
        self.is_working = False
        """Whether a request is being answered."""

    @property
    def unsent(self) -> int:
        """Bytes of the response that the client has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close the connection now, and forget it."""
        if self._transport is not None:
            self._owner.open.pop(self._transport, None)
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._owner.make_room():
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
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._owner.open.pop(self._transport, None)
            self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._watch(self.unsent, self._owner.limits.stalled_s)

    def resume_writing(self) -> None:
        self._inner.resume_writing()
        self._watch(max(1, self.unsent), self._owner.limits.stalled_s)

    def working(self, *, yes: bool) -> None:
        self.is_working = yes
        if self._transport is not None and self._owner.open.pop(self._transport, None) is not None:
            self._owner.open[self._transport] = self  # at the end: the first one is idle for longest
        self._watch(0, self._owner.limits.head_s)

    def _watch(self, left: int, seconds: float) -> None:
        """Check, after the time limit, whether the client has sent its headers or read some of the response."""
        if self._timer is not None:
            self._timer.cancel()
        self._left = left
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        unsent, seen = self.unsent, self._left
        if unsent and (not seen or unsent < seen):
            self._watch(unsent, self._owner.limits.stalled_s)
        elif seen and not unsent:
            self._watch(0, self._owner.limits.head_s)  # the response has just been sent
        elif unsent or not self.is_working:
            self.abort()


_CONNECTIONS: web.AppKey[_Connections] = web.AppKey("connections", _Connections)


@web.middleware
async def note_work(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection that a request's headers have arrived, and later that the next request may begin.

    The first middleware of an application that `serve_bounded` serves.
    """
    connections, transport = request.app.get(_CONNECTIONS), request.transport
    if connections is not None:
        connections.working(transport, yes=True)
    try:
        return await handler(request)
    finally:
        if connections is not None:
            connections.working(transport, yes=False)


@asynccontextmanager
async def serve_bounded(
    application: web.Application, listen: Listen, limits: Limits | None = None, **options: Any
) -> AsyncIterator[Listen]:
    """Serve an application while the context is active. Yields the address with the actual port.

    Args:
        application: its first middleware is `note_work`.
        listen: the address to listen on.
        limits: the limits for clients.
        options: for `aiohttp.web.AppRunner`.

    Raises:
        CantListen: the address is not available.
    """
    options = {"access_log": None, "handle_signals": False, "logger": logger, **options}
    runner = web.AppRunner(application, shutdown_timeout=OPEN_FOR_S, **options)
    connections = application[_CONNECTIONS] = _Connections(lambda: _protocol(runner), limits or Limits())
    await runner.setup()
    try:
        server = await _listening(connections, listen)
        try:
            yield Listen(listen.host, server.sockets[0].getsockname()[1])
        finally:
            server.close()
    finally:
        await runner.cleanup()


async def _listening(connections: _Connections, listen: Listen) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(connections, listen.host, listen.port, backlog=128)
    except OSError as error:
        raise CantListen(
            f"can't listen on {listen} ({error.strerror or error}); give another address with --listen"
        ) from error


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None
    return runner.server()
