"""Coordinates processes on one store: a running sync is the lease of its channel, renewed by a heartbeat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.orm import Session

from collector.errors import ChannelBusy
from collector.sync.run import Run
from store.errors import StoreError
from store.processes import is_alive, this_process
from store.tables import SyncMode
from store.training import this_machine
from store.youtube import LEASE, begin_sync, end_stale_syncs, lock_channel, record_heartbeat, sync_of_another

__all__ = ["heartbeat", "take_channel"]

log = logging.getLogger(__name__)

SIGN_OF_LIFE_S = LEASE.total_seconds() / 10


def take_channel(
    session: Session, channel_id: str, mode: SyncMode, *, alone_since: datetime | None, now: datetime
) -> int:
    """Begin a run of a channel and return its id. Marks runs of dead processes as ended.

    Args:
        session: a session in a write transaction.
        channel_id: a channel in the store.
        mode: the run's mode.
        alone_since: begin only if no other process is syncing the channel or has synced it since then; None: always.
        now: the current time.

    Raises:
        ChannelBusy: another process is syncing the channel, or has synced it since `alone_since`.
        NotFound: the channel was removed.
    """
    # The lock prevents a removal meanwhile.
    lock_channel(session, channel_id)
    host = this_machine()
    end_stale_syncs(session, channel_id, host=host, is_alive=is_alive, now=now)
    other = None if alone_since is None else sync_of_another(session, channel_id, alone_since, now)
    if other is not None:
        does = "is syncing it" if other.status == "running" else "has just synced it"
        raise ChannelBusy(f"process {other.pid} on {other.host} {does}; skipped")
    pid, process_start = this_process()
    return begin_sync(session, channel_id, mode, host=host, pid=pid, process_start=process_start, now=now)


@asynccontextmanager
async def heartbeat(run: Run) -> AsyncIterator[None]:
    """Record every minute that the run is alive, also while it waits for a slow response."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(SIGN_OF_LIFE_S)
            try:
                await run.clients.store.write(record_heartbeat, run.id, run.clients.now())
            except StoreError as error:
                log.warning("sync %d could not record that it is alive: %s", run.id, error)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
