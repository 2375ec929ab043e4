"""The page's application, and serving it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from thumbtune.ui.connections import Connections, Limits
from thumbtune.ui.guards import add_headers, guard
from thumbtune.ui.settings import Address, CantServe, PageSettings
from thumbtune.ui.site import HERE, SITE, Site, show_errors
from thumbtune.ui.views import add_routes

__all__ = ["make_application", "serve_page"]

log = logging.getLogger(__name__)

LONGEST_LINE = 16 << 10
"""Of a request's first line and of each header: a link with 50 titles has to fit."""
MOST_HEADERS = 64
FORM_BYTES = 128 << 10
"""Of a form without files; those with files have bounds of their own."""
OPEN_FOR_S = 1.0
"""How long a request that is under way is waited for at the end."""

CONNECTIONS: web.AppKey[Connections] = web.AppKey("connections", Connections)


def make_application(site: Site) -> web.Application:
    """Return the application for a site."""
    application = web.Application(
        middlewares=[_note_work, show_errors, guard(site.settings)], client_max_size=FORM_BYTES, logger=log
    )
    application[SITE] = site
    application.on_response_prepare.append(add_headers)
    application.router.add_get("/healthz", _healthz)
    application.router.add_static("/static/", HERE / "static")
    add_routes(application)
    return application


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


@web.middleware
async def _note_work(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection that its request's head has come, and when the next one may begin."""
    connections = request.app.get(CONNECTIONS)
    transport = request.transport
    if connections is not None:
        connections.working(transport, yes=True)
    try:
        return await handler(request)
    finally:
        if connections is not None:
            connections.working(transport, yes=False)


@asynccontextmanager
async def serve_page(settings: PageSettings, limits: Limits | None = None) -> AsyncIterator[Address]:
    """Serve the page meanwhile; yields the address, with the port that was taken.

    Raises:
        CantServe: the address is not available, or is open to others without a token.
    """
    check_settings(settings)
    site = Site.of(settings)
    application = make_application(site)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=OPEN_FOR_S,
        max_line_size=LONGEST_LINE,
        max_field_size=LONGEST_LINE,
        max_headers=MOST_HEADERS,
        lingering_time=2.0,
    )
    connections = application[CONNECTIONS] = Connections(lambda: _protocol(runner), limits or Limits())
    await runner.setup()
    loop = asyncio.get_running_loop()
    try:
        try:
            server = await loop.create_server(connections, settings.address.host, settings.address.port, backlog=128)
        except OSError as error:
            raise CantServe(
                f"{settings.address} can't be listened on ({error.strerror or error}); "
                "give another address with --listen"
            ) from error
        async with site.uploads.opened():
            yield Address(settings.address.host, server.sockets[0].getsockname()[1])
        server.close()
    finally:
        await site.close()
        await runner.cleanup()


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None
    return runner.server()


def check_settings(settings: PageSettings) -> None:
    """Refuse what would let others in by mistake.

    Raises:
        CantServe: beyond loopback there is no token, or no name that requests may call this server.
    """
    if settings.address.is_loopback:
        return
    if settings.token is None:
        raise CantServe(
            f"others can reach {settings.address}; give a token that they have to know, with --token-file FILE"
        )
    if settings.address.is_any and not settings.allowed_hosts:
        raise CantServe(
            f"{settings.address} stands for every name of this machine; name those that requests may use, "
            "with --allow-host NAME"
        )
