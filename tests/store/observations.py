"""Record a sync's observations (playlist entries, details, thumbnails) through the store's functions.

`builders` inserts rows directly.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.db import Database
from store.tables import Availability, Base, Kind, Video, VideoVersion
from store.youtube import (
    DetailsResult,
    FetchedPicture,
    ListedVideo,
    PageResult,
    PictureOutcome,
    PicturesResult,
    VideoDetails,
    record_details,
    record_page,
    record_pictures,
    save_channel,
)

CHANNEL = "UCaaaaaaaaaaaaaaaaaaaaaa"
T0 = datetime(2024, 7, 1, 12, 0, 0, tzinfo=UTC)
PUBLISHED = datetime(2024, 6, 1, 8, 30, 0, tzinfo=UTC)

T = TypeVar("T")


def at(hours: float) -> datetime:
    """The time this many hours after `T0`."""
    return T0 + timedelta(hours=hours)


def add_channel(session: Session, channel_id: str = CHANNEL, **changes: Any) -> None:
    values: dict[str, Any] = {
        "handle": None,
        "title": "Füchse 🦊",
        "uploads_playlist_id": "UU" + channel_id[2:],
        "api_item": {"kind": "youtube#channel", "id": channel_id},
        "default_min_duration_s": 180,
        "default_thumbnail_size": "high",
        "now": T0,
    }
    save_channel(session, channel_id=channel_id, **values | changes)


def add_video(session: Session, video_id: str, **changes: Any) -> Video:
    """Insert a video as a sync leaves it after reading the details: a pair without a thumbnail."""
    values: dict[str, Any] = {
        "channel_id": CHANNEL,
        "title": f"title of {video_id}",
        "kind": "video",
        "availability": "available",
        "duration_s": 300,
        "api_item": {"snippet": {"thumbnails": thumbnails(video_id)}},
        "first_seen_at": T0,
        "last_seen_at": T0,
        "details_at": T0,
    }
    video = Video(id=video_id, **values | changes)
    session.add(video)
    return video


def thumbnails(video_id: str) -> dict[str, Any]:
    return {"high": {"url": f"https://i.ytimg.com/vi/{video_id}/hqdefault.jpg", "width": 480, "height": 360}}


def listed(
    video_id: str,
    title: str = "listed",
    *,
    published_at: datetime | None = PUBLISHED,
    availability: Availability = "available",
) -> ListedVideo:
    return ListedVideo(video_id, title, published_at, availability)


def details(
    video_id: str,
    title: str = "first",
    *,
    kind: Kind = "video",
    duration_s: int | None = 300,
    published_at: datetime | None = PUBLISHED,
) -> VideoDetails:
    return VideoDetails(
        id=video_id,
        title=title,
        published_at=published_at,
        duration_s=duration_s,
        kind=kind,
        api_item={"id": video_id, "snippet": {"title": title, "thumbnails": thumbnails(video_id)}},
        thumbnails=thumbnails(video_id),
    )


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetched(video_id: str, data: bytes = b"one", *, etag: str | None = '"e1"') -> FetchedPicture:
    return FetchedPicture(
        video_id=video_id,
        url=thumbnails(video_id)["high"]["url"],
        data=data,
        sha256=sha(data),
        mime="image/jpeg",
        width=480,
        height=360,
        etag=etag,
        last_modified="Mon, 01 Jul 2024 12:00:00 GMT",
    )


def page(
    database: Database, *entries: ListedVideo, now: datetime = T0, known_until: datetime | None = None
) -> PageResult:
    with database.write() as session:
        return record_page(session, CHANNEL, entries, now=now, known_until=known_until)


def read_details(
    database: Database,
    *found: VideoDetails,
    missing: Sequence[str] = (),
    now: datetime = T0,
    recheck_before: datetime | None = None,
    started_at: datetime | None = None,
) -> DetailsResult:
    with database.write() as session:
        return record_details(
            session, found, missing, now=now, started_at=started_at or now, recheck_before=recheck_before
        )


def pictures(
    database: Database, *outcomes: PictureOutcome, now: datetime = T0, started_at: datetime | None = None
) -> PicturesResult:
    with database.write() as session:
        return record_pictures(session, outcomes, now=now, started_at=started_at or now)


def the_video(database: Database, video_id: str) -> Video:
    with database.read() as session:
        return session.get_one(Video, video_id)


def history(database: Database, video_id: str) -> list[tuple[str, str | None]]:
    """Return (title, thumbnail digest) of each version in order. Asserts that the numbers have no gap."""
    with database.read() as session:
        query = select(VideoVersion).where(VideoVersion.video_id == video_id).order_by(VideoVersion.number)
        versions = list(session.scalars(query))
    assert [version.number for version in versions] == list(range(1, len(versions) + 1))
    return [(version.title, version.picture_sha256) for version in versions]


def count(database: Database, model: type[Base]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def at_once(database: Database, *blocks: Callable[[Session], T]) -> list[T]:
    """Run each block in its own thread and write transaction, started together; return the results in order."""
    barrier = threading.Barrier(len(blocks))

    def run(block: Callable[[Session], T]) -> T:
        with database.write() as session:
            # The transaction begins with its first statement, so no thread holds a lock at the barrier.
            barrier.wait(30)
            return block(session)

    with ThreadPoolExecutor(len(blocks)) as pool:
        return [future.result(60) for future in [pool.submit(run, block) for block in blocks]]
