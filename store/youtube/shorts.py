"""Classify videos that could be Shorts by their duration, using the channel's Shorts playlist.

The YouTube API has no flag for Shorts. An undocumented playlist lists a channel's Shorts, but it may be missing or
incomplete. It is only used for videos whose duration does not decide.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, func, null, or_, select, update
from sqlalchemy.orm import Session

from store.db import batches
from store.tables import Channel, Video
from store.types import before

__all__ = [
    "count_doubtful",
    "doubtful_durations",
    "doubtful_ids",
    "is_held",
    "is_short",
    "record_membership",
]

SHORTS_LAST_S = 180
"""Maximum duration of a Short in seconds since 15 October 2024 (https://support.google.com/youtube/answer/15424877)."""
LONGEST_SHORT_S = SHORTS_LAST_S + 1
"""Maximum duration of a Short in API responses, which may round up by a second."""


def doubtful_durations(min_duration_s: int) -> range:
    """The durations in seconds for which the Shorts playlist decides whether a video is a Short.

    They start at the channel's minimum duration, or at 180 for the default minimum of 181. The range is empty if no
    Short can reach the minimum, and for a minimum of 0, which accepts every video.
    """
    if not 0 < min_duration_s <= LONGEST_SHORT_S:
        return range(0)
    return range(min(min_duration_s, SHORTS_LAST_S), LONGEST_SHORT_S + 1)


def is_short(min_duration_s: int) -> ColumnElement[bool]:
    """Whether a video with a duration counts as a Short, by the Shorts playlist if that decides and has answered."""
    answered = and_(_is_doubtful(min_duration_s), Video.in_shorts_list.is_not(None))
    return case((answered, Video.in_shorts_list), else_=Video.duration_s < min_duration_s)


def is_held(session: Session, channel_id: str, *, started_at: datetime) -> ColumnElement[bool]:
    """Whether a video's thumbnail waits for the Shorts playlist in a sync that began at `started_at`.

    True if the playlist was never queried for the video, or was queried in this sync.
    """
    asked = or_(Video.shorts_asked_at.is_(None), Video.shorts_asked_at >= started_at)
    return and_(_is_doubtful(_minimum(session, channel_id)), asked)


def count_doubtful(session: Session, channel_id: str, *, now: datetime, asked_before: datetime | None = None) -> int:
    """Count the videos of a channel for which the Shorts playlist must be queried.

    Each video is queried once; with `asked_before`, videos last queried before that time are included again.
    """
    waiting = _waiting(session, channel_id, now, asked_before)
    return session.scalar(select(func.count()).select_from(Video).where(waiting)) or 0


def doubtful_ids(
    session: Session, channel_id: str, *, now: datetime, asked_before: datetime | None = None, limit: int
) -> list[str]:
    """The ids of the videos that `count_doubtful` counts, in ascending order."""
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
    """Write the Shorts playlist's answer for videos, and set their kind accordingly.

    Args:
        session: a write session.
        channel_id: the channel.
        in_list: whether the playlist contains the videos; None: no answer, and their kind does not change.
        ids: the videos, of those that wait for an answer; None: all that wait.
        now: the current time.
        asked_before: see `count_doubtful`.

    Returns:
        The number of updated videos.
    """
    which = _waiting(session, channel_id, now, asked_before)
    if ids is not None:
        which = and_(which, Video.id.in_(ids))
    # Locked in the order of ids, like every batch.
    found = session.scalars(select(Video.id).where(which).order_by(Video.id).with_for_update(key_share=True)).all()
    values: dict[str, Any] = {"shorts_asked_at": now}
    if in_list is not None:
        values |= {"in_shorts_list": in_list, "kind": "short" if in_list else "video"}
    if in_list is False:  # the thumbnail of a video that counts again may have changed
        values["picture_checked_at"] = case((Video.kind == "short", null()), else_=Video.picture_checked_at)
    for batch in batches(found):
        session.execute(update(Video).where(Video.id.in_(batch)).values(values))
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
    # Read again, because another command may have changed it.
    return session.scalar(select(Channel.min_duration_s).where(Channel.id == channel_id)) or 0
