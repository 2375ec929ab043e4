"""Channels: their descriptions, settings, and the progress of their listings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select, update
from sqlalchemy.orm import Session

from store.db import batches, insert
from store.errors import AmbiguousHandle, NotFound
from store.tables import Channel, SyncRun, Video
from store.types import CLOCKS_DIFFER, LONG_AGO
from store.youtube.shorts import is_short
from store.youtube.videos import is_pair

__all__ = [
    "ChannelSummary",
    "NamedChannel",
    "change_settings",
    "channel_ids",
    "finish_check",
    "finish_listing",
    "fresh_since",
    "find_by_handle",
    "followed_ids",
    "holders_of",
    "keep_handle",
    "get_channel",
    "is_listing_unfinished",
    "lock_channel",
    "mark_refreshed",
    "pause_channel",
    "release_handle",
    "restart_listing",
    "save_channel",
    "save_listing_place",
    "summaries",
]


@dataclass(frozen=True, slots=True)
class NamedChannel:
    """A channel that has, or had, a given handle."""

    id: str
    title: str
    described_at: datetime | None
    """When the API last described the channel; None if unknown."""


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """One line of `thumbtune channels`."""

    id: str
    handle: str | None
    title: str
    videos: int
    pairs: int
    last_sync_at: datetime | None
    last_status: str | None
    synced_at: datetime | None
    units: int
    """API quota units spent by all syncs of the channel."""
    paused_at: datetime | None
    """Since when syncs that do not name the channel skip it; None if they don't."""


def get_channel(session: Session, channel_id: str) -> Channel:
    """Return the channel's row.

    Raises:
        NotFound: the store does not have the channel.
    """
    channel = session.get(Channel, channel_id)
    if channel is None or channel.removed_at is not None:
        raise NotFound(f"the store has no channel {channel_id}; run 'thumbtune sync {channel_id}' first")
    return channel


def lock_channel(session: Session, channel_id: str) -> None:
    """Prevent the channel's removal until this write transaction ends.

    Raises:
        NotFound: the store does not have the channel.
    """
    query = select(Channel).where(Channel.id == channel_id).with_for_update(key_share=True)
    session.scalar(query.execution_options(populate_existing=True))
    get_channel(session, channel_id)


def channel_ids(session: Session) -> list[str]:
    """Ids of all channels that are not removed, in the order in which they were added."""
    kept = select(Channel.id).where(Channel.removed_at.is_(None))
    return list(session.scalars(kept.order_by(Channel.added_at, Channel.id)))


def followed_ids(session: Session) -> list[str]:
    """The channels to sync if the user names none: all but removed and paused ones, in the order of addition."""
    kept = select(Channel.id).where(Channel.removed_at.is_(None), Channel.paused_at.is_(None))
    return list(session.scalars(kept.order_by(Channel.added_at, Channel.id)))


def pause_channel(session: Session, channel_id: str, since: datetime | None) -> None:
    """Exclude a channel from syncs that do not name it; with None, include it again.

    Raises:
        NotFound: the store does not have the channel.
    """
    get_channel(session, channel_id).paused_at = since


def find_by_handle(session: Session, handle: str) -> str | None:
    """Return the id of the stored channel with this `@handle`, or None.

    Raises:
        AmbiguousHandle: several channels have the handle.
    """
    found = holders_of(session, handle)
    if len(found) > 1:
        ids = " and ".join(channel.id for channel in found)
        raise AmbiguousHandle(f"channels {ids} in the store have the handle {handle}; use the channel's id")
    return found[0].id if found else None


def holders_of(session: Session, handle: str) -> list[NamedChannel]:
    """Return the channels with this `@handle`, ignoring case, ordered by id.

    The comparison is not in SQL, because SQLite's `lower` only handles ASCII, and handles may be in any script.
    """
    folded = handle.casefold()
    columns = (Channel.id, Channel.title, Channel.described_at, Channel.handle)
    rows = session.execute(select(*columns).where(Channel.handle.is_not(None)).order_by(Channel.id))
    return [NamedChannel(*row[:3]) for row in rows if row.handle.casefold() == folded]


def keep_handle(session: Session, channel_id: str, now: datetime) -> None:
    """Trust a channel's stored handle again, after YouTube reported that no channel has it now."""
    session.execute(update(Channel).where(Channel.id == channel_id).values(described_at=now))


def release_handle(session: Session, handle: str, holder: str) -> list[NamedChannel]:
    """Clear the handle, which belongs to the channel `holder`, from all other channels; return those channels."""
    former = [channel for channel in holders_of(session, handle) if channel.id != holder]
    if former:
        ids = [channel.id for channel in former]
        # Locked in the order of ids: two channels may have swapped handles and be syncing at the same time.
        locked = select(Channel.id).where(Channel.id.in_([*ids, holder])).order_by(Channel.id)
        session.execute(locked.with_for_update(key_share=True)).all()
        session.execute(update(Channel).where(Channel.id.in_(ids)).values(handle=None))
    return former


def save_channel(
    session: Session,
    *,
    channel_id: str,
    handle: str | None,
    title: str,
    uploads_playlist_id: str,
    api_item: dict[str, Any],
    default_min_duration_s: int,
    default_thumbnail_size: str,
    now: datetime,
) -> list[NamedChannel]:
    """Insert a channel with the default settings, or update the description of a known channel.

    A removed channel gets the default settings again. A handle belongs to one channel at a time.

    Returns:
        The other channels that had the handle, and now have none.
    """
    former = release_handle(session, handle, channel_id) if handle is not None else []
    described = {
        "handle": handle,
        "title": title,
        "uploads_playlist_id": uploads_playlist_id,
        "api_item": api_item,
        "described_at": now,
    }
    row = {
        "id": channel_id,
        **described,
        "min_duration_s": default_min_duration_s,
        "thumbnail_size": default_thumbnail_size,
        "added_at": now,
    }
    removed = Channel.removed_at.is_not(None)
    chosen = ("min_duration_s", "thumbnail_size", "added_at")
    anew = {name: case((removed, row[name]), else_=getattr(Channel, name)) for name in chosen}
    session.execute(
        insert(session, Channel)
        .values(row)
        .on_conflict_do_update(index_elements=[Channel.id], set_={**described, **anew, "removed_at": None})
    )
    return former


def change_settings(
    session: Session, channel_id: str, *, min_duration_s: int | None, thumbnail_size: str | None
) -> None:
    """Change a channel's settings for this and later syncs; None leaves a setting unchanged.

    A new minimum duration (seconds) classifies stored videos again. The thumbnails of videos that count again may have
    changed, so they become due. With a new size, stored thumbnails are marked as checked long ago, so that the next
    refresh replaces them, even a refresh that resumes after the change.
    """
    settings: dict[str, Any] = {}
    if thumbnail_size is not None:
        settings["thumbnail_size"] = thumbnail_size
        if thumbnail_size != get_channel(session, channel_id).thumbnail_size:
            _update_videos(session, channel_id, Video.picture_checked_at.is_not(None), picture_checked_at=LONG_AGO)
    if min_duration_s is not None:
        settings["min_duration_s"] = min_duration_s
        known, short = Video.duration_s.is_not(None), is_short(min_duration_s)
        shorter = and_(known, Video.kind == "video", short)
        longer = and_(known, Video.kind == "short", ~short)
        _update_videos(session, channel_id, shorter, kind="short")
        _update_videos(session, channel_id, longer, kind="video", picture_checked_at=None)
    # The channel's row is locked last, as when a page of the listing is written.
    if settings:
        session.execute(update(Channel).where(Channel.id == channel_id).values(settings))


def _update_videos(session: Session, channel_id: str, which: ColumnElement[bool], **values: Any) -> None:
    # Every batch locks rows in the order of ids, so that two processes can't deadlock.
    ids = session.scalars(
        select(Video.id).where(Video.channel_id == channel_id, which).order_by(Video.id).with_for_update(key_share=True)
    ).all()
    for batch in batches(ids):
        session.execute(update(Video).where(Video.id.in_(batch)).values(values))


def save_listing_place(session: Session, channel_id: str, *, token: str, began_at: datetime | None) -> None:
    """Store the page token at which the listing resumes; `began_at` only for a listing of the whole playlist."""
    session.execute(
        update(Channel).where(Channel.id == channel_id).values(listing_token=token, **_whole_listing(began_at))
    )


def finish_listing(session: Session, channel_id: str, now: datetime, *, began_at: datetime | None = None) -> None:
    """Mark the listing as complete: the known videos have no gap.

    `began_at` of a listing of the whole playlist is kept until `finish_check`, which ends the check of videos that the
    listing did not show.
    """
    session.execute(
        update(Channel)
        .where(Channel.id == channel_id)
        .values(listing_token=None, listed_at=now, **_whole_listing(began_at))
    )


def _whole_listing(began_at: datetime | None) -> dict[str, datetime]:
    """A later listing of only the newest videos must not clear the pending check of a whole listing."""
    return {} if began_at is None else {"listing_began_at": began_at}


def finish_check(session: Session, channel_id: str) -> None:
    """Mark the videos that the last whole listing did not show as checked."""
    session.execute(update(Channel).where(Channel.id == channel_id).values(listing_began_at=None))


def restart_listing(session: Session, channel_id: str, *, whole: bool) -> None:
    """Discard an invalid page token; the listing stays unfinished.

    Args:
        session: a write session.
        channel_id: the channel.
        whole: the listing was of the whole playlist, so the next listing must be, too.
    """
    forgotten = {"listed_at": None} if whole else {}
    session.execute(
        update(Channel).where(Channel.id == channel_id).values(listing_token=None, listing_began_at=None, **forgotten)
    )


def is_listing_unfinished(session: Session, channel_id: str, now: datetime) -> bool:
    """Whether videos were listed since the last complete listing ended, so that older videos may be missing.

    Times in the future were written by a wrong clock and are ignored.
    """
    listed_at = get_channel(session, channel_id).listed_at
    query = select(Video.id).where(Video.channel_id == channel_id, Video.first_seen_at <= now + CLOCKS_DIFFER)
    if listed_at is not None:
        query = query.where(Video.first_seen_at > listed_at)
    return session.scalar(query.limit(1)) is not None


def mark_refreshed(session: Session, channel_id: str, now: datetime, *, began_at: datetime | None = None) -> None:
    """Record that a refresh has read every known video again. It began at `began_at`; None: now."""
    began = {"refreshed_at": now, "refresh_began_at": began_at or now}
    session.execute(update(Channel).where(Channel.id == channel_id).values(began))


def fresh_since(session: Session) -> dict[str, datetime]:
    """Return {channel id: a time after which all its video data was read}, without removed channels.

    The time is the start of the last complete refresh, or the time when the channel was added.
    """
    since = func.coalesce(Channel.refresh_began_at, Channel.refreshed_at, Channel.added_at)
    rows = session.execute(select(Channel.id, since).where(Channel.removed_at.is_(None)))
    return dict(rows.all())


def summaries(session: Session) -> list[ChannelSummary]:
    """All channels that are not removed, with counts and last sync, in the order in which they were added."""
    counts = (
        select(
            Video.channel_id,
            func.count().label("videos"),
            func.count().filter(is_pair()).label("pairs"),
        )
        .group_by(Video.channel_id)
        .subquery()
    )
    costs = (
        select(SyncRun.channel_id, func.sum(SyncRun.units).label("units"), func.max(SyncRun.id).label("last"))
        .group_by(SyncRun.channel_id)
        .subquery()
    )
    rows = session.execute(
        select(Channel, counts.c.videos, counts.c.pairs, costs.c.units, SyncRun.started_at, SyncRun.status)
        .outerjoin(counts, counts.c.channel_id == Channel.id)
        .outerjoin(costs, costs.c.channel_id == Channel.id)
        .outerjoin(SyncRun, SyncRun.id == costs.c.last)
        .where(Channel.removed_at.is_(None))
        .order_by(Channel.added_at, Channel.id)
    )
    return [
        ChannelSummary(
            id=channel.id,
            handle=channel.handle,
            title=channel.title,
            videos=videos or 0,
            pairs=pairs or 0,
            last_sync_at=started_at,
            last_status=status,
            synced_at=channel.synced_at,
            units=units or 0,
            paused_at=channel.paused_at,
        )
        for channel, videos, pairs, units, started_at, status in rows
    ]
