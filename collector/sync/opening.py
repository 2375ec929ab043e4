"""The start of a sync: finds the channel by its name and opens a run."""

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
from store.errors import AmbiguousHandle, NotFound
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
    "FoundChannel",
    "begin_run",
    "find_channel",
    "known_channel",
    "save_description",
    "with_owner_key",
]

DEFAULT_MIN_DURATION_S = 181
"""Shorts last up to 3 minutes since 15 October 2024 (https://support.google.com/youtube/answer/15424877)."""
DEFAULT_THUMBNAIL = "high"


@dataclass(frozen=True, slots=True)
class FoundChannel:
    """The channel that a name refers to.

    Attributes:
        id: `UC...`.
        item: the channel from the API; None if the API was not asked.
        handle: the handle that the API was asked for, or None.
        notice: a message for the user about the name, or None.
        unclaimed: whether the channel was found by its stored handle, which no channel has on YouTube.
    """

    id: str
    item: ChannelItem | None = None
    handle: str | None = None
    notice: str | None = None
    unclaimed: bool = False


async def with_owner_key(clients: Clients, name: ChannelName) -> tuple[Clients, ChannelName]:
    """Return the clients with the key of a channel's owner, and the name to look the channel up by.

    If owners have keys of their own, a stored handle is replaced by its channel's id: it may now be another owner's.

    Raises:
        MissingKey: there is no key for the channel.
    """
    if not clients.settings.keys:
        return clients, name
    try:
        channel_id = name.value if name.kind == "id" else await clients.store.read(known_channel, name)
    except AmbiguousHandle:
        channel_id = None
    owners = clients.of_channel(channel_id)
    assert channel_id is not None
    return owners, ChannelName("id", channel_id)


async def find_channel(clients: Clients, name: ChannelName) -> FoundChannel:
    """Find a channel in the store, which costs no units, or otherwise through the API.

    A stored handle is trusted for `HANDLE_TRUSTED_FOR`; after that, the API is asked which channel has it. If no
    channel has it, or the quota is used up, it still refers to the stored channel, with a `notice`.

    Raises:
        CollectorError: the channel does not exist, or the API request failed.
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
            f"YouTube no longer has a channel {name}"
            if unclaimed
            else f"the quota is used up, so the current channel of {name} can't be looked up"
        )
        notice = f"{why}; syncing the stored channel {holder.title} ({holder.id}): use this id instead"
        return FoundChannel(holder.id, notice=notice, unclaimed=unclaimed)
    return FoundChannel(item.id, item, handle)


def known_channel(session: Session, name: ChannelName) -> str | None:
    """The id of a channel in the store by name, or None. The API is not asked.

    Raises:
        AmbiguousHandle: several channels in the store have the handle.
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
    """The handle in a name, or None. Nearly all legacy custom URLs became the handle of the same name."""
    return "@" + name.value.removeprefix("@") if name.kind in ("handle", "custom") else None


async def begin_run(clients: Clients, found: FoundChannel, options: SyncOptions) -> Run:
    """Open a run, and store the channel's description and changed settings.

    Call it through `shielded`: if a cancellation lost the open run, the channel would stay busy.

    Raises:
        ChannelBusy: another process is syncing the channel, or has just synced it.
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
    """Write a channel from the API. A new channel gets the default settings.

    Args:
        session: a session in a write transaction.
        item: the channel from the API.
        now: the current time.
        asked: the handle by which YouTube found the channel; it may be a former handle.

    Returns:
        A message for the user for each stored channel that has lost its handle to this channel.
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
        f"{asked or item.handle} now belongs to {item.title} ({item.id}); it belonged to {channel.title} "
        f"({channel.id}), which stays in the store: use this id for it"
        for channel in former
    ]
