"""How a sync begins: the channel is found by its name, and its run is opened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from collector.errors import ChannelNotFound, QuotaExceeded
from collector.sync.lease import take_channel
from collector.sync.options import SyncOptions
from collector.sync.plan import handle_is_trusted
from collector.sync.run import Clients, Run
from collector.youtube import ChannelItem, ChannelName
from store.errors import NotFound
from store.youtube import (
    change_settings,
    find_by_handle,
    get_channel,
    holders_of,
    keep_handle,
    lock_videos,
    refresh_began,
    release_handle,
    save_channel,
)

__all__ = [
    "DEFAULT_MIN_DURATION_S",
    "DEFAULT_THUMBNAIL",
    "FoundChannel",
    "begin_run",
    "find_channel",
    "known_channel",
    "save_description",
]

DEFAULT_MIN_DURATION_S = 181
"""Shorts last up to 3 minutes since 15 October 2024 (https://support.google.com/youtube/answer/15424877)."""
DEFAULT_THUMBNAIL = "high"


@dataclass(frozen=True, slots=True)
class FoundChannel:
    """The channel that a name refers to.

    Attributes:
        id: `UC...`.
        item: what the API says of it; None if it was not asked.
        handle: the handle that the API was asked for, or None.
        notice: a line for the user about the name, or None.
        unclaimed: whether YouTube says that no channel has the handle by which the store knows this one.
    """

    id: str
    item: ChannelItem | None = None
    handle: str | None = None
    notice: str | None = None
    unclaimed: bool = False


async def find_channel(clients: Clients, name: ChannelName) -> FoundChannel:
    """Find a channel: in the store if it is known, which costs nothing, else by the API, with all that it says.

    A stored handle is trusted for a limited time (see `HANDLE_TRUSTED_FOR`); after that, the API is asked which channel
    has it. If no channel has it any more, or if the quota is spent, it still refers to the stored channel, and `notice`
    says so.

    Raises:
        CollectorError: there is no such channel, or the API can't be asked.
    """
    handle = _handle_of(name)
    if handle is None:
        known = await clients.store.read(known_channel, name)
        if known is not None:
            return FoundChannel(known)
        item = await clients.youtube.channel(name)
        return FoundChannel(item.id, item)
    holders = await clients.store.read(holders_of, handle)
    if len(holders) == 1 and handle_is_trusted(holders[0].described_at, clients.now()):
        return FoundChannel(holders[0].id)
    try:
        item = await clients.youtube.channel(name)
    except (ChannelNotFound, QuotaExceeded) as error:
        if len(holders) != 1:
            raise
        (holder,) = holders
        unclaimed = isinstance(error, ChannelNotFound)
        why = (
            f"YouTube has no channel {name} any more"
            if unclaimed
            else f"the quota is spent, so YouTube can't be asked which channel has {name} now"
        )
        notice = f"{why}; the store has it for {holder.title} ({holder.id}), which is synced: use this id instead"
        return FoundChannel(holder.id, notice=notice, unclaimed=unclaimed)
    return FoundChannel(item.id, item, handle)


def known_channel(session: Session, name: ChannelName) -> str | None:
    """The id of the channel of that name if the store has it. A handle is looked up in the store only.

    Raises:
        AmbiguousHandle: several channels in the store have that handle.
    """
    handle = _handle_of(name)
    if handle is not None:
        return find_by_handle(session, handle)
    if name.kind == "id":
        try:
            return get_channel(session, name.value).id
        except NotFound:
            return None
    return None


def _handle_of(name: ChannelName) -> str | None:
    """The handle that a name is, or stands for: nearly all old custom addresses became the handle of the same name."""
    return "@" + name.value.removeprefix("@") if name.kind in ("handle", "custom") else None


async def begin_run(clients: Clients, found: FoundChannel, options: SyncOptions) -> Run:
    """Open a run of a channel that is in the store, or that the API described; its settings are changed as asked.

    Call it with `to_its_end`: a run that is open, and that nobody knows of, would keep the channel busy.

    Raises:
        ChannelBusy: another process is at work on the channel, or was just now.
    """
    now, channel_id = clients.now(), found.id

    def begin(session: Session) -> Run:
        if options.min_duration_s is not None or options.thumbnail is not None:
            lock_videos(session, channel_id)
        notices = [found.notice] if found.notice is not None else []
        if found.unclaimed:
            keep_handle(session, channel_id, now)
        if found.item is not None:
            notices += save_description(session, found.item, now, asked=found.handle)
        run_id = take_channel(session, channel_id, options.mode, alone_since=options.alone_since, now=now)
        refresh_from = None
        if options.mode == "refresh":
            refresh_from = refresh_began(session, channel_id, since=now - options.refresh_goes_on_for, now=now)
        change_settings(session, channel_id, min_duration_s=options.min_duration_s, thumbnail_size=options.thumbnail)
        channel = get_channel(session, channel_id)
        session.refresh(channel)
        return Run(
            clients=clients,
            id=run_id,
            channel_id=channel_id,
            playlist_id=channel.uploads_playlist_id,
            mode=options.mode,
            thumbnail_size=channel.thumbnail_size,
            started_at=now,
            refresh_from=refresh_from,
            described=found.item is not None,
            notices=notices,
        )

    return await clients.store.write(begin)


def save_description(session: Session, item: ChannelItem, now: datetime, *, asked: str | None = None) -> list[str]:
    """Write what the API says of a channel; one that is new gets the default settings.

    Args:
        session: in a write transaction.
        item: what it says.
        now: the time.
        asked: the handle by which YouTube found it, which may be an older one.

    Returns:
        A line for the user for each stored channel that has lost its handle to this one.
    """
    former = release_handle(session, asked, item.id) if asked is not None else []
    former += save_channel(
        session,
        channel_id=item.id,
        handle=item.handle,
        title=item.title,
        uploads_playlist_id=item.uploads_playlist_id,
        api_item=item.item,
        default_min_duration_s=DEFAULT_MIN_DURATION_S,
        default_thumbnail_size=DEFAULT_THUMBNAIL,
        now=now,
    )
    return [
        f"{asked or item.handle} is now the handle of {item.title} ({item.id}); before, it was the handle of "
        f"{channel.title} ({channel.id}), which stays in the store: use this id for it"
        for channel in former
    ]
