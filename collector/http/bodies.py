"""Reads response bodies: bounds their size, their pace, and how many large bodies are in memory at a time."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass

import aiohttp

__all__ = ["LARGE_AT_ONCE", "LARGE_BYTES", "Pace", "Turn", "read_body"]

CHUNK_BYTES = 1 << 16
LARGE_BYTES = 512 << 10
LARGE_AT_ONCE = 1
"""The most response bodies above `LARGE_BYTES` to hold at a time, so that endless responses can't exhaust the memory.
Real thumbnails are smaller, and so are nearly all API responses. Thumbnails and API responses are counted apart."""


@dataclass
class Turn:
    """Records whether its block holds one of the `LARGE_AT_ONCE` slots."""

    slots: asyncio.Semaphore
    taken: bool = False

    async def take(self, limit: asyncio.Timeout) -> None:
        """Wait for a slot; the time of waiting does not count against the limit of the request."""
        if self.taken:
            return
        loop, until = asyncio.get_running_loop(), limit.when()
        began = loop.time()
        limit.reschedule(None)
        await self.slots.acquire()
        self.taken = True
        limit.reschedule(None if until is None else until + loop.time() - began)

    def end(self) -> None:
        """Release the slot."""
        if self.taken:
            self.taken = False
            self.slots.release()


@dataclass(frozen=True, slots=True)
class Pace:
    """The slowest body to accept: each period of `seconds` must bring `least` bytes or the end of the body."""

    seconds: float = 10.0
    least: int = 8 << 10


class _Body:
    """Reads a body in chunks.

    Args:
        content: the response's stream.
        pace: the slowest body to accept.
    """

    def __init__(self, content: aiohttp.StreamReader, pace: Pace) -> None:
        self._content, self._pace = content, pace
        self.restart()

    def restart(self) -> None:
        """Restart the measurement, after a wait that the server did not cause."""
        self._until, self._size = asyncio.get_running_loop().time() + self._pace.seconds, 0

    async def read(self) -> bytes:
        """Return the next chunk; b"" at the end.

        Raises:
            TimeoutError: the body comes too slowly.
        """
        while True:
            try:
                async with asyncio.timeout_at(self._until):
                    chunk = await self._content.read(CHUNK_BYTES)
                self._size += len(chunk)
                return chunk
            except TimeoutError:
                if self._size < self._pace.least:
                    raise
                self.restart()


async def read_body(
    response: aiohttp.ClientResponse, max_bytes: int, pace: Pace, turn: Turn, limit: asyncio.Timeout
) -> tuple[bytes, bool]:
    """Read a body in chunks, so that the server does not decide how much memory it takes.

    Args:
        response: the response, of which only the headers were read.
        max_bytes: the largest body to accept, in bytes after decompression.
        pace: the slowest body to accept.
        turn: takes a slot for a large body; the caller ends it.
        limit: the time limit of the request, which is extended by the wait for a slot.

    Returns:
        The body, and True; b"" and False if it exceeds `max_bytes`.

    Raises:
        TimeoutError: the body comes too slowly.
    """
    announced = response.content_length
    if announced is not None and announced > max_bytes:
        response.close()
        return b"", False
    # BytesIO grows in place and returns its bytes without a copy; joining chunks would take twice the memory.
    body, size, chunks = io.BytesIO(), 0, _Body(response.content, pace)
    if announced is not None and announced > LARGE_BYTES:
        # Wait before the first chunk, so that waiting requests hold no data.
        await turn.take(limit)
        chunks.restart()
    while chunk := await chunks.read():
        size += len(chunk)
        if size > LARGE_BYTES and not turn.taken:
            await turn.take(limit)
            chunks.restart()
        if size > max_bytes:
            response.close()
            return b"", False
        body.write(chunk)
    return body.getvalue(), True
