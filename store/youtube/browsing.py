"""Queries of the page about collected data: the library, a video with its history, failed thumbnails, syncs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from store.db import read_files
from store.errors import NotFound
from store.tables import Channel, Picture, PictureFailure, SyncRun, Video, VideoVersion

__all__ = [
    "Failure",
    "LibraryFilter",
    "Place",
    "VideoCard",
    "VideoPage",
    "count_failures",
    "count_kinds",
    "failures",
    "filtered_ids",
    "library_page",
    "picture_file",
    "recent_syncs",
    "video_cards",
    "video_page",
]


@dataclass(frozen=True, slots=True)
class LibraryFilter:
    """Restricts the library to some videos; None for any value.

    Args:
        channel_id: the channel.
        kind: as in `video.kind`; None for all videos with a thumbnail, of any kind.
        split: `train`, `valid`, `test`, or `none` for videos without a split.
        first: the first day of publication (UTC).
        last: the last day of publication (UTC).
    """

    channel_id: str | None = None
    kind: str | None = None
    split: str | None = None
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of the library ended: the next one starts after this video."""

    published_at: datetime | None
    video_id: str


@dataclass(frozen=True, slots=True)
class VideoCard:
    """A video as one tile of a grid."""

    video_id: str
    channel_id: str
    title: str
    picture_sha256: str | None
    published_at: datetime | None
    kind: str
    split: str | None


@dataclass(frozen=True)
class VideoPage:
    """One video and its versions, newest first."""

    video: Video
    channel: Channel
    versions: list[VideoVersion]
    failure: PictureFailure | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A thumbnail that could not be fetched."""

    video_id: str
    title: str
    channel_id: str
    reason: str
    tries: int
    last_failed_at: datetime
    next_try_at: datetime


_CARD = (
    Video.id,
    Video.channel_id,
    Video.title,
    Video.picture_sha256,
    Video.published_at,
    Video.kind,
    Video.split,
)


def library_page(session: Session, library_filter: LibraryFilter, after: Place | None, limit: int) -> list[VideoCard]:
    """Return up to `limit` videos after a place, newest first (ties by id); videos without a date come last."""
    query = select(*_CARD).where(*_conditions(library_filter))
    if after is not None:
        query = query.where(_follows(after))
    query = query.order_by(Video.published_at.is_(None), Video.published_at.desc(), Video.id).limit(limit)
    return [VideoCard(*row) for row in session.execute(query)]


def _follows(place: Place) -> ColumnElement[bool]:
    if place.published_at is None:
        return and_(Video.published_at.is_(None), Video.id > place.video_id)
    return or_(
        Video.published_at < place.published_at,
        and_(Video.published_at == place.published_at, Video.id > place.video_id),
        Video.published_at.is_(None),
    )


def _conditions(library_filter: LibraryFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        Video.picture_sha256.is_not(None) if library_filter.kind is None else Video.kind == library_filter.kind
    ]
    if library_filter.channel_id is not None:
        found.append(Video.channel_id == library_filter.channel_id)
    if library_filter.split is not None:
        found.append(Video.split.is_(None) if library_filter.split == "none" else Video.split == library_filter.split)
    if library_filter.first is not None:
        found.append(Video.published_at >= datetime.combine(library_filter.first, time(), UTC))
    if library_filter.last is not None and library_filter.last < date.max:
        found.append(Video.published_at < datetime.combine(library_filter.last + timedelta(days=1), time(), UTC))
    return found


def filtered_ids(session: Session, library_filter: LibraryFilter) -> frozenset[str]:
    """Return the ids of all videos that a filter keeps."""
    return frozenset(session.scalars(select(Video.id).where(*_conditions(library_filter))))


def video_cards(session: Session, ids: Iterable[str]) -> dict[str, VideoCard]:
    """Return {id: card} for at most a few hundred ids, without ids that are not in the store."""
    rows = session.execute(select(*_CARD).where(Video.id.in_(list(ids))))
    return {row[0]: VideoCard(*row) for row in rows}


def video_page(session: Session, video_id: str) -> VideoPage:
    """Return a video with its history.

    Raises:
        NotFound: it is not in the store.
    """
    video = session.get(Video, video_id)
    channel = None if video is None else session.get(Channel, video.channel_id)
    if video is None or channel is None or channel.removed_at is not None:
        raise NotFound(f"the store has no video {video_id}; run 'thumbtune sync' first")
    versions = select(VideoVersion).where(VideoVersion.video_id == video_id).order_by(VideoVersion.number.desc())
    return VideoPage(video, channel, list(session.scalars(versions)), session.get(PictureFailure, video_id))


def picture_file(session: Session, sha256: str) -> tuple[bytes, str] | None:
    """Return a stored thumbnail's bytes and MIME type; None if no thumbnail has this digest."""
    mime = session.scalar(select(Picture.mime).where(Picture.sha256 == sha256))
    content = None if mime is None else read_files(session, [sha256]).get(sha256)
    return None if mime is None or content is None else (content, mime)


def count_kinds(session: Session) -> dict[str, dict[str, int]]:
    """Return {channel id: {kind, or `private` or `gone`: number of videos}}."""
    query = select(Video.channel_id, Video.kind, Video.availability, func.count()).group_by(
        Video.channel_id, Video.kind, Video.availability
    )
    found: dict[str, dict[str, int]] = {}
    for channel_id, kind, availability, n in session.execute(query):
        counts = found.setdefault(channel_id, {})
        name = kind if availability == "available" else availability
        counts[name] = counts.get(name, 0) + n
    return found


def failures(session: Session, limit: int) -> list[Failure]:
    """Return the thumbnails that failed, in the order in which they are tried again."""
    query = (
        select(
            Video.id,
            Video.title,
            Video.channel_id,
            PictureFailure.reason,
            PictureFailure.tries,
            PictureFailure.last_failed_at,
            PictureFailure.next_try_at,
        )
        .join(Video, Video.id == PictureFailure.video_id)
        .order_by(PictureFailure.next_try_at, Video.id)
        .limit(limit)
    )
    return [Failure(*row) for row in session.execute(query)]


def count_failures(session: Session) -> int:
    """Return the number of thumbnails that failed."""
    return session.scalar(select(func.count()).select_from(PictureFailure)) or 0


def recent_syncs(session: Session, limit: int) -> list[tuple[SyncRun, Channel]]:
    """Return the newest syncs with their channels, newest first."""
    query = (
        select(SyncRun, Channel)
        .join(Channel, Channel.id == SyncRun.channel_id)
        .where(Channel.removed_at.is_(None))
        .order_by(SyncRun.id.desc())
        .limit(limit)
    )
    return [(run, channel) for run, channel in session.execute(query)]
