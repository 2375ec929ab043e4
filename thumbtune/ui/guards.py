"""Decide which requests are answered, and set the headers of every response.

- `Host` must be a name of this server. Otherwise a foreign page could reach it through a domain that resolves to this
  machine (DNS rebinding).
- A request that changes something must come from a page of this server. Browsers send its origin in `Sec-Fetch-Site`
  and `Origin` (as datasette checks, https://github.com/simonw/datasette/pull/2689).
- With a token, every page except the login page requires the cookie that the login sets.
"""

from __future__ import annotations

import hmac
from urllib.parse import quote, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from thumbtune.ui.settings import PageSettings, host_name

__all__ = ["COOKIE", "HEADERS", "LONGEST_LINE", "add_headers", "guard", "safe_next"]

COOKIE = "thumbtune"
LONGEST_LINE = 32 << 10
"""The limit for a request's first line, in bytes. A link with 50 titles must fit, also as a parameter of the login."""
_SAFE = frozenset({"GET", "HEAD"})
_OPEN = ("/healthz", "/login", "/static/")
_YEAR_S = 365 * 24 * 3600

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def guard(settings: PageSettings) -> Middleware:
    """Create the middleware that refuses disallowed requests."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = _strange_host(request, settings) or _strange_origin(request)
        if why is not None:
            raise web.HTTPForbidden(text=f"{why}\n")
        if settings.token is not None and not request.path.startswith(_OPEN) and not is_logged_in(request, settings):
            if request.method not in _SAFE:
                raise web.HTTPForbidden(text="log in first\n")
            raise web.HTTPSeeOther(_login_for(request))
        return await handler(request)

    return refuse


def _login_for(request: web.Request) -> str:
    """Return the link to the login that leads back to the requested page; without its query if that is too long."""
    login = f"/login?next={quote(request.path_qs, safe='/?=')}"
    return login if len(login) < LONGEST_LINE - 100 else f"/login?next={quote(request.path, safe='/')}"


def _strange_host(request: web.Request, settings: PageSettings) -> str | None:
    given = request.headers.getall("Host", [])
    name = host_name(given[0]) if len(given) == 1 else None
    if name in settings.hosts:
        return None
    return "this host name is not allowed; use the server's address, or allow the name with --allow-host"


def _strange_origin(request: web.Request) -> str | None:
    if request.method in _SAFE:
        return None
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = origin is None or _netloc(origin) == request.headers.get("Host")
    if own and site in (None, "same-origin", "none"):
        return None
    return "only pages of this server may send forms to it"


def is_logged_in(request: web.Request, settings: PageSettings) -> bool:
    """Whether the request has the login cookie; compared in constant time."""
    # aiohttp decodes bytes that are not UTF-8 to surrogates.
    given = request.cookies.get(COOKIE, "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given, settings.cookie.encode())


def safe_next(target: str) -> str:
    """Return the path to go to after the login: only a path of this server is accepted, else `/`."""
    own = target.startswith("/") and not target.startswith(("//", "/\\")) and _netloc(target) == ""
    return target if own and target.isprintable() else "/"


def _netloc(url: str) -> str | None:
    """Return a URL's host and port, empty if it has none; None if it can't be parsed."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers of every response, including errors. A signal handler of the application."""
    response.headers.update(HEADERS)
    response.headers["Server"] = "thumbtune"
    if request.path.startswith("/picture/") and response.status == 200:
        response.headers["Cache-Control"] = f"private, max-age={_YEAR_S}, immutable"
    elif request.path.startswith("/static/") and response.status == 200:
        response.headers["Cache-Control"] = "no-cache"
    else:
        response.headers["Cache-Control"] = "no-store"
