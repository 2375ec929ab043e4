"""Which channel a row's id, handle, URL or name means."""

from __future__ import annotations

import itertools
import re

from sqlalchemy.orm import Session

from collector.errors import BadChannel
from collector.youtube import parse_channel_name
from store.youtube import find_by_handle, holders_of
from thumbtune.standin.catalogue import channel_id_from
from thumbtune.standin.folder import handle_from

__all__ = ["find_channel", "without_url"]

_CHANNEL_ID = re.compile(r"UC[0-9A-Za-z_-]{22}")


def find_channel(session: Session, name: str) -> tuple[str, str | None]:
    """Return the id of the channel with an id, handle or name, and the handle if it is new and not named by its id.

    Raises:
        AmbiguousHandle: several channels have the handle.
    """
    if _CHANNEL_ID.fullmatch(name):
        return name, None
    own = channel_id_from(name)
    if name.startswith("@"):
        return find_by_handle(session, name) or own, name
    handle = handle_from(name)
    if handle == f"@{name.casefold()}":
        return find_by_handle(session, handle) or own, handle
    # Different names can give the same handle, so the channel must have the name too.
    holders = holders_of(session, handle)
    for holder in holders:
        if holder.title.casefold() == name.casefold():
            return holder.id, handle
    numbers = itertools.count(2)
    while holders:
        handle = f"{handle_from(name)[:26]}-{next(numbers)}"
        holders = holders_of(session, handle)
    return own, handle


def without_url(name: str) -> str:
    """Return the id, handle or name in a channel's URL; return any other name unchanged."""
    try:
        return parse_channel_name(name).value
    except BadChannel:
        return name
