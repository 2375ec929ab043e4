"""The Data API's answers, from JSON to plain values. Pure; items are kept whole, so nothing that the API says is lost.

Shapes: https://developers.google.com/youtube/v3/docs (channels, playlistItems, videos). Nothing is taken for granted:
an entry without a usable id is left out, everything else that may be missing is None. Only a page token that can't be
used is an error: a listing without it would pass for one that has come to its end.
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
"""Of a playlist; YouTube itself lists no more than 20,000."""
_DEEPEST = 32
"""Real answers nest 6 deep. SQLite reads JSON of up to 1,000 levels, Python writes about as many."""
_AVAILABILITY_BY_TITLE: dict[str, Availability] = {"Private video": "private", "Deleted video": "gone"}
_COUNT = re.compile(r"[0-9]{1,19}")
_LARGEST_COUNT = 2**63 - 1
_LONGEST_S = 10 * 365 * 24 * 3600
# What no database stores as text: NUL (PostgreSQL) and halves of surrogate pairs (no UTF-8 for them).
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Where these can come from: an escape, a byte 0 (also UTF-16 and UTF-32 have it), a surrogate encoded as if it were a
# character of its own, which Python's reader lets pass. Many Korean syllables begin with 0xED, too: those answers are
# looked through for nothing.
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
    """How many entries the API says the playlist has."""
    skipped: int
    """Items without a usable video id."""
    found: bool = True
    """False: there is no such playlist. A channel without uploads may have none."""


@dataclass(frozen=True, slots=True)
class VideoItem:
    """One item of `videos`. `duration_s` is None where there is none yet, and for the `P0D` of a stream to come.

    `counts` is None where the answer has no statistics; a count that is hidden or no number is None in it.
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
    """A JSON object, its texts storable on every database (NUL and lone surrogates become U+FFFD).

    Raises:
        BadAnswer: broken, no object, nested too deeply, or with a number past a double's range.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("the answer is not JSON") from error
    if not isinstance(value, dict):
        raise BadAnswer("the answer is JSON, but no object")
    if _is_deeper_than(value, _DEEPEST):
        raise BadAnswer("the answer is nested too deeply")
    if any(mark in body for mark in _SUSPECT):
        value = {_storable(name): _storable(item) for name, item in value.items()}
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # 1e999: JSON, but no database keeps what Python would write for it
        raise ValueError(f"{text[:20]} is past a double's range")
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


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def parse_channels(body: JsonObject) -> list[ChannelItem]:
    """The channels of a `channels` answer (no `items` at all when nothing was found).

    Raises:
        BadAnswer: it is no such answer.
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
                # Every channel's uploads playlist is its id with UU for UC.
                uploads_playlist_id=uploads if _PLAYLIST_ID.fullmatch(uploads) else "UU" + channel_id[2:],
                item=item,
            )
        )
    return channels


def parse_uploads_page(body: JsonObject) -> UploadsPage:
    """One page of the uploads.

    Raises:
        BadAnswer: the answer has another form, or an invalid token for the next page.
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
        raise BadAnswer("the answer has an invalid token for the next page")
    return token


def _entry(item: JsonObject) -> ListedVideo | None:
    snippet, details = _object(item, "snippet"), _object(item, "contentDetails")
    video_id = _text(details, "videoId") or _text(_object(snippet, "resourceId"), "videoId")
    if not _VIDEO_ID.fullmatch(video_id):
        return None
    # `snippet.publishedAt` is when the entry came into the playlist; the video's own time is in `contentDetails`.
    published = parse_time(details.get("videoPublishedAt")) or parse_time(snippet.get("publishedAt"))
    return ListedVideo(video_id, _title(snippet), published, _availability(item, snippet))


def _availability(item: JsonObject, snippet: JsonObject) -> Availability:
    privacy = _text(_object(item, "status"), "privacyStatus")
    if privacy == "private":
        return "private"
    # Deleted videos carry a value that the API's own schema does not name.
    if privacy == "privacyStatusUnspecified":
        return "gone"
    if not privacy and not _object(snippet, "thumbnails"):
        return _AVAILABILITY_BY_TITLE.get(_text(snippet, "title"), "available")
    return "available"


def parse_videos(body: JsonObject) -> list[VideoItem]:
    """The videos of a `videos` answer.

    Raises:
        BadAnswer: it is no such answer.
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
    """A count; the API sends them as texts. None for what is not a number, or too large for a database's 64 bits."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _COUNT.fullmatch(text):
        return None
    count = int(text)
    return count if count <= _LARGEST_COUNT else None


def parse_time(value: object) -> datetime | None:
    """An RFC 3339 time such as `2019-03-21T20:37:49.000Z`; None for anything else, and for years no video is of."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            return None
        utc = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # At either end of the calendar, a database that shows times in another zone has no words for them.
    return utc if 1970 <= utc.year < 9999 else None


def parse_duration(value: object) -> int | None:
    """Whole seconds of an ISO 8601 duration such as `PT15M33S`; None for `P0D`, nothing, or what no video lasts."""
    if not isinstance(value, str) or not value.isascii() or len(value) > 64:
        return None
    try:
        duration = isodate.parse_duration(value)
    except (isodate.ISO8601Error, ArithmeticError, ValueError):
        return None
    if not isinstance(duration, timedelta):  # years or months: of no fixed length
        return None
    seconds = int(duration.total_seconds())
    return seconds if 0 < seconds <= _LONGEST_S else None


def _items(body: JsonObject, kind: str) -> list[JsonObject]:
    if body.get("kind") != kind:
        raise BadAnswer("the answer is not the YouTube Data API's")
    items = body.get("items", [])
    if not isinstance(items, list):
        raise BadAnswer("the answer's items are no list")
    return [item for item in items if isinstance(item, dict)]


def _object(value: JsonObject, name: str) -> JsonObject:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: JsonObject, name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


# Letters and symbols by their Unicode category that show nothing: Hangul fillers and the Braille blank.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def _title(snippet: JsonObject) -> str:
    """A title exactly as given, or "" where none of its characters shows anything."""
    title = _text(snippet, "title")
    # Categories Z (separators) and C (controls, format characters, unassigned), and marks without a letter under them.
    shows = any(unicodedata.category(char)[0] not in "ZCM" and char not in _BLANK for char in title)
    return title if shows else ""
