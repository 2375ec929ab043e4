"""The stages of a sync, connected by bounded queues: listing, details, thumbnails and database writes overlap.

    ids --(fifties)--> details --(jobs)--> thumbnails --(outcomes)--> database

Memory does not grow with the channel, because pending work is read from the store in pages as the queues drain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from collector.errors import NetworkError, QuotaExceeded
from collector.http import LARGE_BYTES, ByteBudget
from collector.store_thread import shielded
from collector.sync.batches import gather
from collector.sync.listing import Listing, list_uploads
from collector.sync.plan import FEED_ASKED_AGAIN_AFTER, Fifties, details_from, needs_confirming
from collector.sync.run import Run
from collector.sync.shorts import ask_for_shorts
from collector.youtube import BATCH, VideoItem
from store.youtube import (
    DetailsResult,
    FailedPicture,
    FetchedPicture,
    PictureJob,
    PictureOutcome,
    PicturesResult,
    SyncCounts,
    add_from_feed,
    get_channel,
    pictures_due,
    record_details,
    record_pictures,
    unread_ids,
    unseen_ids,
    unsettled_ids,
    videos_to_refresh,
)

__all__ = ["Work", "run_pipeline"]

DETAILS_AT_ONCE = 4
PICTURES_AT_ONCE = 64
"""The most thumbnails in flight; refusals lower the limit (see `collector.http.flow`)."""
BYTES_UNWRITTEN = 8 << 20
"""The most bytes of thumbnails that wait to be written; a larger thumbnail waits alone."""
JOBS_A_PAGE = 128
MOST_UNREACHABLE = 20
"""Consecutive thumbnails whose host can't be reached, or answers 5xx or 429, after which the sync fails: the network or
the host is the cause, not the thumbnails."""


@dataclass(frozen=True)
class Work:
    """The work of a sync.

    Attributes:
        listings: yields the listings to make; each is requested when the previous has ended.
        whole_since: the start of the complete listing that ends in this sync; known videos that it does not contain
            are checked by id. None: no complete listing.
        settle: whether to read streams, premieres and videos without a duration again.
        api: whether to use the API; due thumbnails are fetched in any case.
        feed_ids: the videos in the feed; those that the listings do not contain are requested by id.
    """

    listings: Callable[[], AsyncIterator[Listing]]
    whole_since: datetime | None
    settle: bool
    api: bool = True
    feed_ids: tuple[str, ...] = ()


async def run_pipeline(run: Run, work: Work) -> None:
    """Do the work. If the quota is used up, only the stages that need it end, and `run.quota_spent` is set.

    Raises:
        CollectorError, StoreError: the work failed; everything committed before is kept.
    """
    try:
        await _Pipeline(run, work).run()
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that stopped the other tasks: a group of cancelled tasks contains only this error."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Pipeline:
    def __init__(self, run: Run, work: Work) -> None:
        self._run = run
        self._work = work
        self._batches: asyncio.Queue[list[str] | None] = asyncio.Queue(DETAILS_AT_ONCE)
        self._jobs: asyncio.Queue[PictureJob | None] = asyncio.Queue(2 * JOBS_A_PAGE)
        self._outcomes: asyncio.Queue[PictureOutcome | None] = asyncio.Queue(PICTURES_AT_ONCE)
        self._unwritten = ByteBudget(BYTES_UNWRITTEN)
        self._unreachable = 0
        self._failures = 0
        self._unconfirmed: dict[str, tuple[int, PictureOutcome]] = {}
        """Thumbnails whose host couldn't be reached, by video id, with the number of the failure. A failure is recorded
        only after a later request has succeeded. If the network is the cause, the sync ends without recording it, so
        that the next sync retries at once, without the delay after a failure."""
        self._written_events: dict[int, asyncio.Event] = {}
        """Events of the large thumbnails that wait to be written, by `id` of the outcome."""
        self._unsaved: list[PictureOutcome] = []
        """Outcomes that were fetched, but not written when the stages were cancelled."""

    async def run(self) -> None:
        try:
            await self._stages()
        finally:
            while not self._outcomes.empty():
                outcome = self._outcomes.get_nowait()
                self._unsaved += [outcome] if outcome is not None else []
            if self._unsaved:  # after a cancellation: don't lose what was fetched
                await self._save_pictures(self._unsaved)

    async def _stages(self) -> None:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._fetch_pictures()) for _ in range(PICTURES_AT_ONCE)]
            group.create_task(self._write_pictures())
            async with asyncio.TaskGroup() as first:
                if self._work.api:
                    first.create_task(self._find_ids())
                    for _ in range(DETAILS_AT_ONCE):
                        first.create_task(self._read_details())
                if self._run.mode != "refresh":
                    first.create_task(self._find_due_pictures())
            if self._work.api and self._run.error is None:
                await ask_for_shorts(self._run)
            if self._run.mode == "refresh":
                # The details stage has queued the thumbnails of the videos that it read; the others follow now.
                await self._jobs.join()
                await self._find_due_pictures()
            if not self._run.quota_spent:  # otherwise they wait until the next sync has looked up the list of Shorts
                await self._find_due_pictures(held=True)
            for _ in workers:
                await self._jobs.put(None)
            await asyncio.wait(workers)
            # Ends the writing stage, which writes the last batch at once.
            await self._outcomes.put(None)

    async def _find_ids(self) -> None:
        """Queue the ids of all videos to read, in full batches except the last."""
        fifties = Fifties()
        try:
            async with aclosing(self._ids()) as found:
                async for ids in found:
                    for batch in fifties.add(ids):
                        await self._batches.put(batch)
            for batch in fifties.rest():
                await self._batches.put(batch)
        except QuotaExceeded:
            self._run.quota_spent = True
        for _ in range(DETAILS_AT_ONCE):
            await self._batches.put(None)

    async def _ids(self) -> AsyncGenerator[Iterable[str], None]:
        run = self._run
        read = run.clients.store.read
        # Queried first, because videos that this sync finds unsettled are for the next sync.
        unsettled = await read(unsettled_ids, run.channel_id, limit=BATCH) if self._work.settle else []
        async for ids in _pages(self._known_ids):
            yield ids
        async for listing in self._work.listings():
            async with aclosing(list_uploads(run, listing)) as pages:
                async for batch in pages:
                    yield batch
        if self._work.feed_ids:
            yield await self._missed_ids()
        if self._work.whole_since is not None and run.error is None:
            async for ids in _pages(self._unseen_ids):
                yield ids
        yield unsettled

    async def _known_ids(self, after: str) -> list[str]:
        """The next known videos to read: in a refresh, those not read since its start; otherwise, those never read."""
        run, now = self._run, self._run.clients.now()
        if run.refresh_from is None:
            return await run.clients.store.read(
                unread_ids, run.channel_id, after=after, listed_before=run.started_at, now=now
            )
        return await run.clients.store.read(
            videos_to_refresh,
            run.channel_id,
            after=after,
            read_before=run.refresh_from,
            listed_before=run.started_at,
            now=now,
        )

    async def _missed_ids(self) -> list[str]:
        """The videos that are in the feed, but in no listing."""
        run, now = self._run, self._run.clients.now()
        channel = await run.clients.store.read(get_channel, run.channel_id)
        _, missed = await run.write(
            add_from_feed,
            lambda added: SyncCounts(new=added[0]),
            run.channel_id,
            self._work.feed_ids,
            now=now,
            listed_at=channel.listed_at,
            asked_since=now - FEED_ASKED_AGAIN_AFTER,
        )
        return missed

    async def _unseen_ids(self, after: str) -> list[str]:
        run, since = self._run, self._work.whole_since
        assert since is not None
        return await run.clients.store.read(
            unseen_ids, run.channel_id, after=after, listed_from=since, now=run.clients.now()
        )

    async def _read_details(self) -> None:
        while (batch := await self._batches.get()) is not None:
            if self._run.quota_spent:
                continue
            try:
                items = await self._details_of(batch)
            except QuotaExceeded:
                self._run.quota_spent = True
                continue
            for job in (await self._save_details(batch, items)).pictures:
                self._run.clients.progress.pictures_wanted(1)
                await self._jobs.put(job)

    async def _details_of(self, batch: list[str]) -> list[VideoItem]:
        """Read a batch from the API. Requests missing videos again if most of the batch is missing."""
        youtube = self._run.clients.youtube
        items = await youtube.videos(batch)
        missing = [i for i in batch if i not in {item.id for item in items}]
        if needs_confirming(len(batch), len(missing)):
            items += await youtube.videos(missing)
        return items

    async def _save_details(self, batch: list[str], items: list[VideoItem]) -> DetailsResult:
        run, now = self._run, self._run.clients.now()
        found = {item.id for item in items}

        def save(session: Session) -> DetailsResult:
            # Read here, because another command may have changed it since this sync began.
            minimum = get_channel(session, run.channel_id).min_duration_s
            return record_details(
                session,
                [details_from(item, minimum) for item in items],
                [video_id for video_id in batch if video_id not in found],
                now=now,
                started_at=run.started_at,
                recheck_before=run.refresh_from,
            )

        result = await run.write(save, lambda result: SyncCounts(changed=result.changed, gone=result.gone))
        run.clients.progress.details(len(batch))
        return result

    async def _find_due_pictures(self, *, held: bool = False) -> None:
        """Queue the due thumbnails of videos that were read before this sync, or in a refresh, of all videos.

        With `held`, the thumbnails of videos that waited for the list of Shorts, regardless of when they were read.
        """
        run, after = self._run, ""
        refresh = run.refresh_from is not None
        while True:
            now = run.clients.now()
            jobs = await run.clients.store.read(
                pictures_due,
                run.channel_id,
                after=after,
                now=now,
                read_before=now if refresh or held else run.started_at,
                recheck_before=run.refresh_from,
                started_at=run.started_at,
                held=held,
                limit=JOBS_A_PAGE,
            )
            if not jobs:
                return
            run.clients.progress.pictures_wanted(len(jobs))
            for job in jobs:
                await self._jobs.put(job)
            after = jobs[-1].video_id

    async def _fetch_pictures(self) -> None:
        while (job := await self._jobs.get()) is not None:
            # A large thumbnail counts against `LARGE_AT_ONCE` until it is written.
            async with self._run.clients.http.turn():
                await self._fetch_picture(job)

    async def _fetch_picture(self, job: PictureJob) -> None:
        run, failures = self._run, self._failures
        outcome, unreachable = await run.clients.thumbnails.fetch(job, run.thumbnail_size)
        self._unreachable = self._unreachable + 1 if unreachable else 0
        if self._unreachable >= MOST_UNREACHABLE:
            reason = outcome.reason if isinstance(outcome, FailedPicture) else ""
            raise NetworkError(
                f"{MOST_UNREACHABLE} thumbnails in a row can't be fetched; the fetched thumbnails are kept. "
                f"The last failure: {reason}"
            )
        if unreachable:
            self._failures += 1
            self._unconfirmed[job.video_id] = self._failures, outcome
            self._jobs.task_done()
            return
        self._unconfirmed.pop(job.video_id, None)
        written = asyncio.Event()
        if isinstance(outcome, FetchedPicture) and len(outcome.data) > LARGE_BYTES:
            self._written_events[id(outcome)] = written
        else:
            written.set()
        try:
            # Record only failures from before this request: its success says nothing about later failures.
            await self._confirm_failures(failures)
            await self._unwritten.take(_size(outcome))
            await self._outcomes.put(outcome)
        except asyncio.CancelledError:
            self._unsaved.append(outcome)
            raise
        await written.wait()

    async def _write_pictures(self) -> None:
        batch: list[PictureOutcome] = []
        ended = False
        try:
            while not ended:
                ended = await gather(self._outcomes, batch)
                written, batch = batch, []
                if written:
                    await self._save_pictures(written)
            await self._confirm_failures(self._failures)
        finally:
            if batch:  # after a cancellation: don't lose what was fetched
                await self._save_pictures(batch)

    async def _save_pictures(self, outcomes: list[PictureOutcome]) -> None:
        await self._record(outcomes)
        await self._unwritten.give_back(sum(map(_size, outcomes)))
        for outcome in outcomes:
            self._jobs.task_done()
            if (written := self._written_events.pop(id(outcome), None)) is not None:
                written.set()

    async def _confirm_failures(self, most: int) -> None:
        """Record the failures up to number `most`: the network works, so the thumbnails are the cause."""
        blamed = {video_id: outcome for video_id, (number, outcome) in self._unconfirmed.items() if number <= most}
        if blamed:
            for video_id in blamed:
                del self._unconfirmed[video_id]
            await self._record(list(blamed.values()))

    async def _record(self, outcomes: list[PictureOutcome]) -> None:
        run = self._run

        def counts(result: PicturesResult) -> SyncCounts:
            return SyncCounts(
                changed=result.changed,
                pictures_fetched=result.fetched,
                pictures_unchanged=result.unchanged,
                pictures_failed=result.failed,
            )

        kept, cancelled = await shielded(run.clients.store.keep(outcomes))
        await run.write(record_pictures, counts, kept, now=run.clients.now(), started_at=run.started_at)
        run.clients.progress.pictures_done(len(outcomes))
        if cancelled:
            raise asyncio.CancelledError


def _size(outcome: PictureOutcome) -> int:
    return len(outcome.data) if isinstance(outcome, FetchedPicture) else 0


async def _pages(read: Callable[[str], Awaitable[list[str]]]) -> AsyncIterator[list[str]]:
    """Yield all ids of a query in pages. `read` returns the ids after a given id, in order."""
    after = ""
    while ids := await read(after):
        yield ids
        after = ids[-1]
