"""Sync channels: each gets a run, its work is done, and how it ended is recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.orm import Session

from collector.channel_names import ChannelName
from collector.errors import ChannelBusy, CollectorError, QuotaExceeded
from collector.http import Http
from collector.lease import signs_of_life
from collector.opening import begin_run, find_channel
from collector.options import SyncOptions
from collector.progress import Progress, Silent
from collector.report import SyncReport
from collector.run import Clients, Meter, Run
from collector.settings import Settings
from collector.store_thread import StoreThread
from collector.thumbnails import Thumbnails
from collector.work import do_work
from collector.youtube import YouTube
from store.channels import get_channel
from store.database import Database
from store.errors import StoreError
from store.syncs import SyncCounts, add_counts, finish_sync, get_sync
from store.tables import SyncRun, SyncStatus
from store.types import utc_now
from store.videos import count_not_pairs

__all__ = ["sync_channels"]

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
    """Sync channels one after another; each gets its report, whatever became of the others.

    A spent quota ends all work with the API, but free work is still done for each channel. When `stop` is set, the
    channel at work ends `interrupted` and the remaining ones are not begun.

    Args:
        database: an open store.
        names: see `parse_channel_name`.
        settings: key and addresses.
        options: for all the channels.
        progress: told what is being done.
        stop: set it to end early with everything kept.
        http: a session with other pauses than the default's; not yet entered.
        now: the clock.

    Raises:
        StoreError: the database failed; no other channel would fare better.
        asyncio.CancelledError: cancelled from outside; the run at work ends `interrupted`.
    """
    options = options or SyncOptions()
    reports: list[SyncReport] = []
    async with _clients(database, settings, options, http or Http(), progress=progress or Silent(), now=now) as clients:
        for name in names:
            if stop is not None and stop.is_set():
                break
            reports.append(await _stoppable(_sync_one(clients, name, options, stop), stop))
    return reports


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
                meter = Meter(http, youtube)
                yield Clients(settings, http, youtube, thumbnails, store, meter, options.units_a_day, now, progress)
            finally:
                thumbnails.close()


async def _stoppable(sync: Coroutine[None, None, SyncReport], stop: asyncio.Event | None) -> SyncReport:
    """Run a sync; when `stop` is set it is cancelled, and still gives its report."""
    task = asyncio.ensure_future(sync)
    if stop is None:
        return await task
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
        return await task
    finally:
        stopped.cancel()
        if not task.done():  # we were cancelled ourselves
            task.cancel()
            await asyncio.wait({task})


async def _sync_one(
    clients: Clients, name: ChannelName, options: SyncOptions, stop: asyncio.Event | None
) -> SyncReport:
    began = time.monotonic()
    try:
        item, channel_id = await find_channel(clients, name)
        run = await begin_run(clients, channel_id, item, options)
    except ChannelBusy as busy:
        log.info("%s: %s", name, busy, extra={"channel": channel_id})
        await clients.save_spent_units()
        return SyncReport(str(name), "busy", id=channel_id, seconds=time.monotonic() - began)
    except CollectorError as error:
        status: SyncStatus = "quota" if isinstance(error, QuotaExceeded) else "failed"
        await clients.save_spent_units()
        return SyncReport(str(name), status, error=error, seconds=time.monotonic() - began)
    except asyncio.CancelledError:
        if stop is None or not stop.is_set():
            raise
        return SyncReport(str(name), "interrupted", seconds=time.monotonic() - began)
    return await _run_to_end(run, str(name), began, stop)


async def _run_to_end(run: Run, name: str, began: float, stop: asyncio.Event | None) -> SyncReport:
    """Run the stages, and record how they ended, whatever it was."""
    status: SyncStatus | None = None
    error: Exception | None = None
    try:
        async with signs_of_life(run):
            status = await do_work(run)
        error = run.error
    except QuotaExceeded as quota:
        status, error = "quota", quota
    except CollectorError as failure:
        status, error = "failed", failure
    except asyncio.CancelledError:
        report = await _finish(run, name, "interrupted", began, None)
        if stop is None or not stop.is_set():
            raise
        return report
    except BaseException as failure:
        await _finish_quietly(run, name, began, failure)
        raise
    if status == "quota" and error is None:
        error = run.clients.youtube.quota_spent
    finishing = asyncio.ensure_future(_finish(run, name, status, began, error))
    try:
        return await asyncio.shield(finishing)
    except asyncio.CancelledError:
        report = await finishing  # too late to be interrupted: all is done
        if stop is None or not stop.is_set():
            raise
        return report


async def _finish(run: Run, name: str, status: SyncStatus | None, began: float, error: Exception | None) -> SyncReport:
    """Close the run's row, and report from it: what counts is what was committed."""
    spent = run.clients.meter.take()
    now, clients, seconds = run.clients.now(), run.clients, time.monotonic() - began

    def close(session: Session) -> SyncReport:
        row = _add_spent(session, run, spent, now)
        ended = status or ("partial" if row.pictures_failed else "complete")
        row = finish_sync(session, run.id, ended, seconds=seconds, error=str(error) if error else None, now=now)
        channel = get_channel(session, run.channel_id)
        return SyncReport.of(name, row, channel, count_not_pairs(session, run.channel_id), error)

    return await clients.store.write(close)


def _add_spent(session: Session, run: Run, spent: SyncCounts, now: datetime) -> SyncRun:
    add_counts(session, run.id, spent, key_fingerprint=run.clients.settings.key_fingerprint, now=now)
    return get_sync(session, run.id)


async def _finish_quietly(run: Run, name: str, began: float, failure: BaseException) -> None:
    """Record a failure of the store or a bug if the store still lets us; the failure itself is what is raised."""
    error = failure if isinstance(failure, Exception) else RuntimeError(type(failure).__name__)
    try:
        await _finish(run, name, "failed", began, error)
    except StoreError:
        log.debug("the failed sync %d could not be recorded as such", run.id)
