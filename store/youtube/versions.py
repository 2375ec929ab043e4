"""A video's version history: its current title and thumbnail, and the changes of a batch of observations.

Rows are written with one statement for each kind of change, because ORM objects took a third of a first sync's time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, and_, bindparam, func, select
from sqlalchemy.orm import Session, aliased

from store.db import insert_rows, update_rows
from store.tables import Video, VideoVersion

__all__ = ["CurrentVersion", "VersionChanges", "current_versions", "newest_complete"]


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """The version of a video with the highest number; see `VideoVersion`."""

    id: int
    number: int
    title: str
    picture_sha256: str | None
    first_seen_at: datetime


@dataclass(frozen=True)
class VersionChanges:
    """Collects changes to the versions of a batch of videos, until `write`.

    The caller holds locks on the videos' rows, so version numbers can't collide.
    """

    now: datetime
    _added: list[dict[str, Any]] = field(default_factory=list)
    _seen: list[dict[str, Any]] = field(default_factory=list)
    _illustrated: list[dict[str, Any]] = field(default_factory=list)

    def add(self, current: CurrentVersion | None, video_id: str, title: str, picture_sha256: str | None) -> None:
        """Add a version after `current`."""
        self._added.append(
            {
                "video_id": video_id,
                "number": 1 if current is None else current.number + 1,
                "title": title,
                "picture_sha256": picture_sha256,
                "first_seen_at": self.now,
                "last_seen_at": self.now,
            }
        )

    def seen(self, current: CurrentVersion) -> None:
        """Record that the version was seen again."""
        self._seen.append({"id": current.id, "last_seen_at": self.now})

    def show(self, current: CurrentVersion, video_id: str, picture_sha256: str) -> None:
        """Record a thumbnail that was seen with the version's title and differs from the version's thumbnail."""
        if current.picture_sha256 is None:
            self.illustrate(current, picture_sha256)
        else:
            self.add(current, video_id, current.title, picture_sha256)

    def illustrate(self, current: CurrentVersion, picture_sha256: str) -> None:
        """Set the thumbnail of a version that had none."""
        self._illustrated.append({"id": current.id, "picture_sha256": picture_sha256, "last_seen_at": self.now})

    def write(self, session: Session) -> None:
        """Write all collected changes."""
        insert_rows(session, VideoVersion, self._added)
        update_rows(session, VideoVersion, self._seen)
        update_rows(session, VideoVersion, self._illustrated)


def current_versions(session: Session, ids: Iterable[str]) -> dict[str, CurrentVersion]:
    """Return {video id: current version}; videos without a version are left out."""
    return {row[0]: CurrentVersion(*row[1:]) for row in session.execute(_CURRENT, {"ids": list(ids)})}


def newest_complete() -> ScalarSelect[int]:
    """The number of a `Video`'s newest version with a title and a thumbnail: the version in the view `pairs`."""
    version = aliased(VideoVersion)
    return (
        select(func.max(version.number))
        .where(version.video_id == Video.id, version.picture_sha256.is_not(None), func.trim(version.title) != "")
        .correlate(Video)
        .scalar_subquery()
    )


# Module-level because every transaction of a sync executes it.
_NEWEST = (
    select(VideoVersion.video_id, func.max(VideoVersion.number).label("number"))
    .where(VideoVersion.video_id.in_(bindparam("ids", expanding=True)))
    .group_by(VideoVersion.video_id)
    .subquery()
)
_CURRENT = select(
    VideoVersion.video_id,
    VideoVersion.id,
    VideoVersion.number,
    VideoVersion.title,
    VideoVersion.picture_sha256,
    VideoVersion.first_seen_at,
).join(_NEWEST, and_(VideoVersion.video_id == _NEWEST.c.video_id, VideoVersion.number == _NEWEST.c.number))
