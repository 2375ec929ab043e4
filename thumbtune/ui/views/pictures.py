"""Image files: stored thumbnails by their digest, which never change, and uploads."""

from __future__ import annotations

import re

from aiohttp import web

from store.youtube import picture_file
from thumbtune.ui.site import SITE

__all__ = ["stored", "uploaded"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})


async def stored(request: web.Request) -> web.Response:
    """GET /picture/SHA256."""
    digest = request.match_info["sha256"]
    etag = f'"{digest}"'
    if not _DIGEST.fullmatch(digest):
        raise web.HTTPNotFound
    found = await request.app[SITE].store.read(lambda session: picture_file(session, digest))
    if found is None or found[1] not in _SHOWN:
        raise web.HTTPNotFound
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={"ETag": etag})
    return web.Response(body=found[0], content_type=found[1], headers={"ETag": etag})


async def uploaded(request: web.Request) -> web.Response:
    """GET /upload/NAME: an uploaded picture, while it is kept."""
    found = request.app[SITE].uploads.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    return web.Response(body=found.content, content_type=found.checked.mime)
