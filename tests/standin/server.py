"""The stand-in server with a middleware that injects faults and logs requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.standin import mishaps
from tests.standin.faults import Fault, Faults
from tests.standin.journal import Endpoint, Journal, LoggedRequest
from thumbtune.standin import server
from thumbtune.standin.catalogue import Catalogue

__all__ = ["StandIn"]


class StandIn(server.StandIn):
    """The stand-in server of `thumbtune.standin`, with `faults` to inject and a `journal` of its requests.

    Args:
        catalogues: the channels, with different ids.
        keys: see the base class, as for `daily_limit`, `feed_lag` and `port`.
        daily_limit: units that each key may spend.
        faults: the faults to inject; the attribute may be replaced at any time.
        feed_lag: number of the newest videos that the feed does not show yet.
        port: the port to listen on.
    """

    def __init__(
        self,
        *catalogues: Catalogue,
        keys: Iterable[str] | None = None,
        daily_limit: int | None = None,
        faults: Faults | None = None,
        feed_lag: int = 0,
        port: int = 0,
    ) -> None:
        super().__init__(
            *catalogues,
            keys=keys,
            daily_limit=daily_limit,
            feed_lag=feed_lag,
            port=port,
            middlewares=[self._observe],
        )
        self.journal = Journal()
        self.faults = faults or Faults()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Release every answer that a `hang` fault delays, now and from now on. Thread-safe."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._released.set)

    async def _close(self) -> None:
        self._released.set()
        await super()._close()

    @web.middleware
    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Apply the plan of faults, and log the request however it ends."""
        fault = self.faults.decide(request.path, request.query)
        status: int | None = None
        try:
            response = await self._carry_out(fault, request, handler)
            status = response.status if response is not None else None
            return response if response is not None else web.Response()
        finally:
            self.journal.add(
                LoggedRequest(
                    endpoint=cast(Endpoint, request.match_info.route.name or "other"),
                    method=request.method,
                    path=request.path,
                    query=dict(request.query),
                    headers={name.lower(): value for name, value in request.headers.items()},
                    status=status,
                    fault=fault.kind if fault else None,
                )
            )

    async def _carry_out(
        self, fault: Fault | None, request: web.Request, handler: Handler
    ) -> web.StreamResponse | None:
        """Return the answer, damaged as the fault says; None when the connection was reset."""
        if fault is None:
            return await handler(request)
        if fault.kind == "reset":
            mishaps.reset(request)
            return None
        if (instead := mishaps.substitute(fault, request.path)) is not None:
            return instead
        response = await handler(request)
        if fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
        elif fault.kind == "hang":
            await mishaps.hold(fault.delay_s, self._released)
        elif isinstance(response, web.Response):
            return await mishaps.damage(fault, request, response)
        return response
