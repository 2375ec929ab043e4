"""Public counts over time: each read of a video's details adds a reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, bindparam, delete, func, select, update
from sqlalchemy.orm import Session, aliased

from store.db import insert_rows
from store.tables import Video, VideoReading

__all__ = ["Counts", "delete_readings", "record_readings"]


@dataclass(frozen=True, slots=True)
class Counts:
    """A video's public counts; None if hidden."""

    views: int | None
    likes: int | None
    comments: int | None


def record_readings(session: Session, counts: Mapping[str, Counts], now: datetime) -> None:
    """Write {video id: counts} read at `now`.

    Of successive equal readings only the first and the last are kept: the last reading's time is moved forward. Linear
    interpolation between the two gives the same counts as the readings in between.
    """
    if not counts:
        return
    still = _unchanged(session, counts, now)
    if still:
        moved = [{"of_video": video_id, "of_time": read_at, "now": now} for video_id, read_at in still.items()]
        session.connection().execute(_MOVE, moved)
    rows = [
        {"video_id": video_id, "read_at": now, "views": of.views, "likes": of.likes, "comments": of.comments}
        for video_id, of in sorted(counts.items())
        if video_id not in still
    ]
    # Two batches with the same time may contain the same video.
    insert_rows(session, VideoReading, rows, skip_known=True)


def _unchanged(session: Session, counts: Mapping[str, Counts], now: datetime) -> dict[str, datetime]:
    """{video id: time of its last reading} for videos whose last two readings equal `counts`."""
    found: dict[str, list[tuple[datetime, Counts]]] = {}
    for video_id, read_at, *values in session.execute(_LAST_TWO, {"ids": list(counts)}):
        found.setdefault(video_id, []).append((read_at, Counts(*values)))
    still = {}
    for video_id, readings in found.items():
        last_at = max(read_at for read_at, _ in readings)
        # A reading in the future was written by a wrong clock: keep it, and write a new reading.
        if len(readings) == 2 and last_at < now and all(known == counts[video_id] for _, known in readings):
            still[video_id] = last_at
    return still


def delete_readings(session: Session, before: datetime) -> int:
    """Delete readings older than `before`; return their number."""
    count = session.scalar(select(func.count()).select_from(VideoReading).where(VideoReading.read_at < before)) or 0
    session.execute(delete(VideoReading).where(VideoReading.read_at < before))
    return count


# Module-level because every transaction of a sync that reads details executes them.
_earlier = aliased(VideoReading)
_last_but_one = (
    select(_earlier.read_at)
    .where(_earlier.video_id == Video.id)
    .order_by(_earlier.read_at.desc())
    .limit(1)
    .offset(1)
    .correlate(Video)
    .scalar_subquery()
)
_LAST_TWO = (
    select(Video.id, VideoReading.read_at, VideoReading.views, VideoReading.likes, VideoReading.comments)
    .join(VideoReading, and_(VideoReading.video_id == Video.id, VideoReading.read_at >= _last_but_one))
    .where(Video.id.in_(bindparam("ids", expanding=True)))
)
_MOVE = (
    update(VideoReading)
    .where(VideoReading.video_id == bindparam("of_video"), VideoReading.read_at == bindparam("of_time"))
    .values(read_at=bindparam("now"))
)
