"""Converts a catalogue to resources of the Data API v3. Performs no I/O.

Formats: https://developers.google.com/youtube/v3/docs (channels, playlistItems, videos). Every function
returns the whole resource; `select` reduces it to the requested parts.
"""

from __future__ import annotations

import base64
import hashlib
import html
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from thumbtune.standin.catalogue import Catalogue, StandInVideo, ThumbnailSize
from thumbtune.standin.paging import etag

__all__ = [
    "PICTURE_FILES",
    "Resource",
    "channel_resource",
    "iso_duration",
    "playlist_item_resource",
    "select",
    "statistics",
    "video_resource",
]

Resource = dict[str, Any]

PICTURE_FILES: dict[ThumbnailSize, tuple[str, int, int]] = {
    "default": ("default.jpg", 120, 90),
    "medium": ("mqdefault.jpg", 320, 180),
    "high": ("hqdefault.jpg", 480, 360),
    "standard": ("sddefault.jpg", 640, 480),
    "maxres": ("maxresdefault.jpg", 1280, 720),
}
"""File name, width and height in pixels of each thumbnail size."""

_AVATAR_SIDES: dict[str, int] = {"default": 88, "medium": 240, "high": 800}
"""Side length in pixels of each size of a channel's avatar, which this server does not have."""

_EMBED = '<iframe width="480" height="270" src="//www.youtube.com/embed/{}" allowfullscreen></iframe>'
_ALWAYS = ("kind", "etag", "id")


def select(resource: Resource, parts: Iterable[str]) -> Resource:
    """Return the resource with only the requested parts, and their ETag."""
    requested = set(parts)
    chosen = {name: value for name, value in resource.items() if name in _ALWAYS or name in requested}
    head = {"kind": chosen.pop("kind"), "etag": etag(chosen)}
    return head | chosen


def channel_resource(catalogue: Catalogue, base_url: str) -> Resource:
    """Return one item of `channels`. `base_url` is the server's root URL, without a trailing slash."""
    public = catalogue.public()
    oldest = min((v.published_at for v in public), default=datetime(2006, 1, 1, tzinfo=UTC))
    text = {"title": catalogue.title, "description": catalogue.description}
    return {
        "kind": "youtube#channel",
        "id": catalogue.channel_id,
        "snippet": {
            **text,
            "customUrl": "@" + catalogue.handle.removeprefix("@").lower(),
            "publishedAt": iso_time(oldest - timedelta(days=1)),
            "thumbnails": {
                name: {
                    "url": f"{base_url}/avatar/{catalogue.channel_id}/{side}.jpg",
                    "width": side,
                    "height": side,
                }
                for name, side in _AVATAR_SIDES.items()
            },
            "localized": dict(text),
        },
        "contentDetails": {"relatedPlaylists": {"likes": "", "uploads": catalogue.uploads_playlist_id}},
        "statistics": {
            "viewCount": str(sum(int(statistics(v).get("viewCount", 0)) for v in public)),
            "subscriberCount": str(1000 + zlib.crc32(catalogue.channel_id.encode()) % 1_000_000 // 1000 * 1000),
            "hiddenSubscriberCount": False,
            "videoCount": str(len(public)),
        },
        "status": {
            "privacyStatus": "public",
            "isLinked": True,
            "longUploadsStatus": "longUploadsUnspecified",
            "madeForKids": False,
        },
    }


def playlist_item_resource(
    catalogue: Catalogue, video: StandInVideo, position: int, base_url: str, playlist_id: str
) -> Resource:
    """Return one item of `playlistItems`; a private or deleted video has no thumbnail, owner or time."""
    gone = catalogue.is_deleted(video.id)
    hidden = gone or video.privacy == "private"
    snippet: Resource = {
        "publishedAt": iso_time(video.published_at),
        "channelId": catalogue.channel_id,
        "title": video.title,
        "description": video.description,
        "thumbnails": _thumbnails(video, base_url),
        "channelTitle": catalogue.title,
        "playlistId": playlist_id,
        "position": position,
        "resourceId": {"kind": "youtube#video", "videoId": video.id},
    }
    details: Resource = {"videoId": video.id}
    if hidden:
        title, text = (
            ("Deleted video", "This video is unavailable.") if gone else ("Private video", "This video is private.")
        )
        snippet |= {"title": title, "description": text, "thumbnails": {}}
    else:
        snippet |= {"videoOwnerChannelTitle": catalogue.title, "videoOwnerChannelId": catalogue.channel_id}
        details["videoPublishedAt"] = iso_time(video.published_at)
    return {
        "kind": "youtube#playlistItem",
        "id": _playlist_item_id(playlist_id, video.id),
        "snippet": snippet,
        "contentDetails": details,
        # The real API sends this value for deleted videos, although its documentation does not list it.
        "status": {"privacyStatus": "privacyStatusUnspecified" if gone else video.privacy},
    }


def video_resource(catalogue: Catalogue, video: StandInVideo, base_url: str) -> Resource:
    """Return one item of `videos`."""
    resource: Resource = {
        "kind": "youtube#video",
        "id": video.id,
        "snippet": _video_snippet(catalogue, video, base_url),
        "contentDetails": _content_details(video),
        "status": {
            "uploadStatus": "processed" if video.duration_s is not None else "uploaded",
            "privacyStatus": video.privacy,
            "license": "youtube",
            "embeddable": True,
            "publicStatsViewable": True,
            "madeForKids": False,
        },
        "statistics": statistics(video),
        "player": {"embedHtml": _EMBED.format(html.escape(video.id))},
    }
    if video.live == "upcoming":
        start = video.published_at + timedelta(days=1)
        resource["liveStreamingDetails"] = {"scheduledStartTime": iso_time(start)}
    elif video.live == "live":
        resource["liveStreamingDetails"] = {"actualStartTime": iso_time(video.published_at)}
    return resource


def statistics(video: StandInVideo) -> dict[str, str]:
    """Return the video's counts, or else counts derived from its id. The API sends counts as strings."""
    if video.statistics is not None:
        return dict(video.statistics)
    views = 100 + zlib.crc32(video.id.encode("utf-8", "surrogatepass")) % 2_000_000
    return {
        "viewCount": str(views),
        "likeCount": str(views // 30),
        "favoriteCount": "0",
        "commentCount": str(views // 400),
    }


def iso_time(moment: datetime) -> str:
    """Format a time like the API: UTC, such as `2019-03-21T20:37:49Z`; with a fraction only if it is not zero."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def iso_duration(seconds: int) -> str:
    """Format an ISO 8601 duration like the API: `PT15M33S`, `P1DT2H`, and `P0D` for zero."""
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    d, h = divmod(hours, 24)
    time = "".join(f"{value}{unit}" for value, unit in ((h, "H"), (m, "M"), (s, "S")) if value)
    return "P" + (f"{d}D" if d or not time else "") + (f"T{time}" if time else "")


def _video_snippet(catalogue: Catalogue, video: StandInVideo, base_url: str) -> Resource:
    snippet: Resource = {
        "publishedAt": iso_time(video.published_at),
        "channelId": catalogue.channel_id,
        "title": video.title,
        "description": video.description,
        "thumbnails": _thumbnails(video, base_url),
        "channelTitle": catalogue.title,
        "categoryId": "28",
        "liveBroadcastContent": video.live,
        "defaultLanguage": "en",
        "localized": {"title": video.title, "description": video.description},
        "defaultAudioLanguage": "en",
    }
    if video.tags:
        snippet["tags"] = list(video.tags)
    return snippet


def _content_details(video: StandInVideo) -> Resource:
    details: Resource = {
        "dimension": "2d",
        "definition": "hd" if "maxres" not in video.missing_sizes else "sd",
        "caption": "false",
        "licensedContent": True,
        "contentRating": {},
        "projection": "rectangular",
    }
    # A stream that has not ended has the duration P0D; an upload in processing has no duration.
    if video.duration_s is not None:
        details["duration"] = iso_duration(video.duration_s)
    elif video.live != "none":
        details["duration"] = "P0D"
    return details


def _thumbnails(video: StandInVideo, base_url: str) -> dict[str, Resource]:
    return {
        size: {"url": f"{base_url}/vi/{video.id}/{file}", "width": width, "height": height}
        for size, (file, width, height) in PICTURE_FILES.items()
        if size not in video.missing_sizes
    }


def _playlist_item_id(playlist_id: str, video_id: str) -> str:
    digest = hashlib.sha256(f"{playlist_id}/{video_id}".encode("utf-8", "surrogatepass")).hexdigest()[:16].upper()
    return base64.urlsafe_b64encode(f"{playlist_id}.{digest}".encode()).decode("ascii").rstrip("=")
