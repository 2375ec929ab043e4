"""The content of a stand-in channel: the mutable state that the server reads."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

__all__ = ["Catalogue", "StandInVideo", "ThumbnailSize", "channel_id_from"]

Privacy = Literal["public", "unlisted", "private"]
LiveState = Literal["none", "upcoming", "live"]
ThumbnailSize = Literal["default", "medium", "high", "standard", "maxres"]


@dataclass(frozen=True, slots=True)
class StandInVideo:
    """An upload as the server presents it.

    Attributes:
        duration_s: whole seconds; None if the API does not report a duration yet (an upcoming premiere).
        picture: returns the encoded bytes of the 480x360 `high` thumbnail, so that a channel of 20,000 videos keeps no
            thumbnail in memory. It is called from worker threads and must return the same bytes each time; a new
            thumbnail is a new callable, see `Catalogue.change`.
        privacy: a private video stays in the playlist without details, like a deleted video (see `Catalogue.delete`).
        missing_sizes: the thumbnail sizes that do not exist: old or low-resolution uploads lack `maxres` and
            `standard`.
        updated_at: the time of the last change of the details; None: the publication.
        picture_updated_at: the time of the last change of the thumbnail; None: the publication.
        picture_at_hand: whether `picture` returns bytes from memory. The server then calls it for the `high` size on
            the event loop, because a thread would take several times as long.
        is_short: whether the video is in the channel's list of Shorts, regardless of its duration.
        statistics: the public counts by their names in the API; a missing count is hidden. None: generated counts.

    Raises:
        ValueError: the id is empty, or a time has no time zone.
    """

    id: str
    title: str
    published_at: datetime
    duration_s: int | None
    picture: Callable[[], bytes] = field(repr=False, compare=False)
    description: str = ""
    tags: tuple[str, ...] = ()
    privacy: Privacy = "public"
    live: LiveState = "none"
    missing_sizes: frozenset[ThumbnailSize] = frozenset()
    updated_at: datetime | None = None
    picture_updated_at: datetime | None = None
    picture_at_hand: bool = False
    is_short: bool = False
    statistics: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a video needs an id; got an empty string")
        for name in ("published_at", "updated_at", "picture_updated_at"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} of video {self.id!r} needs a time zone; got {moment!r}")


class Catalogue:
    """The mutable state of a channel.

    It may be changed from any thread while a server reads it: every change holds a lock, and returned values never
    change.
    """

    def __init__(
        self,
        channel_id: str,
        handle: str,
        title: str,
        description: str = "",
        videos: Mapping[str, StandInVideo] | None = None,
    ) -> None:
        self.channel_id = channel_id
        self.handle = handle
        self.title = title
        self.description = description
        self._lock = threading.RLock()
        self._videos: dict[str, StandInVideo] = dict(videos or {})
        self._deleted: set[str] = set()
        self._listed: tuple[StandInVideo, ...] | None = None

    def __repr__(self) -> str:
        return f"Catalogue({self.channel_id!r}, {self.handle!r}, {self.title!r}, {len(self._videos)} videos)"

    @property
    def videos(self) -> Mapping[str, StandInVideo]:
        """All videos by id, including deleted videos. Read-only; see `publish`, `change`, `delete` and `remove`."""
        return MappingProxyType(self._videos)

    @property
    def deleted(self) -> frozenset[str]:
        """The ids of the deleted videos."""
        with self._lock:
            return frozenset(self._deleted)

    @property
    def uploads_playlist_id(self) -> str:
        """The uploads playlist's id, `UU` + the channel id without `UC`."""
        return "UU" + self.channel_id.removeprefix("UC")

    def publish(self, *videos: StandInVideo) -> None:
        """Add videos. A video with a known id replaces the old video and is no longer deleted."""
        with self._lock:
            for video in videos:
                self._videos[video.id] = video
                self._deleted.discard(video.id)
            self._listed = None

    def change(self, video_id: str, **changes: Any) -> None:
        """Change fields of a video (title, picture, privacy, live, duration_s ...).

        Sets `updated_at`, and for a new thumbnail `picture_updated_at`, unless given.

        Raises:
            KeyError: the video does not exist.
            TypeError: the field does not exist.
        """
        with self._lock:
            video = self._videos[video_id]
            now = datetime.now(UTC).replace(microsecond=0)
            changes.setdefault("updated_at", _later(now, video.updated_at or video.published_at))
            if "picture" in changes:
                before = video.picture_updated_at or video.published_at
                changes.setdefault("picture_updated_at", _later(now, before))
            self._videos[video_id] = replace(video, **changes)
            self._listed = None

    def delete(self, video_id: str) -> None:
        """Delete a video: its details disappear, and the playlist has an entry `Deleted video`.

        Raises:
            KeyError: the video does not exist.
        """
        with self._lock:
            if video_id not in self._videos:
                raise KeyError(video_id)
            self._deleted.add(video_id)
            self._listed = None

    def remove(self, video_id: str) -> None:
        """Remove a video and its playlist entry, as YouTube does some time after a deletion.

        Raises:
            KeyError: the video does not exist.
        """
        with self._lock:
            del self._videos[video_id]
            self._deleted.discard(video_id)
            self._listed = None

    def listed(self) -> tuple[StandInVideo, ...]:
        """All playlist entries, newest first, including deleted videos, but not unlisted videos, as on YouTube.

        The list is sorted once after each change, so that paging is cheap.
        """
        with self._lock:
            if self._listed is None:
                videos = [v for v in self._videos.values() if v.privacy != "unlisted"]
                self._listed = tuple(sorted(videos, key=lambda v: v.published_at, reverse=True))
            return self._listed

    def public(self, limit: int | None = None) -> list[StandInVideo]:
        """The public videos that are not deleted, newest first; at most `limit`."""
        deleted = self.deleted
        found: list[StandInVideo] = []
        for video in self.listed():
            if limit is not None and len(found) >= limit:
                break
            if video.privacy == "public" and video.id not in deleted:
                found.append(video)
        return found

    def shorts(self) -> tuple[StandInVideo, ...]:
        """The public Shorts, newest first."""
        return tuple(video for video in self.public() if video.is_short)

    def details(self, video_id: str) -> StandInVideo | None:
        """The video if its details and thumbnails are available (public or unlisted, not deleted), else None."""
        with self._lock:
            video = self._videos.get(video_id)
            if video is None or video.privacy == "private" or video_id in self._deleted:
                return None
            return video

    def is_deleted(self, video_id: str) -> bool:
        """Whether the video was deleted; it may still be listed."""
        return video_id in self._deleted


def channel_id_from(name: str) -> str:
    """A channel id in YouTube's form (`UC` and 22 characters of base64url), derived from `name` alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16]
    return "UC" + base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _later(now: datetime, before: datetime) -> datetime:
    # HTTP dates have whole seconds, and two changes within one second must still differ.
    return max(now, before.replace(microsecond=0) + timedelta(seconds=1))
