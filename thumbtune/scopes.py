"""Describe the sets of channels that models are used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from store.wording import counted

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["channel_names", "scope_in_words"]

_NAMED = 2
"""The maximum number of channels that are named; for more, only their number is given."""


def channel_names(session: Session) -> dict[str, str]:
    """Return {channel id: handle} of all channels in the store; a channel without a handle has its id instead."""
    from store.training import channel_titles  # noqa: PLC0415 (SQLAlchemy is slow to import)

    return {channel: handle or channel for channel, (handle, _) in channel_titles(session).items()}


def scope_in_words(scope: Sequence[str], names: Mapping[str, str]) -> str:
    """Return `all`, the channels' handles, or the number of channels."""
    if not scope:
        return "all"
    if len(scope) > _NAMED:
        return counted(len(scope), "channel")
    return " ".join(names.get(channel, channel) for channel in scope)
