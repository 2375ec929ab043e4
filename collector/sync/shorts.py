"""Looks up videos whose duration is not conclusive in the channel's list of Shorts.

The list is undocumented and may be missing, so it is only a hint. Without it, durations decide. If the list is missing,
empty or refused, the next refresh tries again; after a transient failure, the next sync does.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from collector.errors import ApiError, PageLoop, QuotaExceeded, TransientError
from collector.sync.plan import PAGE_SIZE, PageGuard, cheaper_question
from collector.sync.run import Run
from store.youtube import SyncCounts, count_doubtful, doubtful_ids, record_membership

__all__ = ["ask_for_shorts"]

log = logging.getLogger(__name__)


async def ask_for_shorts(run: Run) -> None:
    """Classify the videos with inconclusive durations, with as few units as possible, and write each answer at once.

    If the quota is used up, sets `run.quota_spent`; the next sync looks up the remaining videos.

    Raises:
        BadKey: YouTube rejects the API key.
        StoreError: the database failed.
    """
    try:
        await _ask(run)
    except QuotaExceeded:
        run.quota_spent = True
    except ApiError as error:
        log.warning("%s: YouTube rejects requests for the list of Shorts, durations decide: %s", run.channel_id, error)
        await _record(run, None)
    except (TransientError, PageLoop) as error:
        log.warning(
            "%s: can't read the list of Shorts, durations decide until the next sync: %s", run.channel_id, error
        )


async def _ask(run: Run) -> None:
    youtube = run.clients.youtube
    videos = await run.clients.store.read(
        count_doubtful, run.channel_id, now=run.clients.now(), asked_before=run.refresh_from
    )
    guard, token, read = PageGuard(), None, 0
    pages: int | None = None
    found = False
    while videos > 0 and pages != 0:
        if cheaper_question(videos, pages) == "video":
            await _ask_for_each(run, videos)
            return
        page = await youtube.shorts_page(run.channel_id, token)
        found = found or bool(page.entries)
        videos -= await _record(run, True, [entry.id for entry in page.entries])
        guard.check(page.next_token, page.total)
        token, read = page.next_token, read + 1
        pages = 0 if token is None else _pages_left(page.total, read)
    if videos > 0:
        await _record(run, False if found else None)


def _pages_left(total: int | None, read: int) -> int | None:
    """The number of pages left, at least 1; None if the API gives no total."""
    return None if total is None else max(1, -(-total // PAGE_SIZE) - read)


async def _ask_for_each(run: Run, videos: int) -> None:
    for video_id in await run.clients.store.read(
        doubtful_ids, run.channel_id, now=run.clients.now(), asked_before=run.refresh_from, limit=videos
    ):
        page = await run.clients.youtube.shorts_page(run.channel_id, video_id=video_id)
        if not page.found:
            await _record(run, None)
            return
        await _record(run, any(entry.id == video_id for entry in page.entries), [video_id])


async def _record(run: Run, in_list: bool | None, ids: Collection[str] | None = None) -> int:
    return await run.write(
        record_membership,
        lambda _: SyncCounts(),
        run.channel_id,
        in_list,
        ids=ids,
        now=run.clients.now(),
        asked_before=run.refresh_from,
    )
