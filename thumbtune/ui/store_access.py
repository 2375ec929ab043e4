"""Access the store from the event loop: opened on demand, read in threads, with a timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from store.db import Database, open_database
from store.errors import DatabaseUnavailable

__all__ = ["StoreAccess"]

T = TypeVar("T")

ANSWERS_IN_S = 10.0
_THREADS = 4


class StoreAccess:
    """Reads the store. It is opened read-only: the model process makes all changes.

    The store may be missing or unusable when the page is started: each request tries again.

    Args:
        url: the store's URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Database | None = None
        self._opening = asyncio.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="page-store")
        self._free = asyncio.Semaphore(_THREADS)
        self._running = 0
        self._left: list[Database] = []
        """Forgotten databases that calls may still use."""

    async def read(self, function: Callable[[Session], T]) -> T:
        """Return a function's result for one consistent state of the store.

        Raises:
            StoreError: the store can't be opened or read, or does not answer in time.
            NotFound: raised by the function.
        """
        try:
            async with asyncio.timeout(ANSWERS_IN_S):
                database = await self._opened()
                return await self._in_thread(lambda: _read(database, function))
        except TimeoutError as error:
            raise DatabaseUnavailable(
                f"the store does not answer within {ANSWERS_IN_S:.0f} s; it may be locked by another program: "
                "try again when that has ended"
            ) from error

    async def _opened(self) -> Database:
        async with self._opening:
            if self._database is None:
                # If the request gives up, the next one gets the store that this call opens.
                call = asyncio.ensure_future(
                    self._in_thread(lambda: open_database(self._url, create=False, read_only=True))
                )
                call.add_done_callback(self._keep)
                return await asyncio.shield(call)
            if (path := self._database.path) is not None and not path.exists():
                self.forget()
                raise DatabaseUnavailable(
                    f"there is no store at {path}; run 'thumbtune sync CHANNEL' first, or name the store with --db"
                )
            return self._database

    def _keep(self, call: asyncio.Future[Database]) -> None:
        if call.cancelled() or call.exception() is not None:
            return
        self.forget()
        self._database = call.result()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        await self._free.acquire()
        # The waiting request may give up, but the thread is free only when the call has ended.
        done = asyncio.get_running_loop().run_in_executor(self._threads, call)
        self._running += 1
        done.add_done_callback(lambda _: self._ended())
        return await asyncio.shield(done)

    def _ended(self) -> None:
        self._running -= 1
        self._free.release()
        self._close_left()

    def _close_left(self) -> None:
        # A connection that is in use would not be closed with its database, but left open.
        while self._left and not self._running:
            self._left.pop().close()

    @property
    def folder(self) -> Path | None:
        """The folder of an SQLite store, even if it does not exist; None for another database, or an invalid URL."""
        try:
            url = make_url(self._url)
        except (ArgumentError, ValueError):
            return None
        is_file = url.get_backend_name() == "sqlite" and url.database
        return Path(str(url.database)).absolute().parent if is_file else None

    def forget(self) -> None:
        """Close the store; the next request opens it again."""
        if self._database is not None:
            self._left.append(self._database)
            self._database = None
            self._close_left()

    def close(self) -> None:
        """Close the store for good; calls that still wait for a locked store are abandoned."""
        self.forget()
        for database in self._left:
            database.close()
        self._left.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _read(database: Database, function: Callable[[Session], T]) -> T:
    with database.read() as session:
        return function(session)
