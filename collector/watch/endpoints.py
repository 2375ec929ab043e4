"""The HTTP endpoints of the service: /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from collector.http import Limits, Listen, note_work, serve_bounded

__all__ = ["Endpoints", "serve"]

LIMITS = Limits(connections=64, head_s=5.0, stalled_s=10.0)
"""Monitoring needs few connections, and half-open ones must not take the files that syncs need."""

Problem = Callable[[], Awaitable[str | None]]


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
    async with serve_bounded(app, listen, LIMITS) as address:
        yield address


def _answer(problem: Problem) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_request: web.Request) -> web.Response:
        why = await problem()
        return web.Response(text="ok\n" if why is None else f"{why}\n", status=200 if why is None else 503)

    return handle
