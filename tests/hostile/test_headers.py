"""Headers of thumbnail hosts with bytes that are not valid in any encoding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from collector.settings import Settings
from collector.sync import SyncOptions, SyncReport, sync_channels
from collector.youtube import parse_channel_name
from store.db import Database
from tests.collector.channels import HIGH, contents, failures, hasty_http, jpeg
from tests.hostile.api import CHANNEL_ID, RawApi, as_json, channel_body, page_body, video_item, videos_body

VIDEO = "video000000"


@asynccontextmanager
async def answering(head: bytes) -> AsyncIterator[str]:
    """`host:port` of a server that sends these headers and an image for every request."""
    body = jpeg(VIDEO, HIGH)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def sync_from(database: Database, host: str) -> SyncReport:
    """Sync a channel whose only thumbnail is on this host."""
    thumbnails = {"high": {"url": f"http://{host}/x"}}
    answers = {
        "channels": channel_body(),
        "playlistItems": page_body([VIDEO]),
        "videos": videos_body([video_item(VIDEO, "Title", thumbnails)]),
    }
    async with RawApi(lambda method, _: as_json(answers[method])) as api:
        settings = Settings("key", f"http://{api.host}/youtube/v3", f"http://{api.host}/feed", (host,))
        names = [parse_channel_name(CHANNEL_ID)]
        (report,) = await sync_channels(database, names, settings, SyncOptions(), http=hasty_http())
        return report


async def test_a_redirect_with_invalid_utf_8_is_a_storable_reason(database: Database) -> None:
    async with answering(b"HTTP/1.1 302 Found\r\nLocation: http://\xff\x9b.example/\r\n") as host:
        assert (await sync_from(database, host)).status == "partial"
    assert r"\udcff\udc9b.example is not an allowed thumbnail host" in failures(database)[VIDEO]


@pytest.mark.parametrize("name", [b"ETag", b"Last-Modified"])
async def test_validators_with_invalid_utf_8_are_not_sent(database: Database, name: bytes) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n%s: \xff\x9b\r\n" % name) as host:
        assert (await sync_from(database, host)).status == "complete"
    assert contents(database)[VIDEO][4] is not None
