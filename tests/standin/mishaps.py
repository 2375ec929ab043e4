"""Apply a fault to one aiohttp request."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

from aiohttp import web

from tests.standin.faults import Fault

__all__ = ["damage", "hold", "reset", "substitute"]

_HTML = (
    "<!DOCTYPE html>\n<html lang=en>\n<title>Error</title>\n<p><b>Sorry.</b> "
    "<ins>We're having trouble, please try again.</ins>\n</html>\n"
)
_GOOGLE_STATUS = {
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_REASONS = {429: "rateLimitExceeded", 503: "SERVICE_UNAVAILABLE"}


def substitute(fault: Fault, path: str) -> web.Response | None:
    """Return the answer that the fault gives in place of the real one, or None (see `Fault`)."""
    if fault.kind == "status":
        return _status(fault, path)
    if fault.kind == "html":
        return web.Response(text=_HTML, content_type="text/html")
    if fault.kind == "body":
        return web.Response(body=fault.body, status=fault.status or 200, content_type=fault.content_type)
    if fault.kind == "redirect":
        return web.Response(status=fault.status or 302, headers={"Location": fault.location or "/"})
    return None


def reset(request: web.Request) -> None:
    """End the connection with a TCP reset: unsent data is dropped, and the client's read fails."""
    transport = request.transport
    if transport is None:  # the client has left already
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def damage(fault: Fault, request: web.Request, response: web.Response) -> web.StreamResponse:
    """Truncate a finished answer as the fault says; an answer without a body is left unchanged."""
    body = response.body
    if not isinstance(body, bytes) or len(body) < 2:
        return response
    half = body[: len(body) // 2]
    if fault.kind == "cut_json":
        return web.Response(body=half, status=response.status, headers=_kept_headers(response))
    cut = web.StreamResponse(status=response.status, headers=_kept_headers(response))
    cut.content_length = len(body)
    cut.force_close()
    await cut.prepare(request)
    await cut.write(half)
    if request.transport is not None:
        request.transport.close()
    return cut


async def hold(seconds: float, released: asyncio.Event) -> None:
    """Wait until released, at most `seconds`; cancelled at once when the client disconnects."""
    try:
        async with asyncio.timeout(seconds):
            await released.wait()
    except TimeoutError:
        pass


def _status(fault: Fault, path: str) -> web.Response:
    status = fault.status or 500
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if not path.startswith("/youtube/"):
        return web.Response(text=_HTML, status=status, content_type="text/html", headers=headers)
    message = "The service is currently unavailable." if status == 503 else "Internal error encountered."
    if status == 429:
        message = "Resource has been exhausted (e.g. check quota)."
    item = {"message": message, "domain": "global", "reason": _REASONS.get(status, "backendError")}
    error = {"code": status, "message": message, "errors": [item]}
    if status in _GOOGLE_STATUS:
        error["status"] = _GOOGLE_STATUS[status]
    body = json.dumps({"error": error}).encode()
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8", headers=headers)


def _kept_headers(response: web.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
