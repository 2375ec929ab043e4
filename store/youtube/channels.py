"""Channels: which are kept, with which settings, and how far each one's listing has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select, update
from sqlalchemy.orm import Session

from store.db import insert
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
    "holders_of",
    "keep_handle",
    "get_channel",
    "is_listing_unfinished",
    "lock_channel",
    "mark_refreshed",
    "release_handle",
    "restart_listing",
    "save_channel",
    "save_listing_place",
    "summaries",
]


@dataclass(frozen=True, slots=True)
class NamedChannel:
    """A channel that has, or had, some handle."""

    id: str
    title: str
    described_at: datetime | None
    """When the API was last asked; None: long ago."""


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
    """API units that all syncs of the channel have cost."""


def get_channel(session: Session, channel_id: str) -> Channel:
    """The channel's row.

    Raises:
        NotFound: no such channel in the store.
    """
    channel = session.get(Channel, channel_id)
    if channel is None or channel.removed_at is not None:
        raise NotFound(f"the store has no channel {channel_id}; run 'thumbtune sync {channel_id}' first")
    return channel


def lock_channel(session: Session, channel_id: str) -> None:
    """Keep a channel from being removed until this write transaction ends.

    Raises:
        NotFound: no such channel in the store.
    """
    query = select(Channel).where(Channel.id == channel_id).with_for_update(key_share=True)
    session.scalar(query.execution_options(populate_existing=True))
    get_channel(session, channel_id)


def channel_ids(session: Session) -> list[str]:
    """All channels but removed ones, in the order in which they were added."""
    kept = select(Channel.id).where(Channel.removed_at.is_(None))
    return list(session.scalars(kept.order_by(Channel.added_at, Channel.id)))


def find_by_handle(session: Session, handle: str) -> str | None:
    """The id of the channel with this `@handle`, as far as the store knows; None if there is none.

    Raises:
        AmbiguousHandle: several channels have it.
    """
    found = holders_of(session, handle)
    if len(found) > 1:
        ids = " and ".join(channel.id for channel in found)
        raise AmbiguousHandle(f"{handle} is the handle of {ids} in the store; name the channel by its id")
    return found[0].id if found else None


def holders_of(session: Session, handle: str) -> list[NamedChannel]:
    """The channels with this `@handle`, upper and lower case alike, in the order of ids.

    Compared here and not in SQL: SQLite's `lower` knows ASCII only, and handles may be in any script.
    """
    wanted = handle.casefold()
    columns = (Channel.id, Channel.title, Channel.described_at, Channel.handle)
    rows = session.execute(select(*columns).where(Channel.handle.is_not(None)).order_by(Channel.id))
    return [NamedChannel(*row[:3]) for row in rows if row.handle.casefold() == wanted]


def keep_handle(session: Session, channel_id: str, now: datetime) -> None:
    """Trust a channel's handle again: YouTube says that no channel has it now."""
    session.execute(update(Channel).where(Channel.id == channel_id).values(described_at=now))


def release_handle(session: Session, handle: str, holder: str) -> list[NamedChannel]:
    """Clear a handle that YouTube says is the channel `holder`'s from all others; those that had it."""
    former = [channel for channel in holders_of(session, handle) if channel.id != holder]
    if former:
        ids = [channel.id for channel in former]
        # In the order of ids: two channels may have swapped their handles, and be synced at the same time.
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
    """Write what the API says about a channel: a new row with the default settings, or an old row's new description.

    A removed channel comes back as a new one. A handle belongs to one channel at a time: those that had it before lose
    it, and are returned.
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
    """Keep new settings for this and later syncs; None leaves one as it is.

    A new minimum sorts stored videos anew; the pictures of those that count again may be others by now, and are to be
    checked. With another size, the stored pictures count as checked long ago: the next refresh replaces them, also one
    that goes on where it stopped before the change.
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
    # The channel's row last, as where a page of the listing is written.
    if settings:
        session.execute(update(Channel).where(Channel.id == channel_id).values(settings))


def _update_videos(session: Session, channel_id: str, which: ColumnElement[bool], **values: Any) -> None:
    # Rows are locked in the order of ids, as every batch does, so that two processes can't wait for each other.
    ids = session.scalars(
        select(Video.id).where(Video.channel_id == channel_id, which).order_by(Video.id).with_for_update(key_share=True)
    ).all()
    for start in range(0, len(ids), 500):
        session.execute(update(Video).where(Video.id.in_(ids[start : start + 500])).values(values))


def save_listing_place(session: Session, channel_id: str, *, token: str, began_at: datetime | None) -> None:
    """Remember where an unfinished listing goes on; `began_at` only for one that shall reach the very end."""
    session.execute(
        update(Channel).where(Channel.id == channel_id).values(listing_token=token, **_whole_listing(began_at))
    )


def finish_listing(session: Session, channel_id: str, now: datetime, *, began_at: datetime | None = None) -> None:
    """The listing is complete: everything listed so far is known, without a gap.

    `began_at` of one that reached the very end is kept until `finish_check`: what it did not show is to be looked for.
    """
    session.execute(
        update(Channel)
        .where(Channel.id == channel_id)
        .values(listing_token=None, listed_at=now, **_whole_listing(began_at))
    )


def _whole_listing(began_at: datetime | None) -> dict[str, datetime]:
    """A listing of the head alone, which follows one to the very end, leaves that one's check to be made."""
    return {} if began_at is None else {"listing_began_at": began_at}


def finish_check(session: Session, channel_id: str) -> None:
    """What the last whole listing did not show was looked for."""
    session.execute(update(Channel).where(Channel.id == channel_id).values(listing_began_at=None))


def restart_listing(session: Session, channel_id: str, *, whole: bool) -> None:
    """Forget where the listing stood (its token is no good), not that it is unfinished.

    Args:
        session: in a write transaction.
        channel_id: whose.
        whole: it was to reach the very end: so is the next one, as if there had been none yet.
    """
    forgotten = {"listed_at": None} if whole else {}
    session.execute(
        update(Channel).where(Channel.id == channel_id).values(listing_token=None, listing_began_at=None, **forgotten)
    )


def is_listing_unfinished(session: Session, channel_id: str, now: datetime) -> bool:
    """Whether videos were listed since the last complete listing ended: behind them there may be a gap.

    A time to come is of a clock that ran ahead, and says nothing.
    """
    listed_at = get_channel(session, channel_id).listed_at
    query = select(Video.id).where(Video.channel_id == channel_id, Video.first_seen_at <= now + CLOCKS_DIFFER)
    if listed_at is not None:
        query = query.where(Video.first_seen_at > listed_at)
    return session.scalar(query.limit(1)) is not None


def mark_refreshed(session: Session, channel_id: str, now: datetime, *, began_at: datetime | None = None) -> None:
    """Every known video was read again, since `began_at` (None: just now)."""
    began = {"refreshed_at": now, "refresh_began_at": began_at or now}
    session.execute(update(Channel).where(Channel.id == channel_id).values(began))


def fresh_since(session: Session) -> dict[str, datetime]:
    """{channel id: a time such that all that is known of its videos was read after it}, removed channels left out.

    When the last whole refresh began; before the first one, when the channel was added.
    """
    since = func.coalesce(Channel.refresh_began_at, Channel.refreshed_at, Channel.added_at)
    rows = session.execute(select(Channel.id, since).where(Channel.removed_at.is_(None)))
    return dict(rows.all())


def summaries(session: Session) -> list[ChannelSummary]:
    """All channels but removed ones with their counts and last sync, in the order in which they were added."""
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
        )
        for channel, videos, pairs, units, started_at, status in rows
    ]
