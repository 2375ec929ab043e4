"""What there is to do for a channel: which listings, what the feed spares, what is read again; and doing it."""

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
    """Decide what there is to do, and do it; None when only the counts tell how it ended.

    Raises:
        CollectorError, StoreError: what was committed until then is kept.
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
            log.info("%s: the feed shows nothing new and the last listing is recent: nothing is read", channel.id)
            return "unchanged"
        log.info("%s: the feed shows nothing new: only what is waiting is read", channel.id)
        work = Work(_no_listing, None, settle=True, api=bool(waiting))
    elif run.mode == "refresh":
        if not run.described:
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
        now = clients.now()
        await run.write(mark_refreshed, lambda _: SyncCounts(), run.channel_id, now, began_at=run.refresh_from)
    return None


async def _describe_again(run: Run) -> None:
    """Read the channel's own row again."""
    try:
        item = await run.clients.youtube.channel(ChannelName("id", run.channel_id))
    except QuotaExceeded:
        run.quota_spent = True
        return
    except ChannelNotFound as error:
        gone = ChannelGone(run.channel_id, refreshed=True)
        if not await run.clients.store.read(any_available, run.channel_id):
            raise gone from error  # each of its videos was asked for before
        run.error = gone
        return
    moved = await run.write(save_description, lambda _: SyncCounts(), item, run.clients.now())
    run.notices.extend(moved)


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
            # A whole one that ended after it began has been to the very end: what is left is of the head alone.
            reached = began_at is not None and channel.listed_at is not None and began_at <= channel.listed_at
            yield Listing(token, None if reached else began_at, _known_until(run, channel))
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


async def _settled_by_feed(run: Run, channel: Channel, newest: list[str]) -> bool:
    now = run.clients.now()
    if not feed_can_settle(channel.listed_at, now):
        return False
    # A listing that had to be given up has left a gap, which the newest videos don't show.
    gap = await run.clients.store.read(is_listing_unfinished, channel.id, now)
    return not gap and await _all_settled(run, newest)


async def _feed_shows_known_only(run: Run) -> bool:
    """Whether the feed can be read, shows something, and only what the store has."""
    newest = await _newest(run)
    return bool(newest) and await _all_settled(run, newest)


async def _newest(run: Run) -> list[str]:
    """The ids that the feed shows; none when it can't be read."""
    clients = run.clients
    return await newest_in_feed(clients.http, clients.settings.feed_url, run.channel_id) or []


async def _all_settled(run: Run, ids: list[str]) -> bool:
    asked_since = run.clients.now() - FEED_ASKED_AGAIN_AFTER
    return not await run.clients.store.read(unsettled_in_feed, ids, asked_since=asked_since)
