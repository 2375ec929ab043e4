"""A video's history: the (title, picture) that it has now, and what a batch of observations adds to it.

Plain rows, and one statement for each kind of change: as objects, they took a third of a first sync.
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
    """A video's version with the highest number, as `VideoVersion` describes it."""

    id: int
    number: int
    title: str
    picture_sha256: str | None
    first_seen_at: datetime


@dataclass(frozen=True)
class VersionChanges:
    """What happens to the versions of a batch of videos, until `write`.

    The caller holds the videos' rows locked, so numbers never collide.
    """

    now: datetime
    _added: list[dict[str, Any]] = field(default_factory=list)
    _seen: list[dict[str, Any]] = field(default_factory=list)
    _illustrated: list[dict[str, Any]] = field(default_factory=list)

    def add(self, current: CurrentVersion | None, video_id: str, title: str, picture_sha256: str | None) -> None:
        """A version that follows `current`."""
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
        """It still is as it was."""
        self._seen.append({"id": current.id, "last_seen_at": self.now})

    def show(self, current: CurrentVersion, video_id: str, picture_sha256: str) -> None:
        """Its title was seen with this picture, which it does not have."""
        if current.picture_sha256 is None:
            self.illustrate(current, picture_sha256)
        else:
            self.add(current, video_id, current.title, picture_sha256)

    def illustrate(self, current: CurrentVersion, picture_sha256: str) -> None:
        """A version that had no picture yet gets it."""
        self._illustrated.append({"id": current.id, "picture_sha256": picture_sha256, "last_seen_at": self.now})

    def write(self, session: Session) -> None:
        """Write it all; nothing is kept."""
        insert_rows(session, VideoVersion, self._added)
        update_rows(session, VideoVersion, self._seen)
        update_rows(session, VideoVersion, self._illustrated)


def current_versions(session: Session, ids: Iterable[str]) -> dict[str, CurrentVersion]:
    """{video id: its current version}; videos without any are left out."""
    return {row[0]: CurrentVersion(*row[1:]) for row in session.execute(_CURRENT, {"ids": list(ids)})}


def newest_complete() -> ScalarSelect[int]:
    """The number of the newest version of a `Video` that has a title and a picture: the one that view `pairs` shows."""
    version = aliased(VideoVersion)
    return (
        select(func.max(version.number))
        .where(version.video_id == Video.id, version.picture_sha256.is_not(None), func.trim(version.title) != "")
        .correlate(Video)
        .scalar_subquery()
    )


# Built once: it runs in every transaction of a sync.
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
