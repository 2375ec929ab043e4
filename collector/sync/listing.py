"""The listing stage: pages of the uploads playlist into the store, and ids whose details are to be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from collector.errors import ApiError, ChannelGone, PageLoop
from collector.sync.plan import PageGuard
from collector.sync.run import Run
from collector.youtube import UploadsPage
from store.youtube import (
    PageResult,
    SyncCounts,
    any_available,
    finish_listing,
    record_page,
    restart_listing,
    save_listing_place,
)

__all__ = ["Listing", "list_uploads"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Where a listing starts and ends.

    Attributes:
        token: where an unfinished one goes on; None for the head.
        began_at: when it began, for one that goes to the very end; None for one that may stop at a known page.
        known_until: when the last complete listing ended: what was first seen by then counts as known.
    """

    token: str | None
    began_at: datetime | None
    known_until: datetime | None


async def list_uploads(run: Run, listing: Listing) -> AsyncGenerator[tuple[str, ...], None]:
    """List the uploads, yielding after each page the ids whose details are to be read.

    Each page is one transaction, together with the place where the listing goes on. `run.error` is set when the pages
    never end or can't be read, or the list no longer exists.

    A listing to the very end needs every page, so the next one is asked for before this one is written; of a network
    that adds 50 ms to each answer that takes half the time. Only one, so that a process killed while it writes has paid
    for two pages in vain at most. Close the generator: a page that has come by then is written, and is not paid for
    twice.

    Raises:
        QuotaExceeded: the place is kept.
        CollectorError: a page can't be read.
    """
    guard, token, stored = PageGuard(), listing.token, listing.token is not None
    coming: asyncio.Task[UploadsPage | None] | None = None
    written = True
    try:
        while True:
            page = await (coming or _page(run, token))
            coming = None
            if page is None:
                whole = listing.began_at is not None
                await run.write(restart_listing, lambda _: SyncCounts(), run.channel_id, whole=whole)
                if not stored:  # it was given a moment ago: over and over, that would cost all units of the day
                    run.error = PageLoop(
                        "YouTube refuses the page token that it gave, so the list of uploads can't be read to its end; "
                        "what was listed is kept, try again later"
                    )
                    return
                log.info("the place where the listing of %s stopped has expired; it starts over", run.channel_id)
                guard, token, stored = PageGuard(), None, False
                continue
            stored = False
            page = await _confirmed(run, token, page)
            try:
                guard.check(page.next_token, page.total)
            except PageLoop as error:
                run.error = error
            token = page.next_token
            if listing.began_at is not None and token is not None and page.found and run.error is None:
                coming = asyncio.create_task(_page(run, token))
            try:
                result, done = await _save(run, listing, page)
            except Exception:  # not a cancellation, which comes after the page is written
                written = False
                raise
            run.clients.progress.listed(len(page.entries), page.total)
            yield result.wanted
            if done:
                return
    finally:
        if coming is not None:
            await _keep(run, listing, coming, written=written)


async def _confirmed(run: Run, token: str | None, page: UploadsPage) -> UploadsPage:
    """The page; asked for again before an empty page that others follow, or a missing list, is believed."""
    if not page.entries and page.next_token is not None:
        # A hole in the list would never be looked at again.
        page = await _page(run, token) or page
    if not page.found and await run.clients.store.read(any_available, run.channel_id):
        # As a hole in the list: asked twice before it is believed.
        page = await _page(run, token) or page
        if not page.found:
            run.error = ChannelGone(run.channel_id, refreshed=run.mode == "refresh")
    return page


async def _keep(run: Run, listing: Listing, coming: asyncio.Task[UploadsPage | None], *, written: bool) -> None:
    """Write a page that has come though nobody waits for it any more: it was paid for.

    Unless the page before it is not written: the next sync would go on after both, and miss that one's videos.
    """
    coming.cancel()
    await asyncio.wait({coming})
    page = None if coming.cancelled() or coming.exception() is not None else coming.result()
    # An odd one is asked for again by the next sync, as it would be by this one.
    if written and page is not None and page.entries and page.found and run.error is None:
        await _save(run, listing, page)


async def _page(run: Run, token: str | None) -> UploadsPage | None:
    try:
        return await run.clients.youtube.uploads_page(run.playlist_id, token)
    except ApiError as error:
        if token is None or error.reason != "invalidPageToken":
            raise
        return None


async def _save(run: Run, listing: Listing, page: UploadsPage) -> tuple[PageResult, bool]:
    """Write a page; what it brought, and whether it is the last to be read."""
    now, failed = run.clients.now(), run.error is not None

    def save(session: Session) -> tuple[PageResult, bool]:
        result = record_page(session, run.channel_id, page.entries, now=now, known_until=listing.known_until)
        session.flush()
        if not page.found:
            # All that was known of the list: if it comes back, what was marked as gone is to be found again.
            restart_listing(session, run.channel_id, whole=True)
            return result, True
        if failed:
            # Not finished, and its token is no good: the next sync starts over.
            restart_listing(session, run.channel_id, whole=False)
            return result, True
        stops = listing.began_at is None and result.all_known
        if page.next_token is None or stops:
            finish_listing(session, run.channel_id, now, began_at=listing.began_at)
            return result, True
        save_listing_place(session, run.channel_id, token=page.next_token, began_at=listing.began_at)
        return result, False

    return await run.write(
        save, lambda saved: SyncCounts(listed=len(page.entries), new=saved[0].new, gone=saved[0].gone)
    )
