"""The sets of channels that models are for, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.db import Database

__all__ = ["channel_names", "scope_in_words"]

_NAMED = 2
"""So many channels are named; of more, only their number is said."""


def channel_names(database: Database) -> dict[str, str]:
    """Return {channel id: handle, or the id of a channel without one} of the store."""
    from store.training import channel_titles  # noqa: PLC0415 (SQLAlchemy is slow to import)

    with database.read() as session:
        return {channel: handle or channel for channel, (handle, _) in channel_titles(session).items()}


def scope_in_words(scope: Sequence[str], names: Mapping[str, str]) -> str:
    """Return `all`, the channels' handles, or how many they are."""
    if not scope:
        return "all"
    if len(scope) > _NAMED:
        return f"{len(scope)} channels"
    return " ".join(names.get(channel, channel) for channel in scope)
