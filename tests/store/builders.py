"""Insert rows for tests of the store and the trainer: a channel and its videos, as a sync leaves them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.db import Database
from store.tables import Channel, Picture, TrainingRun, Video, VideoVersion

DAY_ONE = datetime(2024, 1, 1, 12, tzinfo=UTC)
NO_IDS = (0, -1, 2**31, -(2**31) - 1, 2**32 + 1, 2**63, 10**20)
"""Numbers that no row has as its id. The databases' integer types can't hold all of them."""


def add_channel(session: Session, channel_id: str = "UC1", handle: str | None = "@one", title: str = "One") -> None:
    session.add(
        Channel(
            id=channel_id,
            handle=handle,
            title=title,
            uploads_playlist_id="UU" + channel_id[2:],
            min_duration_s=180,
            thumbnail_size="high",
            added_at=DAY_ONE,
        )
    )
    session.flush()


def add_picture(session: Session, content: bytes) -> str:
    """Store a thumbnail file if it is new; return its digest. The store never decodes it."""
    digest = hashlib.sha256(content).hexdigest()
    if session.get(Picture, digest) is None:
        session.add(
            Picture(
                sha256=digest,
                bytes=content,
                mime="image/jpeg",
                width=480,
                height=360,
                byte_count=len(content),
                fetched_at=DAY_ONE,
            )
        )
        session.flush()
    return digest


def add_video(
    session: Session,
    video_id: str,
    *,
    day: int | None = 0,
    title: str | None = None,
    picture: bytes | None = b"",
    channel_id: str = "UC1",
    **columns: Any,
) -> int:
    """Add a video and its first version, by default a distinct pair; return the version's id.

    Args:
        session: a write session.
        video_id: the id; the default title and thumbnail contain it.
        day: the publishing time, in days after `DAY_ONE`; None: unknown.
        title: the title.
        picture: the thumbnail file's bytes; None: not fetched yet.
        channel_id: the channel.
        columns: other columns of `Video`.
    """
    title = f"The title of {video_id}" if title is None else title
    digest = None if picture is None else add_picture(session, picture or video_id.encode())
    values: dict[str, Any] = {"kind": "video", "availability": "available", "duration_s": 600, **columns}
    session.add(
        Video(
            id=video_id,
            channel_id=channel_id,
            title=title,
            picture_sha256=digest,
            published_at=None if day is None else DAY_ONE + timedelta(days=day),
            first_seen_at=DAY_ONE,
            last_seen_at=DAY_ONE,
            **values,
        )
    )
    session.flush()
    return _add_version(session, video_id, title, digest)


def change_video(session: Session, video_id: str, *, title: str | None = None, picture: bytes | None = None) -> int:
    """Change a video's title, thumbnail, or both, and add the version; return the version's id."""
    video = session.get_one(Video, video_id)
    if title is not None:
        video.title = title
    if picture is not None:
        video.picture_sha256 = add_picture(session, picture)
    session.flush()
    return _add_version(session, video_id, video.title, video.picture_sha256)


def _add_version(session: Session, video_id: str, title: str, digest: str | None) -> int:
    last = session.scalar(select(func.max(VideoVersion.number)).where(VideoVersion.video_id == video_id)) or 0
    version = VideoVersion(
        video_id=video_id,
        number=last + 1,
        title=title,
        picture_sha256=digest,
        first_seen_at=DAY_ONE,
        last_seen_at=DAY_ONE,
    )
    session.add(version)
    session.flush()
    return version.id


def url_of(database: Database) -> str:
    """Return the URL to open the same store again, including the password."""
    return database.url.render_as_string(hide_password=False)


def list_runs(session: Session) -> list[TrainingRun]:
    """Return all runs, oldest first."""
    return list(session.scalars(select(TrainingRun).order_by(TrainingRun.id)))
