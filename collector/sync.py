"""Sync channels: find each one, decide what there is to do, run the stages, and record how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from collector.channel_names import ChannelName
from collector.errors import BadSetting, ChannelBusy, CollectorError, QuotaExceeded
from collector.feed import newest_in_feed
from collector.http import Http
from collector.lease import signs_of_life, take_channel
from collector.listing import Listing
from collector.parsing import ChannelItem
from collector.pipeline import Work, run_pipeline
from collector.plan import feed_can_settle
from collector.progress import Progress, Silent
from collector.report import SyncReport
from collector.run import Clients, Meter, Run
from collector.settings import Settings
from collector.store_thread import StoreThread
from collector.thumbnails import THUMBNAIL_CHOICES, Thumbnails
from collector.youtube import YouTube
from store.channels import change_settings, find_by_handle, finish_check, get_channel, mark_refreshed, save_channel
from store.database import Database
from store.errors import NotFound, StoreError
from store.moments import CLOCKS_DIFFER
from store.pictures import any_picture_due
from store.syncs import (
    SyncCounts,
    add_counts,
    finish_sync,
    get_sync,
    refresh_began,
)
from store.tables import Channel, SyncMode, SyncRun, SyncStatus
from store.types import utc_now
from store.videos import count_not_pairs, count_waiting, known_available

__all__ = ["DEFAULT_MIN_DURATION_S", "DEFAULT_THUMBNAIL", "SyncOptions", "known_channel", "sync_channels"]

log = logging.getLogger(__name__)

DEFAULT_MIN_DURATION_S = 180
DEFAULT_THUMBNAIL = "high"
REFRESH_GOES_ON_FOR = timedelta(hours=24)
"""A refresh that stopped early is continued for so long; after that it starts over."""
LONGEST_MIN_DURATION_S = 7 * 24 * 3600


@dataclass(frozen=True)
class SyncOptions:
    """What kind of sync.

    Attributes:
        mode: `incremental`, `full` (list to the very end) or `refresh` (read every known video again).
        min_duration_s: below it, a video is a short; kept for later syncs. None: as stored, 180 for a new channel.
        thumbnail: the preferred size; kept for later syncs. None: as stored, `high` for a new channel. Stored pictures
            of another size are replaced by the next refresh.
        alone_since: leave a channel alone that another process is syncing, or has synced since then; its report says
            `busy`. None: sync it all the same, which costs units twice and harms nothing else.
        most_units: end as with a spent quota before more than so many units are spent, all channels together.
        units_a_day: the same for what all processes with this key spend on a day, looked up with every batch that is
            written: exact but for the few calls that others have under way.

    Raises:
        BadSetting: a value that can't be used.
    """

    mode: SyncMode = "incremental"
    min_duration_s: int | None = None
    thumbnail: str | None = None
    alone_since: datetime | None = None
    most_units: int | None = None
    units_a_day: int | None = None

    def __post_init__(self) -> None:
        if self.min_duration_s is not None and not 0 <= self.min_duration_s <= LONGEST_MIN_DURATION_S:
            raise BadSetting(
                f"the shortest duration is {self.min_duration_s} s; give 0 to {LONGEST_MIN_DURATION_S} seconds"
            )
        if self.thumbnail is not None and self.thumbnail not in THUMBNAIL_CHOICES:
            raise BadSetting(f"{self.thumbnail!r} is no thumbnail size; give one of {', '.join(THUMBNAIL_CHOICES)}")


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
        item, channel_id = await _find(clients, name)
        run = await _begin(clients, channel_id, item, options)
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
            status = await _work(run)
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


async def _find(clients: Clients, name: ChannelName) -> tuple[ChannelItem | None, str]:
    """The channel's id: from the store if it is known, which costs nothing, else from the API."""
    known = await clients.store.read(known_channel, name)
    if known is not None:
        return None, known
    item = await clients.youtube.channel(name)
    return item, item.id


def known_channel(session: Session, name: ChannelName) -> str | None:
    """The id of the channel of that name if the store has it."""
    if name.kind in ("handle", "custom"):
        return find_by_handle(session, "@" + name.value.removeprefix("@"))
    if name.kind == "id":
        try:
            return get_channel(session, name.value).id
        except NotFound:
            return None
    return None


async def _begin(clients: Clients, channel_id: str, item: ChannelItem | None, options: SyncOptions) -> Run:
    now = clients.now()

    def begin(session: Session) -> Run:
        if item is not None:
            _save(session, item, now)
        run_id = take_channel(session, channel_id, options.mode, alone_since=options.alone_since, now=now)
        refresh_from = None
        if options.mode == "refresh":
            refresh_from = refresh_began(session, channel_id, since=now - REFRESH_GOES_ON_FOR, now=now)
        change_settings(session, channel_id, min_duration_s=options.min_duration_s, thumbnail_size=options.thumbnail)
        channel = get_channel(session, channel_id)
        session.refresh(channel)
        return Run(
            clients=clients,
            id=run_id,
            channel_id=channel_id,
            playlist_id=channel.uploads_playlist_id,
            mode=options.mode,
            min_duration_s=channel.min_duration_s,
            thumbnail_size=channel.thumbnail_size,
            started_at=now,
            refresh_from=refresh_from,
        )

    return await clients.store.write(begin)


def _save(session: Session, item: ChannelItem, now: datetime) -> None:
    save_channel(
        session,
        channel_id=item.id,
        handle=item.handle,
        title=item.title,
        uploads_playlist_id=item.uploads_playlist_id,
        api_item=item.item,
        default_min_duration_s=DEFAULT_MIN_DURATION_S,
        default_thumbnail_size=DEFAULT_THUMBNAIL,
        now=now,
    )


async def _work(run: Run) -> SyncStatus | None:
    """Do what there is to do; None when only the counts tell how it ended."""
    clients = run.clients
    channel = await clients.store.read(get_channel, run.channel_id)
    clients.progress.channel(channel.title)
    whole_since = _whole_since(run, channel)
    unfinished = channel.listing_token is not None or channel.listing_began_at is not None
    settle = run.mode == "full" or (run.mode == "incremental" and not unfinished)
    work = Work(_listings(run, channel), whole_since, settle)
    if run.mode == "incremental" and not unfinished and await _settled_by_feed(run, channel):
        waiting = await clients.store.read(count_waiting, run.channel_id)
        if not waiting and not await clients.store.read(any_picture_due, run.channel_id, clients.now()):
            log.info("%s: the feed shows nothing new and the last listing is recent: nothing is read", channel.id)
            return "unchanged"
        log.info("%s: the feed shows nothing new: only what is waiting is read", channel.id)
        work = Work(_no_listing, None, settle=True, api=bool(waiting))
    elif run.mode == "refresh":
        await _describe_again(run)
    else:
        log.info("%s: %s listing%s", channel.id, run.mode, ", from where the last one stopped" if unfinished else "")
    await run_pipeline(run, replace(work, api=work.api and not run.quota_spent))
    if run.quota_spent:
        return "quota"
    if run.error is not None:
        return "failed"
    if work.whole_since is not None:
        await run.write(finish_check, lambda _: SyncCounts(), run.channel_id)
    if run.mode == "refresh":
        await run.write(mark_refreshed, lambda _: SyncCounts(), run.channel_id, clients.now())
    return None


async def _describe_again(run: Run) -> None:
    """Read the channel's own row again."""
    try:
        item = await run.clients.youtube.channel(ChannelName("id", run.channel_id))
    except QuotaExceeded:
        run.quota_spent = True
        return
    await run.write(_save, lambda _: SyncCounts(), item, run.clients.now())


def _whole_since(run: Run, channel: Channel) -> datetime | None:
    """When the listing to the very end began that this sync makes or goes on with; None for none."""
    if channel.listing_began_at is not None and not _starts_over(run, channel):
        return channel.listing_began_at
    return run.started_at if channel.listed_at is None or run.mode == "full" else None


def _starts_over(run: Run, channel: Channel) -> bool:
    """Whether `--full` has nothing to go on with: only a listing to the very end that was cut short will do."""
    return run.mode == "full" and (channel.listing_token is None or channel.listing_began_at is None)


def _listings(run: Run, channel: Channel) -> Callable[[], AsyncIterator[Listing]]:
    """The listings that this sync needs, each decided when it is its turn."""

    async def listings() -> AsyncIterator[Listing]:
        token, began_at = channel.listing_token, channel.listing_began_at
        if _starts_over(run, channel) or (token is None and began_at is None):
            yield Listing(None, _whole_since(run, channel), _known_until(run, channel))
            return
        if token is not None:
            yield Listing(token, began_at, _known_until(run, channel))
        # Meanwhile, something may have been published: the head was read when the listing began.
        if run.error is None and not await _feed_shows_known_only(run):
            place = await run.clients.store.read(get_channel, run.channel_id)
            yield Listing(None, None, _known_until(run, place))

    return listings


def _known_until(run: Run, channel: Channel) -> datetime | None:
    """When the last complete listing ended. A time that is still to come tells nothing: its clock ran ahead."""
    listed_at = channel.listed_at
    return listed_at if listed_at is not None and listed_at <= run.clients.now() + CLOCKS_DIFFER else None


async def _no_listing() -> AsyncIterator[Listing]:
    """Nothing to list: the feed has shown that there is nothing new."""
    none: tuple[Listing, ...] = ()
    for listing in none:
        yield listing


async def _settled_by_feed(run: Run, channel: Channel) -> bool:
    recent = feed_can_settle(channel.listed_at, run.clients.now())
    return recent and await _feed_shows_known_only(run)


async def _feed_shows_known_only(run: Run) -> bool:
    """Whether the feed can be had, shows something, and only what the store has."""
    clients = run.clients
    newest = await newest_in_feed(clients.http, clients.settings.feed_url, run.channel_id)
    return bool(newest) and await clients.store.read(known_available, newest or [])
