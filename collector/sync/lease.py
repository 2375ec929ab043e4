"""Several processes on one store: each channel's running sync is its lease, kept up by signs of life."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.orm import Session

from collector.errors import ChannelBusy
from collector.sync.run import Run
from store.errors import StoreError
from store.processes import is_alive
from store.tables import SyncMode
from store.training import this_machine
from store.youtube import LEASE, begin_sync, end_stale_syncs, lock_channel, say_alive, sync_of_another

__all__ = ["signs_of_life", "take_channel"]

log = logging.getLogger(__name__)

SIGN_OF_LIFE_S = LEASE.total_seconds() / 10


def take_channel(
    session: Session, channel_id: str, mode: SyncMode, *, alone_since: datetime | None, now: datetime
) -> int:
    """Begin a run of the channel and return its id; runs whose process is gone are marked so.

    Args:
        session: in a write transaction.
        channel_id: a channel in the store.
        mode: the run's.
        alone_since: only if no other process is syncing the channel, or has synced it since then; None: in any case.
        now: the time.

    Raises:
        ChannelBusy: another process is, or has.
        NotFound: it was removed.
    """
    # Locked, so that it can't be removed meanwhile.
    lock_channel(session, channel_id)
    host = this_machine()
    end_stale_syncs(session, channel_id, host=host, is_alive=is_alive, now=now)
    other = None if alone_since is None else sync_of_another(session, channel_id, alone_since, now)
    if other is not None:
        does = "is syncing it" if other.status == "running" else "has just synced it"
        raise ChannelBusy(f"process {other.pid} on {other.host} {does}; nothing is to be done")
    return begin_sync(session, channel_id, mode, host=host, pid=os.getpid(), now=now)


@asynccontextmanager
async def signs_of_life(run: Run) -> AsyncIterator[None]:
    """Note every minute that the run still runs, also while it waits for an answer that is long in coming."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(SIGN_OF_LIFE_S)
            try:
                await run.clients.store.write(say_alive, run.id, run.clients.now())
            except StoreError as error:
                log.warning("the sync %d could not note that it still runs: %s", run.id, error)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
