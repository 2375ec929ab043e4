"""The aiohttp application: routes, keys and quota, and conditional requests for thumbnails."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from thumbtune.standin.api import Api
from thumbtune.standin.catalogue import Catalogue, ThumbnailSize
from thumbtune.standin.directory import Directory
from thumbtune.standin.errors import ApiError
from thumbtune.standin.feed import feed_xml
from thumbtune.standin.pictures import Pictures, placeholder
from thumbtune.standin.quota import PRICES, Quota
from thumbtune.standin.resources import PICTURE_FILES

__all__ = ["Served", "Site"]

_SIZES: dict[str, ThumbnailSize] = {file: size for size, (file, _, _) in PICTURE_FILES.items()}
_NOT_FOUND = "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)</title>\n<p><b>404.</b>\n</html>\n"


class Served(Protocol):
    """The content that a site serves. It is read for each request, so it may change at any time."""

    catalogues: tuple[Catalogue, ...]
    keys: Collection[str] | None
    quota: Quota
    feed_lag: int

    @property
    def url(self) -> str:
        """The root URL of the server."""


@web.middleware
async def _with_google_page(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Replace aiohttp's own 404 and 405 pages by Google's."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return web.Response(text=_NOT_FOUND, status=error.status, content_type="text/html", headers=_allowed(error))


class Site:
    """Handles the requests of a server."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._pictures = Pictures()
        self._directory = Directory(lambda: served.catalogues)
        self._api = Api(lambda: served.catalogues, lambda: served.url)

    def application(self, middlewares: Sequence[Middleware] = ()) -> web.Application:
        """Return the aiohttp application with these middlewares (the outermost first)."""
        app = web.Application(middlewares=[*middlewares, _with_google_page])
        for method in PRICES:
            app.router.add_get(f"/youtube/v3/{method}", self._list, name=method)
        app.router.add_get("/feeds/videos.xml", self._feed, name="feed")
        app.router.add_get("/vi/{id}/{file}", self._picture, name="picture")
        return app

    async def _list(self, request: web.Request) -> web.Response:
        method = request.match_info.route.name or ""
        try:
            self._pay(request, method)
            body = self._api.answer(method, {name: request.query.getall(name) for name in request.query})
        except ApiError as error:
            return _json(error.body, error.status)
        return _json(body)

    def _pay(self, request: web.Request, method: str) -> None:
        key = request.headers.get("X-Goog-Api-Key") or request.query.get("key")
        if not key:
            raise ApiError.missing_key()
        if self._served.keys is not None and key not in self._served.keys:
            raise ApiError.invalid_key()
        # As on YouTube, an invalid call with a valid key costs as much as a valid call.
        if not self._served.quota.charge(key, PRICES[method]):
            raise ApiError.quota_exceeded()

    async def _feed(self, request: web.Request) -> web.Response:
        catalogue = self._directory.channel(request.query.get("channel_id"))
        if catalogue is None:
            raise web.HTTPNotFound
        body = feed_xml(catalogue, self._served.url, self._served.feed_lag)
        return web.Response(body=body, content_type="text/xml", charset="UTF-8")

    async def _picture(self, request: web.Request) -> web.Response:
        video_id, file = request.match_info["id"], request.match_info["file"]
        found = self._directory.video(video_id)
        if found is None or file not in _SIZES or _SIZES[file] in found[1].missing_sizes:
            return web.Response(body=placeholder(), status=404, content_type="image/jpeg")
        video = found[1]
        changed = video.picture_updated_at or video.published_at
        etag = self._pictures.known_etag(video, file)
        if etag is None or not _unchanged(request, etag, changed):
            picture = await self._pictures.get(video, file)
            etag = picture.etag
        headers = {
            "ETag": f'"{etag}"',
            "Last-Modified": format_datetime(changed.astimezone(UTC), usegmt=True),
            "Cache-Control": "public, max-age=7200",
        }
        if _unchanged(request, etag, changed):
            return web.Response(status=304, headers=headers)
        return web.Response(body=picture.body, content_type="image/jpeg", headers=headers)


def _unchanged(request: web.Request, etag: str, changed: datetime) -> bool:
    """Whether the client's copy is current (RFC 9110, section 13.2.2: If-None-Match takes precedence over the date)."""
    if request.if_none_match is not None:
        return any(known.value in (etag, "*") for known in request.if_none_match)
    since = request.if_modified_since
    return since is not None and changed.replace(microsecond=0) <= since


def _json(body: Mapping[str, Any], status: int = 200) -> web.Response:
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return web.Response(body=text, status=status, content_type="application/json", charset="utf-8")


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
