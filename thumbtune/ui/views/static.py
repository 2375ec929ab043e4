"""Style sheets, the script and icons. Sent from memory: aiohttp's file responses bypass the limits on slow clients."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from aiohttp import web

__all__ = ["show"]

_FOLDER = Path(__file__).parent.parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """{name: (content, ETag)}."""
    contents = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in _TYPES}
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"') for name, content in contents.items()}


async def show(request: web.Request) -> web.Response:
    """GET /static/NAME."""
    name = request.match_info["name"]
    found = _files().get(name)
    if found is None:
        raise web.HTTPNotFound
    content, etag = found
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={"ETag": etag})
    return web.Response(body=content, content_type=_TYPES[Path(name).suffix], charset="utf-8", headers={"ETag": etag})
