"""Fetching damaged thumbnails again, from where they came: no API key is needed, and no unit is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from collector.http import Http
from collector.store_thread import StoreThread
from collector.thumbnails import Thumbnails
from store.db import DamagedPicture, Database, Showing
from store.types import utc_now
from store.youtube import FailedPicture, FetchedPicture, PictureJob, PictureOutcome, record_pictures

__all__ = ["Repair", "repair_pictures"]

AT_ONCE = 8
NOT_SHOWN = "no video shows it now: it remains in the history only"
CHANGED = "YouTube shows another thumbnail by now, which was stored: this one belongs to the history only"


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a damaged picture; `reason`: why it could not be repaired, None when it was."""

    sha256: str
    reason: str | None


async def repair_pictures(
    database: Database,
    damaged: Sequence[DamagedPicture],
    extra_hosts: tuple[str, ...],
    *,
    stop: asyncio.Event | None = None,
    http: Http | None = None,
    now: Callable[[], datetime] = utc_now,
) -> list[Repair]:
    """Fetch damaged pictures again, unconditionally; what comes is stored at once, whatever it is.

    Args:
        database: an open store.
        damaged: see `store.db.damage.pictures_to_repair`.
        extra_hosts: picture hosts that are allowed in addition to YouTube's.
        stop: set it to end early: no other picture is begun.
        http: a session, not yet entered.
        now: the clock.

    Returns:
        One for each picture that was begun, in the order given.

    Raises:
        StoreError: the database failed.
    """
    free = asyncio.Semaphore(AT_ONCE)
    with StoreThread(database) as store:
        async with http or Http() as session:
            repairer = _Repairer(store, Thumbnails(session, extra_hosts), session, now)

            async def one(picture: DamagedPicture) -> Repair | None:
                async with free:
                    return None if stop is not None and stop.is_set() else await repairer.repair(picture)

            try:
                done = await asyncio.gather(*(one(picture) for picture in damaged))
            finally:
                repairer.thumbnails.close()
    return [repair for repair in done if repair is not None]


@dataclass(frozen=True)
class _Repairer:
    store: StoreThread
    thumbnails: Thumbnails
    http: Http
    now: Callable[[], datetime]

    async def repair(self, picture: DamagedPicture) -> Repair:
        """Ask for it by each of the videos that show it, until one has it."""
        reason = NOT_SHOWN
        for video in picture.shown_by:
            async with self.http.turn():
                outcome = await self._fetch(video)
                if isinstance(outcome, FailedPicture):
                    reason = reason if reason == CHANGED else outcome.reason
                    continue
                now = self.now()
                await self.store.write(record_pictures, [outcome], now=now, started_at=now)
            if isinstance(outcome, FetchedPicture) and outcome.sha256 == picture.sha256:
                return Repair(picture.sha256, None)
            reason = CHANGED
        return Repair(picture.sha256, reason)

    async def _fetch(self, video: Showing) -> PictureOutcome:
        """From where it came, or else what the API named: its channel may prefer another size by now."""
        tried: list[Mapping[str, object]] = [{video.size: {"url": video.url}}] if video.url else []
        outcome: PictureOutcome = FailedPicture(video.video_id, None, "the API names no thumbnail")
        for thumbnails in [*tried, video.thumbnails]:
            job = PictureJob(video.video_id, dict(thumbnails), None, None, None)
            outcome, _ = await self.thumbnails.fetch(job, video.size)
            if not isinstance(outcome, FailedPicture):
                break
        return outcome
