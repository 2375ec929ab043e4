"""Parses Data API responses. Performs no I/O. The results keep each item whole, so no field of the API is lost.

Formats: https://developers.google.com/youtube/v3/docs (channels, playlistItems, videos). The parsers assume nothing
about a response: they skip entries without a valid id, and use None for other fields that are missing or invalid. Only
an invalid page token is an error, because without it the listing would appear complete.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NoReturn

import isodate

from collector.errors import BadAnswer
from store.tables import Availability
from store.types import storable
from store.youtube import Counts, ListedVideo

__all__ = [
    "ChannelItem",
    "LiveState",
    "UploadsPage",
    "VideoItem",
    "parse_channels",
    "parse_duration",
    "parse_json",
    "parse_time",
    "parse_uploads_page",
    "parse_videos",
]

LiveState = Literal["none", "upcoming", "live"]
JsonObject = dict[str, Any]

_VIDEO_ID = _PLAYLIST_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_CHANNEL_ID = re.compile(r"UC[0-9A-Za-z_-]{22}")
_LONGEST_TOKEN = 2_000
_LONGEST_HANDLE = 200
_MOST_ENTRIES = 1_000_000
"""The largest total of a playlist that is accepted; YouTube lists at most 20,000 entries."""
_DEEPEST = 32
"""The maximum nesting of JSON. Real responses have 6 levels; SQLite reads, and Python writes, about 1,000."""
_MOST_COMMAS = 1_000_000
"""The most commas in JSON, also in texts: empty objects in 16 MiB took 400 MB of memory."""
_AVAILABILITY_BY_TITLE: dict[str, Availability] = {"Private video": "private", "Deleted video": "gone"}
_COUNT = re.compile(r"[0-9]{1,19}")
_LARGEST_COUNT = 2**63 - 1
_LONGEST_S = 10 * 365 * 24 * 3600
# Bytes that can produce characters that can't be stored: an escape, a zero byte (also in UTF-16 and UTF-32), and the
# first byte of an encoded surrogate, which Python's JSON reader accepts. Many Korean syllables also begin with 0xED:
# such responses are searched unnecessarily.
_SUSPECT = (b"\\u", b"\x00", b"\xed")


@dataclass(frozen=True, slots=True)
class ChannelItem:
    """One item of `channels`."""

    id: str
    handle: str | None
    title: str
    uploads_playlist_id: str
    item: JsonObject


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """One page of `playlistItems` of an uploads playlist."""

    entries: tuple[ListedVideo, ...]
    next_token: str | None
    total: int | None
    """The API's count of the playlist's entries."""
    skipped: int
    """Number of items without a valid video id."""
    found: bool = True
    """False if the playlist does not exist; a channel without uploads may have no playlist."""


@dataclass(frozen=True, slots=True)
class VideoItem:
    """One item of `videos`.

    `duration_s` is None if it is missing, or the `P0D` of an upcoming stream. `counts` is None if the response has no
    statistics; in it, a hidden or invalid count is None.
    """

    id: str
    title: str
    published_at: datetime | None
    duration_s: int | None
    live: LiveState
    thumbnails: JsonObject
    item: JsonObject
    counts: Counts | None = None


def parse_json(body: bytes) -> JsonObject:
    """Parse a JSON object. NUL and lone surrogates become U+FFFD, so that every database can store the strings.

    Raises:
        BadAnswer: the body is malformed, not an object, nested too deeply, or has too many values, or a number beyond a
            double's range.
    """
    if body.count(b",") > _MOST_COMMAS:
        raise BadAnswer("the response has too many values")
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("the response is not valid JSON") from error
    if not isinstance(value, dict):
        raise BadAnswer("the response is JSON, but not an object")
    if _is_deeper_than(value, _DEEPEST):
        raise BadAnswer("the response is nested too deeply")
    if any(mark in body for mark in _SUSPECT):
        value = storable(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # Python would write Infinity for 1e999, which databases reject
        raise ValueError(f"{text[:20]} is beyond a double's range")
    return number


def _is_deeper_than(value: JsonObject, levels: int) -> bool:
    holders: list[Any] = [value]
    for _ in range(levels):
        holders = [
            inner
            for holder in holders
            for inner in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(inner, dict | list)
        ]
        if not holders:
            return False
    return True


def parse_channels(body: JsonObject) -> list[ChannelItem]:
    """Parse a `channels` response. It has no `items` if no channel was found.

    Raises:
        BadAnswer: the response is of another kind.
    """
    channels = []
    for item in _items(body, "youtube#channelListResponse"):
        snippet, channel_id = _object(item, "snippet"), _text(item, "id")
        uploads = _text(_object(_object(item, "contentDetails"), "relatedPlaylists"), "uploads")
        if not _CHANNEL_ID.fullmatch(channel_id):
            continue
        custom_url = _text(snippet, "customUrl")
        channels.append(
            ChannelItem(
                id=channel_id,
                handle=custom_url if custom_url.startswith("@") and len(custom_url) <= _LONGEST_HANDLE else None,
                title=_title(snippet),
                # The id of an uploads playlist is the channel's with UU for UC.
                uploads_playlist_id=uploads if _PLAYLIST_ID.fullmatch(uploads) else "UU" + channel_id[2:],
                item=item,
            )
        )
    return channels


def parse_uploads_page(body: JsonObject) -> UploadsPage:
    """Parse a `playlistItems` response.

    Raises:
        BadAnswer: the response is of another kind, or its token for the next page is invalid.
    """
    items = _items(body, "youtube#playlistItemListResponse")
    entries = [entry for item in items if (entry := _entry(item)) is not None]
    total = _object(body, "pageInfo").get("totalResults")
    return UploadsPage(
        entries=tuple(entries),
        next_token=_token(body),
        total=total if isinstance(total, int) and 0 <= total <= _MOST_ENTRIES else None,
        skipped=len(items) - len(entries),
    )


def _token(body: JsonObject) -> str | None:
    token = body.get("nextPageToken")
    if token is None or token == "":
        return None
    if not isinstance(token, str) or len(token) > _LONGEST_TOKEN or not (token.isascii() and token.isprintable()):
        raise BadAnswer("the response has an invalid token for the next page")
    return token


def _entry(item: JsonObject) -> ListedVideo | None:
    snippet, details = _object(item, "snippet"), _object(item, "contentDetails")
    video_id = _text(details, "videoId") or _text(_object(snippet, "resourceId"), "videoId")
    if not _VIDEO_ID.fullmatch(video_id):
        return None
    # `snippet.publishedAt` is the time at which the entry was added; the video's own time is in `contentDetails`.
    published = parse_time(details.get("videoPublishedAt")) or parse_time(snippet.get("publishedAt"))
    return ListedVideo(video_id, _title(snippet), published, _availability(item, snippet))


def _availability(item: JsonObject, snippet: JsonObject) -> Availability:
    privacy = _text(_object(item, "status"), "privacyStatus")
    if privacy == "private":
        return "private"
    # Deleted videos have a value that the API's documentation does not list.
    if privacy == "privacyStatusUnspecified":
        return "gone"
    if not privacy and not _object(snippet, "thumbnails"):
        return _AVAILABILITY_BY_TITLE.get(_text(snippet, "title"), "available")
    return "available"


def parse_videos(body: JsonObject) -> list[VideoItem]:
    """Parse a `videos` response.

    Raises:
        BadAnswer: the response is of another kind.
    """
    videos = []
    for item in _items(body, "youtube#videoListResponse"):
        snippet, video_id = _object(item, "snippet"), _text(item, "id")
        if not _VIDEO_ID.fullmatch(video_id):
            continue
        live = _text(snippet, "liveBroadcastContent")
        videos.append(
            VideoItem(
                id=video_id,
                title=_title(snippet),
                published_at=parse_time(snippet.get("publishedAt")),
                duration_s=parse_duration(_object(item, "contentDetails").get("duration")),
                live="upcoming" if live == "upcoming" else "live" if live == "live" else "none",
                thumbnails=_object(snippet, "thumbnails"),
                item=item,
                counts=_counts(item.get("statistics")),
            )
        )
    return videos


def _counts(statistics: object) -> Counts | None:
    if not isinstance(statistics, dict):
        return None
    return Counts(*(_count(statistics.get(name)) for name in ("viewCount", "likeCount", "commentCount")))


def _count(value: object) -> int | None:
    """Parse a count, which the API sends as a string; None if it is not a number or exceeds 64 bits."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _COUNT.fullmatch(text):
        return None
    count = int(text)
    return count if count <= _LARGEST_COUNT else None


def parse_time(value: object) -> datetime | None:
    """Parse an RFC 3339 time such as `2019-03-21T20:37:49.000Z`; None if it is invalid or outside 1970 to 9998."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            return None
        utc = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # At either end of the calendar, a database can't convert a time to another time zone.
    return utc if 1970 <= utc.year < 9999 else None


def parse_duration(value: object) -> int | None:
    """Parse an ISO 8601 duration such as `PT15M33S` to whole seconds; None if invalid, `P0D` or above ten years."""
    if not isinstance(value, str) or not value.isascii() or len(value) > 64:
        return None
    try:
        duration = isodate.parse_duration(value)
    except (isodate.ISO8601Error, ArithmeticError, ValueError):
        return None
    if not isinstance(duration, timedelta):  # years and months have no fixed length
        return None
    seconds = int(duration.total_seconds())
    return seconds if 0 < seconds <= _LONGEST_S else None


def _items(body: JsonObject, kind: str) -> list[JsonObject]:
    if body.get("kind") != kind:
        raise BadAnswer("the response is not from the YouTube Data API")
    items = body.get("items", [])
    if not isinstance(items, list):
        raise BadAnswer("the response's items are not a list")
    return [item for item in items if isinstance(item, dict)]


def _object(value: JsonObject, name: str) -> JsonObject:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: JsonObject, name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


# Invisible characters whose Unicode category is a letter or symbol: Hangul fillers and the Braille blank.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def _title(snippet: JsonObject) -> str:
    """The title exactly as given, or "" if all its characters are invisible."""
    title = _text(snippet, "title")
    # Invisible: categories Z (separators), C (controls, format characters, unassigned) and M (marks without a letter).
    shows = any(unicodedata.category(char)[0] not in "ZCM" and char not in _BLANK for char in title)
    return title if shows else ""
