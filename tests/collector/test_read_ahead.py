"""A complete listing requests the next page before it has written the current page."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from store.db import Database
from tests.hostile.api import RawApi, as_json, channel_body, page_body, video_item, videos_body

IDS = [f"video{number:06d}" for number in range(6)]


async def test_the_next_page_is_requested_while_the_store_is_locked(sqlite_database: Database) -> None:
    other = sqlite3.connect(sqlite_database.path or "", isolation_level=None)

    def answer(method: str, query: Mapping[str, str]) -> bytes:
        if method == "channels":
            return as_json(channel_body())
        if method == "videos":
            return as_json(
                videos_body([video_item(i, f"Title {i}", api.thumbnails(i)) for i in query["id"].split(",")])
            )
        place = int(query.get("pageToken", "0"))
        if place == 0:
            other.execute("BEGIN IMMEDIATE")
        elif place == 1:
            other.execute("ROLLBACK")  # without a request ahead, nothing releases the store
        following = {} if place == 2 else {"nextPageToken": str(place + 1)}
        return as_json(page_body(IDS[2 * place : 2 * place + 2], pageInfo={"totalResults": 6}, **following))

    api = RawApi(answer)
    async with api:
        report = await api.sync(sqlite_database, mode="full")
    other.close()
    assert (report.status, report.listed, report.pictures_fetched) == ("complete", 6, 6)
