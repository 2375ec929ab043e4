"""Runs database calls on one dedicated thread, so that the event loop never blocks on the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy.orm import Session

from store.db import Database
from store.youtube import PictureOutcome, keep_files

__all__ = ["StoreThread", "shielded"]

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """Runs functions that take a session, one at a time.

    Cancelling a caller does not stop a transaction that has started: it still commits or fails as a whole. Use
    `shielded` to learn its result.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)

    async def read(self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a read transaction and return its result."""

        def call() -> T:
            with self._database.read() as session:
                return function(session, *args, **kwargs)

        return await self._run(call)

    async def write(self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one write transaction, commit, and return its result.

        Raises:
            StoreError: the database failed; nothing was written.
        """

        def call() -> T:
            with self._database.write() as session:
                return function(session, *args, **kwargs)

        return await self._run(call)

    async def keep(self, outcomes: Sequence[PictureOutcome]) -> list[PictureOutcome]:
        """Write fetched thumbnails to the store's folder or bucket, if it has one; see `store.youtube.keep_files`.

        Runs on another thread than the transactions, so that they do not wait for it.

        Raises:
            PicturesUnavailable: the folder or bucket can't be written now.
        """
        if self._database.pictures is None:
            return list(outcomes)
        return await asyncio.to_thread(keep_files, self._database, outcomes)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


async def shielded(write: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """Wait until a write has ended, even if the caller is cancelled: the data to write has already cost quota units.

    Returns:
        The write's result, and whether the caller was cancelled meanwhile. The caller must act on the cancellation.

    Raises:
        Exception: any error of the write, also after a cancellation.
    """
    writing, cancelled = asyncio.ensure_future(write), False
    while not writing.done():
        try:
            await asyncio.wait({writing})
        except asyncio.CancelledError:
            cancelled = True
    return writing.result(), cancelled
