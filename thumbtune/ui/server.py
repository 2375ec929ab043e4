"""Create the page's application and serve it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from collector.http import Limits, Listen, note_work, serve_bounded
from thumbtune.ui.guards import LONGEST_LINE, add_headers, guard
from thumbtune.ui.settings import CantServe, PageSettings
from thumbtune.ui.site import SITE, Site, show_errors
from thumbtune.ui.views import add_routes

__all__ = ["serve_page"]

log = logging.getLogger(__name__)

LONGEST_HEADER = 16 << 10
"""In bytes."""
MOST_HEADERS = 64
FORM_BYTES = 128 << 10
"""The limit for a form without files; forms with files have their own limits."""


def make_application(site: Site) -> web.Application:
    """Return the application for a site."""
    application = web.Application(
        middlewares=[note_work, show_errors, guard(site.settings)], client_max_size=FORM_BYTES, logger=log
    )
    application[SITE] = site
    application.on_response_prepare.append(add_headers)
    application.router.add_get("/healthz", _healthz)
    add_routes(application)
    return application


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


@asynccontextmanager
async def serve_page(settings: PageSettings, limits: Limits | None = None) -> AsyncIterator[Listen]:
    """Serve the page while the block runs; yield the address, with the actual port.

    Raises:
        CantListen: the address is not available.
        CantServe: other machines can reach the address, and there is no token.
    """
    check_settings(settings)
    site = Site.of(settings)
    application = make_application(site)
    serving = serve_bounded(
        application,
        settings.address,
        limits,
        max_line_size=LONGEST_LINE,
        max_field_size=LONGEST_HEADER,
        max_headers=MOST_HEADERS,
        lingering_time=2.0,
    )
    try:
        async with serving as address, site.uploads.opened():
            yield address
    finally:
        await site.close()


def check_settings(settings: PageSettings) -> None:
    """Refuse settings that would give others access by mistake.

    Raises:
        CantServe: the address is not loopback, and the token or an allowed host name is missing.
    """
    if settings.address.is_loopback:
        return
    if settings.token is None:
        raise CantServe(
            f"other machines can reach {settings.address}; require a token from visitors with --token-file FILE"
        )
    if settings.address.is_any and not settings.allowed_hosts:
        raise CantServe(
            f"{settings.address} means every address of this machine; name the hosts that requests may use with "
            "--allow-host NAME"
        )
