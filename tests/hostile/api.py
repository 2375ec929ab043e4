"""A Data API server that responds with arbitrary bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from collector.settings import Settings
from collector.sync import SyncOptions, SyncReport, sync_channels
from collector.youtube import parse_channel_name
from store.db import Database
from tests.collector.channels import HIGH, hasty_http, jpeg

__all__ = ["CHANNEL_ID", "RawApi", "as_json", "channel_body", "page_body", "video_item", "videos_body"]

CHANNEL_ID = "UC" + "x" * 22
Answer = Callable[[str, Mapping[str, str]], bytes]


class RawApi:
    """Serves `answer(method, query)` as JSON, no feed, and a distinct small thumbnail for every other path."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[str] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/youtube/v3/{method}", self._call)
        app.router.add_get("/pictures/{name}", self._picture)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.host = f"{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _call(self, request: web.Request) -> web.Response:
        self.calls.append(request.match_info["method"])
        body = self.answer(request.match_info["method"], request.query)
        return web.Response(body=body, content_type="application/json")

    async def _picture(self, request: web.Request) -> web.Response:
        return web.Response(body=jpeg(request.match_info["name"], HIGH), content_type="image/jpeg")

    def thumbnails(self, video_id: str) -> dict[str, Any]:
        return {"high": {"url": f"http://{self.host}/pictures/{video_id}"}}

    async def sync(self, database: Database, **options: Any) -> SyncReport:
        base = f"http://{self.host}"
        settings = Settings("key", f"{base}/youtube/v3", f"{base}/feed", (self.host,))
        names = [parse_channel_name(CHANNEL_ID)]
        (report,) = await sync_channels(database, names, settings, SyncOptions(**options), http=hasty_http())
        return report


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def channel_body(title: str = "Channel", **fields: Any) -> dict[str, Any]:
    item = {"id": CHANNEL_ID, "snippet": {"title": title}, **fields}
    return {"kind": "youtube#channelListResponse", "items": [item]}


def page_body(ids: list[Any], **fields: Any) -> dict[str, Any]:
    items = [{"contentDetails": {"videoId": i}, "status": {"privacyStatus": "public"}} for i in ids]
    return {"kind": "youtube#playlistItemListResponse", "items": items, **fields}


def video_item(video_id: str, title: str, thumbnails: object, duration: str = "PT10M") -> dict[str, Any]:
    return {
        "id": video_id,
        "snippet": {"title": title, "thumbnails": thumbnails, "publishedAt": "2020-01-01T00:00:00Z"},
        "contentDetails": {"duration": duration},
    }


def videos_body(items: list[Any]) -> dict[str, Any]:
    return {"kind": "youtube#videoListResponse", "items": items}
