"""How people name a channel: its id, its handle, or any of its addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from collector.errors import BadChannel

__all__ = ["ChannelName", "NameKind", "parse_channel_name"]

NameKind = Literal["id", "handle", "user", "custom"]

_ID = re.compile(r"UC[0-9A-Za-z_-]{22}")
# 3 to 30 characters; letters and digits of any script, and a few marks
# (https://support.google.com/youtube/answer/11585688).
_HANDLE = re.compile(r"""@[^\s@/\\?#&=%<>"'`:;,!*+$^~|()\[\]{}]{3,30}""")
_NAME = re.compile(r"""[^\s@/\\?#&=%<>"'`:;,!*+$^~|()\[\]{}]{1,100}""")
_HOSTS = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com"})
# First path segments of youtube.com that are no one's custom address.
_NO_CHANNEL = frozenset(
    [
        "about",
        "account",
        "attribution_link",
        "clip",
        "embed",
        "feed",
        "feeds",
        "gaming",
        "hashtag",
        "html",
        "index",
        "kids",
        "live",
        "live_chat",
        "movies",
        "music",
        "oembed",
        "playlist",
        "playlists",
        "post",
        "premium",
        "red",
        "results",
        "results_page",
        "shorts",
        "signin",
        "source",
        "t",
        "tv",
        "upload",
        "v",
        "watch",
        "watch_videos",
    ]
)


@dataclass(frozen=True, slots=True)
class ChannelName:
    """A channel as named.

    `id` is a channel id, `handle` starts with `@`, `user` is an old user name, and `custom` an old custom address, for
    which the API has no lookup of its own.
    """

    kind: NameKind
    value: str

    def __str__(self) -> str:
        return {"user": f"user/{self.value}", "custom": f"c/{self.value}"}.get(self.kind, self.value)


def parse_channel_name(text: str) -> ChannelName:
    """Understand a channel id (`UC...`), a handle (`@name`) or the address of a channel or one of its tabs.

    Raises:
        BadChannel: it is none of these.
    """
    name = text.strip()
    if _ID.fullmatch(name):
        return ChannelName("id", name)
    if name.startswith("@"):
        return _handle(name, text)
    segments = _path(name)
    if segments is None:
        hint = f"; did you mean @{name}?" if _HANDLE.fullmatch(f"@{name}") and "." not in name else ""
        advice = hint or "; give a channel id (UC...), a handle (@name) or a channel's address"
        raise BadChannel(f"{text!r} names no channel{advice}")
    first = segments[0] if segments else ""
    if first.startswith("@"):
        return _handle(first, text)
    second = segments[1] if len(segments) > 1 else ""
    if first == "channel" and _ID.fullmatch(second):
        return ChannelName("id", second)
    if first == "user" and _NAME.fullmatch(second):
        return ChannelName("user", second)
    if first == "c" and _NAME.fullmatch(second):
        return ChannelName("custom", second)
    reserved = first.lower() in _NO_CHANNEL or first in ("channel", "user", "c")
    if first and not reserved and _NAME.fullmatch(first):
        return ChannelName("custom", first)
    raise BadChannel(
        f"{text!r} is not a channel's address; open the channel's own page and copy the address from there"
    )


def _handle(name: str, text: str) -> ChannelName:
    if not _HANDLE.fullmatch(name) or not name.isprintable():
        raise BadChannel(f"{text!r} is no handle; one has 3 to 30 letters, digits, '_', '-', '.' or '·' after the @")
    return ChannelName("handle", name)


def _path(text: str) -> list[str] | None:
    """The path's segments of an address on YouTube, with or without its scheme; None for anything else."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        return None
    try:
        parts = urlsplit(f"//{rest if separator else text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if host not in _HOSTS or port not in (None, 80, 443) or parts.username is not None:
        return None
    return [unquote(segment) for segment in parts.path.split("/") if segment]
