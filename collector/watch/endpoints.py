"""The HTTP endpoints of the service: /healthz, /readyz and /metrics."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from collector.errors import BadSetting, CantListen
from collector.http import Limits, note_work, serve_bounded

__all__ = ["Endpoints", "Listen", "parse_listen", "serve"]

log = logging.getLogger(__name__)

LIMITS = Limits(connections=64, head_s=5.0, stalled_s=10.0)
"""Monitoring needs few connections, and half-open ones must not take the files that syncs need."""

Problem = Callable[[], Awaitable[str | None]]


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

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Endpoints:
    """The content of the endpoints.

    Attributes:
        unhealthy: returns, in one line, why the process should be restarted; None if it is healthy.
        unready: returns why the service can't work at present; None if it is ready.
        metrics: returns the text of /metrics.
    """

    unhealthy: Problem
    unready: Problem
    metrics: Callable[[], bytes]


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
        raise BadSetting(f"{text!r} is not an address to listen on; write HOST:PORT, as in 127.0.0.1:9464")
    return Listen(host, port)


@asynccontextmanager
async def serve(listen: Listen, endpoints: Endpoints) -> AsyncIterator[Listen]:
    """Serve the endpoints while the context is active. Yields the address with the actual port.

    Raises:
        CantListen: the address is not available.
    """
    app = web.Application(middlewares=[note_work])
    app.router.add_get("/healthz", _answer(endpoints.unhealthy))
    app.router.add_get("/readyz", _answer(endpoints.unready))

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=endpoints.metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/metrics", metrics)
    async with AsyncExitStack() as serving:
        try:
            port = await serving.enter_async_context(serve_bounded(app, listen.host, listen.port, LIMITS))
        except OSError as error:
            raise CantListen(
                f"can't listen on {listen} ({error.strerror or error}); give another address with --listen"
            ) from error
        yield Listen(listen.host, port)


def _answer(problem: Problem) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_request: web.Request) -> web.Response:
        why = await problem()
        return web.Response(text="ok\n" if why is None else f"{why}\n", status=200 if why is None else 503)

    return handle
