"""Resolve the name of a channel in the store: its id, or its handle with or without the `@`."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.errors import BadSetting

__all__ = ["channel_id"]


def channel_id(name: str, known: Mapping[str, tuple[str | None, str]]) -> str:
    """Return the id of the channel that `name` refers to.

    Args:
        name: an id, or a handle in upper or lower case.
        known: {channel id: (handle, title)} of the store, see `store.training.pairs.channel_titles`.

    Raises:
        BadSetting: no channel has this name, or several channels have this handle. The message lists the channels.
    """
    if name in known:
        return name
    sought = name.lstrip("@").casefold()
    found = [channel for channel, (handle, _) in known.items() if handle and handle.lstrip("@").casefold() == sought]
    if len(found) > 1:
        raise BadSetting(f"{name} is the handle of several channels ({', '.join(found)}); use the channel's id")
    if not found:
        listed = ", ".join(sorted(handle or channel for channel, (handle, _) in known.items())) or "no channels"
        raise BadSetting(f"channel {name!r} is not in the store; the store has {listed}")
    return found[0]
