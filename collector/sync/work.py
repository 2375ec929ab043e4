"""Decides what a channel's sync has to do (listings, use of the feed, videos to read again), and does it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime

from collector.errors import ChannelGone, ChannelNotFound, QuotaExceeded
from collector.sync.listing import Listing
from collector.sync.opening import save_description
from collector.sync.pipeline import Work, run_pipeline
from collector.sync.plan import FEED_ASKED_AGAIN_AFTER, feed_can_settle
from collector.sync.run import Run
from collector.youtube import ChannelName, newest_in_feed
from store.tables import Channel, SyncStatus
from store.types import CLOCKS_DIFFER
from store.youtube import (
    SyncCounts,
    any_available,
    any_picture_due,
    count_doubtful,
    count_waiting,
    finish_check,
    get_channel,
    is_listing_unfinished,
    mark_refreshed,
    unsettled_in_feed,
)

__all__ = ["do_work"]

log = logging.getLogger(__name__)


async def do_work(run: Run) -> SyncStatus | None:
    """Do the work of a run.

    Returns:
        The run's status; None if the counts decide between `complete` and `partial`.

    Raises:
        CollectorError, StoreError: the work failed; everything committed before is kept.
    """
    clients = run.clients
    channel = await clients.store.read(get_channel, run.channel_id)
    clients.progress.channel(channel.title)
    whole_since = _whole_since(run, channel)
    unfinished = channel.listing_token is not None or channel.listing_began_at is not None
    settle = run.mode == "full" or (run.mode == "incremental" and not unfinished)
    newest: list[str] = []
    if run.mode == "incremental" and not unfinished and channel.listed_at is not None:
        newest = await _newest(run)
    work = Work(_listings(run, channel), whole_since, settle, feed_ids=tuple(newest))
    if newest and await _settled_by_feed(run, channel, newest):
        waiting = await clients.store.read(count_waiting, run.channel_id)
        waiting += await clients.store.read(count_doubtful, run.channel_id, now=clients.now())
        if not waiting and not await clients.store.read(any_picture_due, run.channel_id, clients.now()):
            log.info("%s: no new videos in the feed, and the last listing is recent: nothing to do", channel.id)
            return "unchanged"
        log.info("%s: no new videos in the feed: reading only waiting videos and thumbnails", channel.id)
        work = Work(_no_listing, None, settle=True, api=bool(waiting))
    elif run.mode == "refresh":
        if not run.described:
            await _describe_again(run)
    else:
        log.info("%s: %s listing%s", channel.id, run.mode, ", continuing the last listing" if unfinished else "")
    await run_pipeline(run, replace(work, api=work.api and not run.quota_spent))
    if run.quota_spent:
        return "quota"
    if run.error is not None:
        return "failed"
    if work.whole_since is not None:
        await run.write(finish_check, lambda _: SyncCounts(), run.channel_id)
    if run.mode == "refresh":
        now = clients.now()
        await run.write(mark_refreshed, lambda _: SyncCounts(), run.channel_id, now, began_at=run.refresh_from)
    return None


async def _describe_again(run: Run) -> None:
    """Read the channel's description again."""
    try:
        item = await run.clients.youtube.channel(ChannelName("id", run.channel_id))
    except QuotaExceeded:
        run.quota_spent = True
        return
    except ChannelNotFound as error:
        gone = ChannelGone(run.channel_id, refreshed=True)
        if not await run.clients.store.read(any_available, run.channel_id):
            raise gone from error  # an earlier refresh has already checked each video
        run.error = gone
        return
    moved = await run.write(save_description, lambda _: SyncCounts(), item, run.clients.now())
    run.notices.extend(moved)


def _whole_since(run: Run, channel: Channel) -> datetime | None:
    """The start of the complete listing that this sync makes or continues; None if it makes only a partial listing."""
    if channel.listing_began_at is not None and not _starts_over(run, channel):
        return channel.listing_began_at
    return run.started_at if channel.listed_at is None or run.mode == "full" else None


def _starts_over(run: Run, channel: Channel) -> bool:
    """Whether `--full` starts a new listing, because there is no interrupted complete listing to continue."""
    return run.mode == "full" and (channel.listing_token is None or channel.listing_began_at is None)


def _listings(run: Run, channel: Channel) -> Callable[[], AsyncIterator[Listing]]:
    """The listings that this sync needs. Each is decided when the listing before it has ended."""

    async def listings() -> AsyncIterator[Listing]:
        token, began_at = channel.listing_token, channel.listing_began_at
        if _starts_over(run, channel) or (token is None and began_at is None):
            yield Listing(None, _whole_since(run, channel), _known_until(run, channel))
            return
        if token is not None:
            # If a complete listing has ended since this listing began, this listing may stop at known videos.
            reached = began_at is not None and channel.listed_at is not None and began_at <= channel.listed_at
            yield Listing(token, None if reached else began_at, _known_until(run, channel))
        # Videos may have been published since the interrupted listing read the newest videos.
        if run.error is None and not await _feed_shows_known_only(run):
            place = await run.clients.store.read(get_channel, run.channel_id)
            yield Listing(None, None, _known_until(run, place))

    return listings


def _known_until(run: Run, channel: Channel) -> datetime | None:
    """The end of the last complete listing; None if it is unknown or a future time, which comes from a wrong clock."""
    listed_at = channel.listed_at
    return listed_at if listed_at is not None and listed_at <= run.clients.now() + CLOCKS_DIFFER else None


async def _no_listing() -> AsyncIterator[Listing]:
    """Yields no listing, because the feed has no new videos."""
    none: tuple[Listing, ...] = ()
    for listing in none:
        yield listing


async def _settled_by_feed(run: Run, channel: Channel, newest: list[str]) -> bool:
    now = run.clients.now()
    if not feed_can_settle(channel.listed_at, now):
        return False
    # An abandoned listing leaves a gap that the newest videos do not reveal.
    gap = await run.clients.store.read(is_listing_unfinished, channel.id, now)
    return not gap and await _all_settled(run, newest)


async def _feed_shows_known_only(run: Run) -> bool:
    """Whether the feed can be read, is not empty, and contains only videos of the store."""
    newest = await _newest(run)
    return bool(newest) and await _all_settled(run, newest)


async def _newest(run: Run) -> list[str]:
    """The video ids in the feed; empty if it can't be read."""
    clients = run.clients
    return await newest_in_feed(clients.http, clients.settings.feed_url, run.channel_id) or []


async def _all_settled(run: Run, ids: list[str]) -> bool:
    asked_since = run.clients.now() - FEED_ASKED_AGAIN_AFTER
    return not await run.clients.store.read(unsettled_in_feed, ids, asked_since=asked_since)
