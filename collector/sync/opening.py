"""How a sync begins: the channel is found by its name, and its run is opened."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from collector.sync.lease import take_channel
from collector.sync.options import SyncOptions
from collector.sync.run import Clients, Run
from collector.youtube import ChannelItem, ChannelName
from store.errors import NotFound
from store.youtube import change_settings, find_by_handle, get_channel, lock_videos, refresh_began, save_channel

__all__ = [
    "DEFAULT_MIN_DURATION_S",
    "DEFAULT_THUMBNAIL",
    "begin_run",
    "find_channel",
    "known_channel",
    "save_description",
]

DEFAULT_MIN_DURATION_S = 181
"""Shorts last up to 3 minutes since 15 October 2024 (https://support.google.com/youtube/answer/15424877)."""
DEFAULT_THUMBNAIL = "high"


async def find_channel(clients: Clients, name: ChannelName) -> tuple[ChannelItem | None, str]:
    """A channel's id: from the store if it is known, which costs nothing, else from the API, with all that it says.

    Raises:
        CollectorError: there is no such channel, or the API can't be asked.
    """
    known = await clients.store.read(known_channel, name)
    if known is not None:
        return None, known
    item = await clients.youtube.channel(name)
    return item, item.id


def known_channel(session: Session, name: ChannelName) -> str | None:
    """The id of the channel of that name if the store has it."""
    if name.kind in ("handle", "custom"):
        return find_by_handle(session, "@" + name.value.removeprefix("@"))
    if name.kind == "id":
        try:
            return get_channel(session, name.value).id
        except NotFound:
            return None
    return None


async def begin_run(clients: Clients, channel_id: str, item: ChannelItem | None, options: SyncOptions) -> Run:
    """Open a run of a channel that is in the store, or that `item` describes; its settings are changed as asked.

    Call it with `to_its_end`: a run that is open, and that nobody knows of, would keep the channel busy.

    Raises:
        ChannelBusy: another process is at work on the channel, or was just now.
    """
    now = clients.now()

    def begin(session: Session) -> Run:
        if options.min_duration_s is not None or options.thumbnail is not None:
            lock_videos(session, channel_id)
        if item is not None:
            save_description(session, item, now)
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
        )

    return await clients.store.write(begin)


def save_description(session: Session, item: ChannelItem, now: datetime) -> None:
    """Write what the API says of a channel; one that is new gets the default settings."""
    save_channel(
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
