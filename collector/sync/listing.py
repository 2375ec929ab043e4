"""The listing stage: writes pages of the uploads playlist to the store and yields the ids of videos to read."""

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
    """The start and the end of a listing.

    Attributes:
        token: the page token at which an unfinished listing continues; None to start with the newest videos.
        began_at: the start of a complete listing; None for a listing that may stop at a page of known videos.
        known_until: the end of the last complete listing: videos first seen before it count as known.
    """

    token: str | None
    began_at: datetime | None
    known_until: datetime | None


async def list_uploads(run: Run, listing: Listing) -> AsyncGenerator[tuple[str, ...], None]:
    """List the uploads. Yields, after each page, the ids of videos whose details must be read.

    Each page is written in one transaction, together with the token at which the listing continues. Sets `run.error` if
    the pages never end or can't be read, or the list no longer exists.

    A complete listing needs every page, so it requests the next page before it writes the current page; this halves
    the time on a network with a latency of 50 ms. It requests only one page ahead, so that a kill loses the cost of two
    pages at most. Close the generator: this writes a page that has already arrived, so that it is not paid for twice.

    Raises:
        QuotaExceeded: the quota is used up; the next sync continues the listing.
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
                if not stored:  # YouTube has just issued this token: starting over could use up the daily quota
                    run.error = PageLoop(
                        "YouTube rejects its own page token, so the list of uploads can't be read to the end; "
                        "the listed videos are kept, try again later"
                    )
                    return
                log.info("the page token of the listing of %s has expired; it starts over", run.channel_id)
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
            except Exception:  # excludes a cancellation, which is raised after the page is written
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
    """Return the page. Requests it again if it is an empty page before the end, or if the list is missing."""
    if not page.entries and page.next_token is not None:
        # Later syncs would not detect a gap in the listing.
        page = await _page(run, token) or page
    if not page.found and await run.clients.store.read(any_available, run.channel_id):
        page = await _page(run, token) or page
        if not page.found:
            run.error = ChannelGone(run.channel_id, refreshed=run.mode == "refresh")
    return page


async def _keep(run: Run, listing: Listing, coming: asyncio.Task[UploadsPage | None], *, written: bool) -> None:
    """Write a page that was requested ahead, if it has arrived, because it has already cost a unit.

    It is dropped if the page before it was not written: the next sync would continue after both pages and miss the
    videos of that page.
    """
    coming.cancel()
    await asyncio.wait({coming})
    page = None if coming.cancelled() or coming.exception() is not None else coming.result()
    # The next sync requests an empty or missing page again, as `_confirmed` would.
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
    """Write a page. Returns the result, and whether the listing ends with this page."""
    now, failed = run.clients.now(), run.error is not None

    def save(session: Session) -> tuple[PageResult, bool]:
        result = record_page(session, run.channel_id, page.entries, now=now, known_until=listing.known_until)
        session.flush()
        if not page.found:
            # Forget the complete listing as well: if the list returns, videos marked as gone must be found again.
            restart_listing(session, run.channel_id, whole=True)
            return result, True
        if failed:
            # The listing is unfinished and its token is useless: the next sync starts over.
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
