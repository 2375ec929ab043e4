"""Videos that may be Shorts by their duration: which they are, and what the channel's list of Shorts said of them.

YouTube has no flag for Shorts. It lists a channel's Shorts in an undocumented playlist, which may be missing or
incomplete, so its answer is kept as a hint for the videos whose duration does not tell.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, func, null, or_, select, update
from sqlalchemy.orm import Session

from store.tables import Channel, Video
from store.types import before

__all__ = [
    "LONGEST_SHORT_S",
    "count_doubtful",
    "doubtful_durations",
    "doubtful_ids",
    "is_held",
    "is_short",
    "record_membership",
]

SHORTS_LAST_S = 180
"""Since 15 October 2024 (https://support.google.com/youtube/answer/15424877)."""
LONGEST_SHORT_S = SHORTS_LAST_S + 1
"""As the API gives durations: it may round a Short's up by a second."""

_BATCH = 500


def doubtful_durations(min_duration_s: int) -> range:
    """The durations in seconds at which a video may or may not be a Short, so that the list of Shorts decides.

    From the minimum on, and at the default minimum of 181 also those within a second of what Shorts may last. Empty for
    a minimum that no Short reaches, and for 0, which counts every video.
    """
    if not 0 < min_duration_s <= LONGEST_SHORT_S:
        return range(0)
    return range(min(min_duration_s, SHORTS_LAST_S), LONGEST_SHORT_S + 1)


def is_short(min_duration_s: int) -> ColumnElement[bool]:
    """Whether a video with a duration counts as a short: by the list of Shorts where that decides and has answered."""
    answered = and_(_is_doubtful(min_duration_s), Video.in_shorts_list.is_not(None))
    return case((answered, Video.in_shorts_list), else_=Video.duration_s < min_duration_s)


def is_held(session: Session, channel_id: str, *, started_at: datetime) -> ColumnElement[bool]:
    """Whether a video's thumbnail waits for the list of Shorts in a sync that began at `started_at`.

    True if the list was never asked for the video, or was asked in this sync.
    """
    asked = or_(Video.shorts_asked_at.is_(None), Video.shorts_asked_at >= started_at)
    return and_(_is_doubtful(_minimum(session, channel_id)), asked)


def count_doubtful(session: Session, channel_id: str, *, now: datetime, asked_before: datetime | None = None) -> int:
    """How many videos of a channel the list of Shorts is to be asked for.

    Each is asked for once; with `asked_before`, also those that were last asked for before that instant.
    """
    waiting = _waiting(session, channel_id, now, asked_before)
    return session.scalar(select(func.count()).select_from(Video).where(waiting)) or 0


def doubtful_ids(
    session: Session, channel_id: str, *, now: datetime, asked_before: datetime | None = None, limit: int
) -> list[str]:
    """The ids of such videos, in their order."""
    waiting = _waiting(session, channel_id, now, asked_before)
    return list(session.scalars(select(Video.id).where(waiting).order_by(Video.id).limit(limit)))


def record_membership(
    session: Session,
    channel_id: str,
    in_list: bool | None,
    *,
    ids: Collection[str] | None = None,
    now: datetime,
    asked_before: datetime | None = None,
) -> int:
    """Write what the list of Shorts says of the videos that it was asked for, and sort them by it.

    Args:
        session: in a write transaction.
        channel_id: whose.
        in_list: whether they are in it; None: it gave no answer, and their kind does not change.
        ids: which of the videos that wait for an answer; None: all of them.
        now: the time.
        asked_before: see `count_doubtful`.

    Returns:
        The number of videos that the answer settles.
    """
    which = _waiting(session, channel_id, now, asked_before)
    if ids is not None:
        which = and_(which, Video.id.in_(ids))
    # Locked in the order of ids, as in every batch.
    found = session.scalars(select(Video.id).where(which).order_by(Video.id).with_for_update(key_share=True)).all()
    values: dict[str, Any] = {"shorts_asked_at": now}
    if in_list is not None:
        values |= {"in_shorts_list": in_list, "kind": "short" if in_list else "video"}
    if in_list is False:  # the thumbnail of a video that counts again may be another by now
        values["picture_checked_at"] = case((Video.kind == "short", null()), else_=Video.picture_checked_at)
    for start in range(0, len(found), _BATCH):
        session.execute(update(Video).where(Video.id.in_(found[start : start + _BATCH])).values(values))
    return len(found)


def _waiting(session: Session, channel_id: str, now: datetime, asked_before: datetime | None) -> ColumnElement[bool]:
    due: ColumnElement[bool] = Video.shorts_asked_at.is_(None)
    if asked_before is not None:
        due = or_(due, before(Video.shorts_asked_at, asked_before, now))
    return and_(
        Video.channel_id == channel_id,
        Video.kind.in_(("video", "short")),
        Video.availability == "available",
        _is_doubtful(_minimum(session, channel_id)),
        due,
    )


def _is_doubtful(min_duration_s: int) -> ColumnElement[bool]:
    durations = doubtful_durations(min_duration_s)
    return Video.duration_s.between(durations[0], durations[-1]) if durations else false()


def _minimum(session: Session, channel_id: str) -> int:
    # As it is now: another command may have changed it.
    return session.scalar(select(Channel.min_duration_s).where(Channel.id == channel_id)) or 0
