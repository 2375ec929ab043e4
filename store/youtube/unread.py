"""Finds the videos whose details a sync must read, or read again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from store.tables import Kind, Video
from store.types import before

__all__ = ["count_waiting", "unread_ids", "unseen_ids", "unsettled_ids", "unsettled_in_feed", "videos_to_refresh"]

UNSETTLED: tuple[Kind, ...] = ("upcoming", "live", "unknown")
"""Kinds that can change later, so that each sync reads the details again."""


def unsettled_in_feed(session: Session, ids: Sequence[str], *, asked_since: datetime) -> list[str]:
    """Return the feed's videos whose details must be read, in the feed's order.

    These are videos that the store lacks, and videos that it holds as unavailable and has not read since
    `asked_since`, because the feed may be outdated.
    """
    settled = set(
        session.scalars(
            select(Video.id).where(
                Video.id.in_(ids), or_(Video.availability == "available", Video.details_at >= asked_since)
            )
        )
    )
    return [video_id for video_id in dict.fromkeys(ids) if video_id not in settled]


def unread_ids(
    session: Session, channel_id: str, *, after: str, listed_before: datetime, now: datetime, limit: int = 50
) -> list[str]:
    """Available videos listed before `listed_before` whose details were never read, with ids after `after`, by id."""
    query = select(Video.id).where(
        Video.channel_id == channel_id,
        Video.id > after,
        Video.details_at.is_(None),
        Video.availability == "available",
        before(Video.first_seen_at, listed_before, now),
    )
    return list(session.scalars(query.order_by(Video.id).limit(limit)))


def unsettled_ids(session: Session, channel_id: str, *, limit: int) -> list[str]:
    """Streams, premieres and videos without a duration, which must be read again; the least recently read first."""
    query = select(Video.id).where(
        Video.channel_id == channel_id,
        Video.kind.in_(UNSETTLED),
        Video.availability == "available",
        Video.details_at.is_not(None),
    )
    return list(session.scalars(query.order_by(Video.details_at, Video.id).limit(limit)))


def unseen_ids(
    session: Session, channel_id: str, *, after: str, listed_from: datetime, now: datetime, limit: int = 50
) -> list[str]:
    """Available videos that a listing begun at `listed_from` did not show, with ids after `after`, by id."""
    query = select(Video.id).where(
        Video.channel_id == channel_id,
        Video.id > after,
        Video.availability == "available",
        before(Video.last_seen_at, listed_from, now),
        or_(Video.details_at.is_(None), before(Video.details_at, listed_from, now)),
    )
    return list(session.scalars(query.order_by(Video.id).limit(limit)))


def videos_to_refresh(
    session: Session,
    channel_id: str,
    *,
    after: str,
    read_before: datetime,
    listed_before: datetime,
    now: datetime,
    limit: int = 50,
) -> list[str]:
    """Videos listed before `listed_before` and not read since `read_before`, with ids after `after`, by id."""
    query = select(Video.id).where(
        Video.channel_id == channel_id,
        Video.id > after,
        before(Video.first_seen_at, listed_before, now),
        or_(Video.details_at.is_(None), before(Video.details_at, read_before, now)),
    )
    return list(session.scalars(query.order_by(Video.id).limit(limit)))


def count_waiting(session: Session, channel_id: str) -> int:
    """Count the channel's videos that need an API call: details unread, or kind not final."""
    query = select(func.count()).where(
        Video.channel_id == channel_id,
        Video.availability == "available",
        or_(Video.details_at.is_(None), Video.kind.in_(UNSETTLED)),
    )
    return session.scalar(query) or 0
