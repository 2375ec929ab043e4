"""Parses channel names: ids, handles and URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from collector.errors import BadChannel

__all__ = ["ChannelName", "parse_channel_name"]

NameKind = Literal["id", "handle", "user", "custom"]

_ID = re.compile(r"UC[0-9A-Za-z_-]{22}")
# The list of a channel's uploads, long videos, Shorts or streams: the channel's id with another prefix.
_UPLOADS = re.compile(r"UU(?:LF|SH|LV)?([0-9A-Za-z_-]{22})")
# 3 to 30 characters: letters and digits of any script, and a few punctuation marks
# (https://support.google.com/youtube/answer/11585688).
_HANDLE = re.compile(r"""@[^\s@/\\?#&=%<>"'`:;,!*+$^~|()\[\]{}]{3,30}""")
_NAME = re.compile(r"""[^\s@/\\?#&=%<>"'`:;,!*+$^~|()\[\]{}]{1,100}""")
_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "gaming.youtube.com", "studio.youtube.com"}
)
# Paths whose query contains a channel, or a list that belongs to one channel.
_PAGES_OF_A_LIST = (["feeds", "videos.xml"], ["playlist"], ["embed", "videoseries"])
# First path segments of youtube.com that are not custom URLs.
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
        "video",
        "watch",
        "watch_videos",
    ]
)


@dataclass(frozen=True, slots=True)
class ChannelName:
    """A channel name.

    The kind `id` is a channel id, `handle` starts with `@`, `user` is a legacy user name, and `custom` is a legacy
    custom URL, for which the API has no lookup.
    """

    kind: NameKind
    value: str

    def __str__(self) -> str:
        return {"user": f"user/{self.value}", "custom": f"c/{self.value}"}.get(self.kind, self.value)


def parse_channel_name(text: str) -> ChannelName:
    """Parse a channel id (`UC...`), a handle (`@name`), an uploads playlist (`UU...`), or a URL of a channel.

    Accepted URLs are those of the channel and its tabs, also in YouTube Studio, of its feed, and of its uploads
    playlist.

    Raises:
        BadChannel: `text` has another form.
    """
    name = text.strip()
    if found := _id_in(name):
        return ChannelName("id", found)
    if name.startswith(("@", "%40")):
        return _handle(unquote(name), text)
    segments, query = _path(name) or (None, {})
    if segments is None:
        hint = f"; did you mean @{name}?" if _HANDLE.fullmatch(f"@{name}") and "." not in name else ""
        advice = hint or "; give a channel id (UC...), a handle (@name) or a channel's URL"
        raise BadChannel(f"{text!r} is not a channel{advice}")
    first = segments[0] if segments else ""
    if first.startswith("@"):
        return _handle(first, text)
    second = segments[1] if len(segments) > 1 else ""
    if segments in _PAGES_OF_A_LIST:
        for parameter in ("channel_id", "playlist_id", "list"):
            if found := _id_in(query.get(parameter, "")):
                return ChannelName("id", found)
        if _NAME.fullmatch(query.get("user", "")):
            return ChannelName("user", query["user"])
    if first == "channel" and _ID.fullmatch(second):
        return ChannelName("id", second)
    if first == "user" and _NAME.fullmatch(second):
        return ChannelName("user", second)
    if first == "c" and _NAME.fullmatch(second):
        return ChannelName("custom", second)
    reserved = first.lower() in _NO_CHANNEL or first in ("channel", "user", "c")
    if first and not reserved and _NAME.fullmatch(first):
        return ChannelName("custom", first)
    raise BadChannel(f"{text!r} is not a channel's URL; open the channel's page and copy its URL")


def _id_in(text: str) -> str | None:
    """The channel id in a channel id or the id of an uploads playlist; None for any other text."""
    if _ID.fullmatch(text):
        return text
    uploads = _UPLOADS.fullmatch(text)
    return f"UC{uploads[1]}" if uploads else None


def _handle(name: str, text: str) -> ChannelName:
    if not _HANDLE.fullmatch(name) or not name.isprintable():
        raise BadChannel(
            f"{text!r} is not a handle; a handle has 3 to 30 letters, digits, '_', '-', '.' or '·' after the @"
        )
    return ChannelName("handle", name)


def _path(text: str) -> tuple[list[str], dict[str, str]] | None:
    """The path segments and the query of a YouTube URL, with or without its scheme; None for any other text."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        return None
    try:
        parts = urlsplit(f"//{rest if separator else text}")
        host, port = parts.hostname, parts.port
        query = parse_qs(parts.query, max_num_fields=50)
    except ValueError:
        return None
    if host not in _HOSTS or port not in (None, 80, 443) or parts.username is not None:
        return None
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    return segments, {name: values[0] for name, values in query.items()}
