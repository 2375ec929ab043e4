"""The options of a sync."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from collector.errors import BadSetting
from collector.thumbnails import THUMBNAIL_CHOICES
from store.tables import SyncMode

__all__ = ["SyncOptions"]

LONGEST_MIN_DURATION_S = 7 * 24 * 3600


@dataclass(frozen=True)
class SyncOptions:
    """The options of a sync.

    Attributes:
        mode: `incremental`, `full` (list all uploads) or `refresh` (read every known video again).
        min_duration_s: shorter videos count as Shorts, in seconds; if the duration is not conclusive, the list of
            Shorts decides (see `may_be_short`). 0 includes Shorts. Kept for later syncs. None: the stored value; 181
            for a new channel.
        thumbnail: the preferred size; kept for later syncs. The next refresh replaces stored thumbnails of another
            size. None: the stored value; `high` for a new channel.
        alone_since: skip a channel that another process is syncing, or has synced since then; its report says `busy`.
            None: sync it anyway, which only costs units twice.
        most_units: stop before all channels together spend more units with one key, with the status `quota`. None: no
            limit.
        units_a_day: the same limit for the units that all processes with this key spend per day. It is updated with
            each batch written, so that only calls in progress in other processes can exceed it.
        refresh_goes_on_for: the age up to which an interrupted refresh is continued; an older refresh starts over.

    Raises:
        BadSetting: an option has an invalid value.
    """

    mode: SyncMode = "incremental"
    min_duration_s: int | None = None
    thumbnail: str | None = None
    alone_since: datetime | None = None
    most_units: int | None = None
    units_a_day: int | None = None
    refresh_goes_on_for: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        if self.min_duration_s is not None and not 0 <= self.min_duration_s <= LONGEST_MIN_DURATION_S:
            raise BadSetting(
                f"the minimum duration {self.min_duration_s} s is invalid; give 0 to {LONGEST_MIN_DURATION_S} seconds"
            )
        if self.thumbnail is not None and self.thumbnail not in THUMBNAIL_CHOICES:
            raise BadSetting(f"{self.thumbnail!r} is not a thumbnail size; choose from {', '.join(THUMBNAIL_CHOICES)}")
