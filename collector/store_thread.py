"""The database, from the event loop: every call runs on one thread of its own, so the loop never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy.orm import Session

from store.db import Database

__all__ = ["StoreThread", "to_its_end"]

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """Runs functions that take a session, one after another.

    Whoever waits may be cancelled: a transaction that has begun is finished all the same, whole. What became of it is
    known to who waits with `to_its_end`.
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
        """The function's result over one consistent state of the store."""

        def call() -> T:
            with self._database.read() as session:
                return function(session, *args, **kwargs)

        return await self._run(call)

    async def write(self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, and what it wrote committed in one transaction.

        Raises:
            StoreError: the database failed, and nothing was written.
        """

        def call() -> T:
            with self._database.write() as session:
                return function(session, *args, **kwargs)

        return await self._run(call)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


async def to_its_end(write: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """Wait for a write until it has ended, however often the waiter is cancelled: what it writes was paid for.

    Its result, and whether the waiter was cancelled meanwhile; that is the caller's to act on.

    Raises:
        Exception: whatever the write raises, also when the waiter was cancelled.
    """
    writing, cancelled = asyncio.ensure_future(write), False
    while not writing.done():
        try:
            await asyncio.wait({writing})
        except asyncio.CancelledError:
            cancelled = True
    return writing.result(), cancelled
