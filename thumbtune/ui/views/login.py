"""Log in with the token, if one is required."""

from __future__ import annotations

import hmac

from aiohttp import web

from thumbtune.ui.forms import read_fields
from thumbtune.ui.guards import COOKIE, safe_next
from thumbtune.ui.site import SITE

__all__ = ["log_in", "show"]

_MONTH_S = 30 * 24 * 3600


async def show(request: web.Request) -> web.Response:
    """GET /login."""
    return _form(request, request.query.get("next", "/"))


async def log_in(request: web.Request) -> web.Response:
    """POST /login: the token, in a form."""
    settings = request.app[SITE].settings
    sent = await read_fields(request)
    token, target = sent.first("token"), safe_next(sent.first("next"))
    expected = settings.token or ""
    if not hmac.compare_digest(token.strip().encode(), expected.encode()) or not expected:
        return _form(request, target, wrong=True)
    response = web.Response(status=303, headers={"Location": target})
    # Behind a TLS proxy, the browser sends an https origin. The cookie is then never sent without TLS.
    secure = request.headers.get("Origin", "").startswith("https://")
    response.set_cookie(
        COOKIE, settings.cookie, max_age=_MONTH_S, httponly=True, samesite="Strict", secure=secure, path="/"
    )
    return response


def _form(request: web.Request, target: str, *, wrong: bool = False) -> web.Response:
    site = request.app[SITE]
    return site.page(
        request, "login.html", status=403 if wrong else 200, active="", target=safe_next(target), wrong=wrong
    )
