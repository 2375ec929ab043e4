"""Slow bodies time out, and do not delay other responses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from collector.errors import NetworkError
from collector.http import Answer, Http, Request
from collector.http.bodies import LARGE_BYTES, Pace
from collector.http.session import Pauses

ONCE = Pauses(tries=1)
LARGE = LARGE_BYTES + 200_000
FAST, SLOW = "/large", "/slow"


@asynccontextmanager
async def server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Serve `/large`, a complete body, and `/slow`, which sends most of a body and then single bytes with pauses.

    Yields the URL, and an event that is set when a client has read most of the slow body.
    """
    read, writers = asyncio.Event(), list[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        if path == FAST:
            writer.write(b"x" * LARGE)
        else:
            writer.write(b"x" * (LARGE - 1000))
            await writer.drain()
            read.set()
            with contextlib.suppress(ConnectionError):
                for _ in range(999):
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", read
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def whole(answer: Answer) -> int:
    return len(answer.body)


async def thumbnail(http: Http, url: str) -> int:
    async with http.turn():
        return await http.get(Request(url, max_bytes=8 << 20), whole)


@pytest.mark.slow
async def test_a_slow_thumbnail_does_not_delay_the_api_and_times_out() -> None:
    async with server() as (url, read), Http(pauses=ONCE, pace=Pace(0.5, 1 << 10)) as http:
        slow = asyncio.create_task(thumbnail(http, url + SLOW))
        await read.wait()
        assert await http.get(Request(url + FAST, max_bytes=8 << 20), whole) == LARGE
        assert not slow.done()
        with pytest.raises(NetworkError):
            await slow
        assert await thumbnail(http, url + FAST) == LARGE, "the slot is released"


@pytest.mark.slow
async def test_waiting_for_a_slot_does_not_count_as_server_time() -> None:
    async with server() as (url, _), Http(pauses=ONCE, timeout_s=0.5, pace=Pace(0.2, 1 << 10)) as http:
        async with http.turn():
            await http.get(Request(url + FAST, max_bytes=8 << 20), whole)
            waiting = asyncio.create_task(thumbnail(http, url + FAST))
            done, _ = await asyncio.wait({waiting}, timeout=1.5)
            assert not done
        assert await waiting == LARGE
