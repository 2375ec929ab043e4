"""Fetches damaged thumbnails again from their original URLs. Needs no API key and costs no units."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.http import Http
from collector.store_thread import StoreThread
from collector.thumbnails import Thumbnails
from store.db import DamagedPicture, Database, Showing
from store.types import utc_now
from store.youtube import FailedPicture, FetchedPicture, PictureJob, PictureOutcome, record_pictures

__all__ = ["Repair", "repair_pictures"]

AT_ONCE = 8
NOT_SHOWN = "no video shows it now; only the history refers to it"
CHANGED = "YouTube now shows another thumbnail, which was stored; only the history refers to the damaged thumbnail"


@dataclass(frozen=True, slots=True)
class Repair:
    """The result for a damaged thumbnail. `reason` says why it could not be repaired; None if it was repaired."""

    sha256: str
    reason: str | None


async def repair_pictures(
    database: Database,
    damaged: Sequence[DamagedPicture],
    extra_hosts: tuple[str, ...],
    *,
    stop: asyncio.Event | None = None,
    http: Http | None = None,
) -> list[Repair]:
    """Fetch damaged thumbnails again, with unconditional requests, and store each result, also if it differs.

    Args:
        database: an open store.
        damaged: see `store.db.damage.pictures_to_repair`.
        extra_hosts: thumbnail hosts that are allowed in addition to YouTube's.
        stop: set it to end early; thumbnails in progress are finished.
        http: a session that has not been entered; default: a new `Http`.

    Returns:
        A result for each thumbnail that was processed, in the given order.

    Raises:
        StoreError: the database failed.
    """
    free = asyncio.Semaphore(AT_ONCE)
    with StoreThread(database) as store:
        async with http or Http() as session:
            repairer = _Repairer(store, Thumbnails(session, extra_hosts), session)

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

    async def repair(self, picture: DamagedPicture) -> Repair:
        """Fetch the thumbnails of the videos that show it, until one of them is the damaged thumbnail."""
        reason = NOT_SHOWN
        for video in picture.shown_by:
            async with self.http.turn():
                outcome = await self._fetch(video)
                if isinstance(outcome, FailedPicture):
                    reason = reason if reason == CHANGED else outcome.reason
                    continue
                now = utc_now()
                kept = await self.store.keep([outcome])
                await self.store.write(record_pictures, kept, now=now, started_at=now)
            if isinstance(outcome, FetchedPicture) and outcome.sha256 == picture.sha256:
                return Repair(picture.sha256, None)
            reason = CHANGED
        return Repair(picture.sha256, reason)

    async def _fetch(self, video: Showing) -> PictureOutcome:
        """Fetch from the original URL, or else from the API's URLs: the preferred size may have changed since."""
        tried: list[Mapping[str, object]] = [{video.size: {"url": video.url}}] if video.url else []
        outcome: PictureOutcome = FailedPicture(video.video_id, None, "the API lists no thumbnail")
        for thumbnails in [*tried, video.thumbnails]:
            job = PictureJob(video.video_id, dict(thumbnails), None, None, None)
            outcome, _ = await self.thumbnails.fetch(job, video.size)
            if not isinstance(outcome, FailedPicture):
                break
        return outcome
