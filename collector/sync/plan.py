"""Decisions of a sync, without any effect: what kind a video is, what the feed settles, when a listing stops."""

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
    "FEED_TRUSTED_FOR",
    "HANDLE_TRUSTED_FOR",
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
"""A feed that shows nothing new spares the listing only so long after the last one: feeds lag, and omit things."""

FEED_ASKED_AGAIN_AFTER = timedelta(hours=24)
"""A video that the feed shows and the API does not have is asked for again after this time."""

HANDLE_TRUSTED_FOR = timedelta(hours=24)
"""A stored handle names its channel only so long after YouTube said so: handles change hands."""

PAGE_SIZE = 50
MOST_PAGES_UNTOLD = 2_000
"""Bound of a listing when the API does not say how many entries there are."""


def kind_of(duration_s: int | None, live: LiveState, min_duration_s: int) -> Kind:
    """What a video counts as: only a `video` can be a training pair."""
    if live != "none":
        return live
    if duration_s is None:
        return "unknown"
    return "short" if duration_s < min_duration_s else "video"


def may_be_short(duration_s: int | None, live: LiveState, min_duration_s: int) -> bool:
    """Whether the duration can't tell a Short from another video, so that the channel's list of Shorts decides."""
    return live == "none" and duration_s in doubtful_durations(min_duration_s)


def cheaper_question(videos: int, pages: int | None) -> Literal["video", "page"]:
    """The next request to the list of Shorts: the entry of one of `videos` videos, or one of the `pages` pages left.

    Either costs a unit. `pages` is None while the length of the list is unknown; the first page tells it.
    """
    if pages is None:
        return "video" if videos == 1 else "page"
    return "page" if pages <= videos else "video"


def handle_is_trusted(described_at: datetime | None, now: datetime) -> bool:
    """Whether a handle that was read at `described_at` is recent enough. A future time comes from a wrong clock."""
    return described_at is not None and -CLOCKS_DIFFER <= now - described_at < HANDLE_TRUSTED_FOR


def details_from(item: VideoItem, min_duration_s: int) -> VideoDetails:
    """What the store keeps of one item of the `videos` endpoint."""
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
    """Whether a feed that shows nothing new spares the listing of the uploads: the last one is recent enough."""
    return listed_at is not None and timedelta(0) <= now - listed_at < FEED_TRUSTED_FOR


def needs_confirming(asked: int, missing: int) -> bool:
    """Whether so many videos are missing from an answer that a glitch is likelier than their removal."""
    return asked >= 10 and missing * 2 > asked


@dataclass
class Fifties:
    """Collects ids into full batches of 50."""

    _waiting: list[str] = field(default_factory=list)

    def add(self, ids: Iterable[str]) -> list[list[str]]:
        """Add ids; the batches that are full now."""
        self._waiting.extend(ids)
        full = []
        while len(self._waiting) >= PAGE_SIZE:
            full.append(self._waiting[:PAGE_SIZE])
            del self._waiting[:PAGE_SIZE]
        return full

    @property
    def room(self) -> int:
        """How many more ids the begun batch takes; 0 when none is begun."""
        return (PAGE_SIZE - len(self._waiting)) % PAGE_SIZE if self._waiting else 0

    def rest(self) -> list[list[str]]:
        """The last batch, not full: one, or none."""
        rest, self._waiting = self._waiting, []
        return [rest] if rest else []


class PageGuard:
    """Sees to it that a listing ends whatever the server sends: no page twice, and not many more than there can be."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._pages = 0
        self._total: int | None = None

    def check(self, next_token: str | None, total: int | None) -> None:
        """Take note of one more page.

        Raises:
            PageLoop: the next page was there before, or there are too many.
        """
        self._pages += 1
        self._total = max(total, self._total or 0) if total else self._total
        if next_token is None:
            return
        most = MOST_PAGES_UNTOLD if self._total is None else 2 * -(-self._total // PAGE_SIZE) + 20
        if next_token in self._seen or self._pages >= most:
            raise PageLoop(
                f"the list of uploads does not end after {self._pages} pages; what was listed is kept, try again later"
            )
        self._seen.add(next_token)
