"""Decisions of a sync, without I/O: the kind of a video, the use of the feed, the end of a listing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from collector.errors import PageLoop
from collector.youtube import LiveState, VideoItem
from store.tables import Kind
from store.types import CLOCKS_DIFFER
from store.youtube import VideoDetails, doubtful_durations

__all__ = [
    "FEED_ASKED_AGAIN_AFTER",
    "Fifties",
    "PageGuard",
    "details_from",
    "cheaper_question",
    "feed_can_settle",
    "handle_is_trusted",
    "kind_of",
    "may_be_short",
    "needs_confirming",
]

FEED_TRUSTED_FOR = timedelta(hours=24)
"""The age of the last listing up to which a feed without new videos replaces a listing: feeds lag and omit videos."""

FEED_ASKED_AGAIN_AFTER = timedelta(hours=24)
"""The time after which a video that is in the feed, but unknown to the API, is requested again."""

HANDLE_TRUSTED_FOR = timedelta(hours=24)
"""The time for which a stored handle is trusted: a handle can move to another channel."""

PAGE_SIZE = 50
MOST_PAGES_UNTOLD = 2_000
"""The limit of pages of a listing if the API gives no total."""


def kind_of(duration_s: int | None, live: LiveState, min_duration_s: int) -> Kind:
    """The kind of a video. Only the kind `video` can be a training pair."""
    if live != "none":
        return live
    if duration_s is None:
        return "unknown"
    return "short" if duration_s < min_duration_s else "video"


def may_be_short(duration_s: int | None, live: LiveState, min_duration_s: int) -> bool:
    """Whether the duration is not conclusive, so that the channel's list of Shorts decides."""
    return live == "none" and duration_s in doubtful_durations(min_duration_s)


def cheaper_question(videos: int, pages: int | None) -> Literal["video", "page"]:
    """Choose the next request to classify `videos` videos: look up a video in the list of Shorts, or read a page of it.

    Each request costs a unit. `pages` is the number of unread pages; None before the first page has given the total.
    """
    if pages is None:
        return "video" if videos == 1 else "page"
    return "page" if pages <= videos else "video"


def handle_is_trusted(described_at: datetime | None, now: datetime) -> bool:
    """Whether a handle read at `described_at` is recent enough. A future time comes from a wrong clock."""
    return described_at is not None and -CLOCKS_DIFFER <= now - described_at < HANDLE_TRUSTED_FOR


def details_from(item: VideoItem, min_duration_s: int) -> VideoDetails:
    """Convert an item of the `videos` endpoint to the store's form."""
    return VideoDetails(
        id=item.id,
        title=item.title,
        published_at=item.published_at,
        duration_s=item.duration_s,
        kind=kind_of(item.duration_s, item.live, min_duration_s),
        api_item=item.item,
        thumbnails=item.thumbnails,
        counts=item.counts,
        may_be_short=may_be_short(item.duration_s, item.live, min_duration_s),
    )


def feed_can_settle(listed_at: datetime | None, now: datetime) -> bool:
    """Whether the last listing is recent enough that a feed without new videos replaces the next listing."""
    return listed_at is not None and timedelta(0) <= now - listed_at < FEED_TRUSTED_FOR


def needs_confirming(asked: int, missing: int) -> bool:
    """Whether so many videos are missing from a response that an API error is more likely than their removal."""
    return asked >= 10 and missing * 2 > asked


@dataclass
class Fifties:
    """Collects ids into batches of 50."""

    _waiting: list[str] = field(default_factory=list)

    def add(self, ids: Iterable[str]) -> list[list[str]]:
        """Add ids and return the batches that are now full."""
        self._waiting.extend(ids)
        full = []
        while len(self._waiting) >= PAGE_SIZE:
            full.append(self._waiting[:PAGE_SIZE])
            del self._waiting[:PAGE_SIZE]
        return full

    @property
    def room(self) -> int:
        """The free places in the current batch; 0 if it is empty."""
        return (PAGE_SIZE - len(self._waiting)) % PAGE_SIZE if self._waiting else 0

    def rest(self) -> list[list[str]]:
        """Return the last, incomplete batch, if any."""
        rest, self._waiting = self._waiting, []
        return [rest] if rest else []


class PageGuard:
    """Ensures that a listing ends: rejects repeated page tokens and too many pages."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._pages = 0
        self._total: int | None = None

    def check(self, next_token: str | None, total: int | None) -> None:
        """Count a page.

        Raises:
            PageLoop: the token of the next page was seen before, or there are too many pages.
        """
        self._pages += 1
        self._total = max(total, self._total or 0) if total else self._total
        if next_token is None:
            return
        most = MOST_PAGES_UNTOLD if self._total is None else 2 * -(-self._total // PAGE_SIZE) + 20
        if next_token in self._seen or self._pages >= most:
            raise PageLoop(
                f"the list of uploads does not end after {self._pages} pages; the listed videos are kept, "
                "try again later"
            )
        self._seen.add(next_token)
