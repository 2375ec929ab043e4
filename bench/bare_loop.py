"""Fetch, decode check and insert, and nothing else: what a sync's rate is to be compared with.

    python -m bench.bare_loop URLS STORE

URLS is a file of one address a line, STORE a SQLite file to be made. Nothing is listed, read from the API, tried again
or kept besides the pictures: the difference is what a real sync adds.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp

from collector.sync.batches import PICTURES_A_WRITE
from collector.sync.pipeline import PICTURES_AT_ONCE
from collector.thumbnails.check import check_picture

__all__ = ["fetch"]

Row = tuple[str, bytes, str, int, int]


async def fetch(urls: list[str], store: Path) -> None:
    """Fetch all, and insert them in as large transactions as a sync does."""
    database = sqlite3.connect(store, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE picture (sha256 TEXT PRIMARY KEY, bytes BLOB, mime TEXT, width INT, height INT)")
    loop, waiting = asyncio.get_running_loop(), iter(urls)
    rows: list[Row] = []
    with ThreadPoolExecutor(1) as thread:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

            async def work() -> None:
                for url in waiting:
                    async with session.get(url) as response:
                        data = await response.read()
                    checked = check_picture(data)
                    rows.append((checked.sha256, data, checked.mime, checked.width, checked.height))
                    if len(rows) >= PICTURES_A_WRITE:
                        batch = rows[:]
                        rows.clear()
                        await loop.run_in_executor(thread, _insert, database, batch)

            await asyncio.gather(*(work() for _ in range(PICTURES_AT_ONCE)))
            _insert(database, rows)
    database.close()


def _insert(database: sqlite3.Connection, rows: list[Row]) -> None:
    with database:
        database.executemany("INSERT OR IGNORE INTO picture VALUES (?, ?, ?, ?, ?)", rows)


if __name__ == "__main__":
    asyncio.run(fetch(Path(sys.argv[1]).read_text(encoding="utf-8").split(), Path(sys.argv[2])))
