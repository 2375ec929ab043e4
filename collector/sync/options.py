"""What a user may ask of a sync."""

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
    """What kind of sync.

    Attributes:
        mode: `incremental`, `full` (list to the very end) or `refresh` (read every known video again).
        min_duration_s: below it, a video is a short; where durations do not tell, the list of Shorts does (see
            `may_be_short`); 0 counts Shorts, too. Kept for later syncs. None: as stored, 181 for a new channel.
        thumbnail: the preferred size; kept for later syncs. None: as stored, `high` for a new channel. Stored pictures
            of another size are replaced by the next refresh.
        alone_since: leave a channel alone that another process is syncing, or has synced since then; its report says
            `busy`. None: sync it all the same, which costs units twice and harms nothing else.
        most_units: end as with a spent quota before more than so many units are spent, all channels together.
        refresh_goes_on_for: a refresh that stopped early is continued for so long; after that it starts over.
        units_a_day: the same for what all processes with this key spend on a day, looked up with every batch that is
            written: exact but for the few calls that others have under way.

    Raises:
        BadSetting: a value that can't be used.
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
                f"the shortest duration is {self.min_duration_s} s; give 0 to {LONGEST_MIN_DURATION_S} seconds"
            )
        if self.thumbnail is not None and self.thumbnail not in THUMBNAIL_CHOICES:
            raise BadSetting(f"{self.thumbnail!r} is no thumbnail size; give one of {', '.join(THUMBNAIL_CHOICES)}")
