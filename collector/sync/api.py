"""The entry point of a sync: opens a run for each channel, does the work, and records the result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy.orm import Session

from collector.errors import ChannelBusy, CollectorError, MissingKey, QuotaExceeded
from collector.http import Http
from collector.progress import Progress, Silent
from collector.settings import Settings
from collector.store_thread import StoreThread, shielded
from collector.sync.lease import heartbeat
from collector.sync.opening import begin_run, find_channel, save_description, with_owner_key
from collector.sync.options import SyncOptions
from collector.sync.report import SyncReport
from collector.sync.run import Clients, Meter, Run
from collector.sync.work import do_work
from collector.thumbnails import Thumbnails
from collector.youtube import ChannelName, YouTube
from store.db import Database
from store.errors import StoreError
from store.tables import SyncRun, SyncStatus
from store.types import utc_now
from store.youtube import SyncCounts, add_counts, count_not_pairs, finish_sync, get_channel, get_sync

__all__ = ["add_channels", "sync_channels"]

log = logging.getLogger(__name__)


async def sync_channels(
    database: Database,
    names: Sequence[ChannelName],
    settings: Settings,
    options: SyncOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: asyncio.Event | None = None,
    http: Http | None = None,
    now: Callable[[], datetime] = utc_now,
) -> list[SyncReport]:
    """Sync channels in order and return a report for each. A failed channel does not stop the others.

    After the quota is used up, only work without quota cost is done. When `stop` is set, the current channel's run ends
    as `interrupted`, and the remaining channels are skipped and have no report.

    Args:
        database: an open store.
        names: the channels, see `parse_channel_name`.
        settings: the API keys and URLs.
        options: options for all channels.
        progress: receives progress events.
        stop: set it to end early; everything that was read is kept.
        http: a session that has not been entered; default: a new `Http`.
        now: returns the current time in UTC.

    Raises:
        StoreError: the database failed; the remaining channels are not synced.
        asyncio.CancelledError: the caller was cancelled; the current run ends as `interrupted`.
    """
    options = options or SyncOptions()
    reports: list[SyncReport] = []
    async with _clients(database, settings, options, http or Http(), progress=progress or Silent(), now=now) as clients:
        for name in names:
            if stop is not None and stop.is_set():
                break
            reports.append(await _stoppable(_sync_one(clients, name, options), stop))
    return reports


async def add_channels(
    database: Database, names: Sequence[ChannelName], settings: Settings
) -> list[str | CollectorError]:
    """Add channels to the store without syncing them. The description of each new channel costs one unit.

    Args:
        database: an open store.
        names: see `parse_channel_name`.
        settings: the API key and URLs.

    Returns:
        For each name, the channel's id or the error for which it was not added.

    Raises:
        StoreError: the database failed.
    """
    found: list[str | CollectorError] = []
    async with _clients(database, settings, SyncOptions(), Http(), progress=Silent(), now=utc_now) as shared:
        for name in names:
            clients = shared
            try:
                clients, sought = await with_owner_key(shared, name)
                channel = await find_channel(clients, sought)
            except CollectorError as error:
                found.append(error)
            else:
                if channel.item is not None:
                    await clients.store.write(save_description, channel.item, clients.now(), asked=channel.handle)
                found.append(channel.id)
            await shielded(clients.save_spent_units())
    return found


@asynccontextmanager
async def _clients(
    database: Database,
    settings: Settings,
    options: SyncOptions,
    http: Http,
    *,
    progress: Progress,
    now: Callable[[], datetime],
) -> AsyncIterator[Clients]:
    with StoreThread(database) as store:
        async with http:
            youtube = YouTube(http, settings, options.most_units)
            thumbnails = Thumbnails(http, settings.thumbnail_hosts)
            try:
                yield Clients(
                    *(settings, http, youtube, thumbnails, store, Meter(http, youtube)),
                    *(options.units_a_day, now, progress, options.most_units),
                )
            finally:
                thumbnails.close()


async def _stoppable(sync: Coroutine[None, None, SyncReport], stop: asyncio.Event | None) -> SyncReport:
    """Run a sync and return its report. Setting `stop` cancels the sync, which then still returns its report.

    Raises:
        asyncio.CancelledError: the caller was cancelled; the sync was cancelled, too, and has ended.
    """
    task = asyncio.ensure_future(sync)
    stopped = asyncio.ensure_future((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        return await task
    finally:
        stopped.cancel()
        if not task.done():  # this coroutine was cancelled
            task.cancel()
            await asyncio.wait({task})


async def _sync_one(clients: Clients, name: ChannelName, options: SyncOptions) -> SyncReport:
    """Sync a channel. When cancelled, it still closes its run, counts its units and returns its report."""
    began = time.monotonic()
    channel_id: str | None = None
    try:
        clients, sought = await with_owner_key(clients, name)
        found = await find_channel(clients, sought)
        channel_id = found.id
        run, cancelled = await shielded(begin_run(clients, found, options))
    except ChannelBusy as busy:
        log.info("%s: %s", name, busy, extra={"channel": channel_id})
        report = SyncReport(str(name), "busy", id=channel_id)
        return await _without_run(clients, report, began)
    except MissingKey as error:
        return SyncReport(str(name), "failed", error=error)
    except CollectorError as error:
        status: SyncStatus = "quota" if isinstance(error, QuotaExceeded) else "failed"
        return await _without_run(clients, SyncReport(str(name), status, error=error), began)
    except asyncio.CancelledError:
        return await _without_run(clients, SyncReport(str(name), "interrupted"), began)
    if cancelled:
        return await _finish(run, str(name), "interrupted", began, None)
    return await _run_to_end(run, str(name), began)


async def _without_run(clients: Clients, report: SyncReport, began: float) -> SyncReport:
    """Complete the report of a sync without a run; its units count for the day only."""
    spent, cancelled = await shielded(clients.save_spent_units())
    if cancelled:
        report = replace(report, status="interrupted", error=None)
    return replace(report, requests=spent.requests, units=spent.units, seconds=time.monotonic() - began)


async def _run_to_end(run: Run, name: str, began: float) -> SyncReport:
    """Do the work of a run and record its result, also after an error."""
    status: SyncStatus | None = None
    error: Exception | None = None
    try:
        async with heartbeat(run):
            status = await do_work(run)
        error = run.error
    except QuotaExceeded as quota:
        status, error = "quota", quota
    except CollectorError as failure:
        status, error = "failed", failure
    except asyncio.CancelledError:
        status = "interrupted"
    except BaseException as failure:
        await _finish_quietly(run, name, began, failure)
        raise
    if status == "quota" and error is None:
        error = run.clients.youtube.quota_spent
    return await _finish(run, name, status, began, error)


async def _finish(run: Run, name: str, status: SyncStatus | None, began: float, error: Exception | None) -> SyncReport:
    """Close the run's row and build the report from the committed counts.

    A cancellation at this point is ignored, because the work is done.
    """
    spent = run.clients.meter.take()
    now, clients, seconds = run.clients.now(), run.clients, time.monotonic() - began

    def close(session: Session) -> SyncReport:
        ended = status or ("partial" if get_sync(session, run.id).pictures_failed else "complete")
        finish_sync(session, run.id, ended, seconds=seconds, error=str(error) if error else None, now=now)
        # The day's row is written last, as in every transaction, to prevent deadlocks.
        row = _add_spent(session, run, spent, now)
        channel = get_channel(session, run.channel_id)
        report = SyncReport.of(name, row, channel, count_not_pairs(session, run.channel_id), error)
        return replace(report, notices=tuple(run.notices))

    report, _ = await shielded(clients.store.write(close))
    return report


def _add_spent(session: Session, run: Run, spent: SyncCounts, now: datetime) -> SyncRun:
    add_counts(session, run.id, spent, key_fingerprint=run.clients.settings.key_fingerprint, now=now)
    return get_sync(session, run.id)


async def _finish_quietly(run: Run, name: str, began: float, failure: BaseException) -> None:
    """Try to record a store failure or a bug; the caller raises the original error."""
    error = failure if isinstance(failure, Exception) else RuntimeError(type(failure).__name__)
    try:
        await _finish(run, name, "failed", began, error)
    except StoreError:
        log.debug("the failure of sync %d could not be recorded", run.id)
