"""Training pairs in their current versions, thumbnails by digest, groups and permanent splits."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any

from sqlalchemy import Select, and_, column, func, or_, select, table, update
from sqlalchemy.orm import Session

from store.db import batches, read_files
from store.errors import NotFound, PictureDamaged
from store.tables import Channel, Video, VideoVersion
from store.youtube import lock_videos, newest_complete

__all__ = [
    "Pair",
    "SplitVideo",
    "VideoFacts",
    "assign_splits",
    "channel_titles",
    "current_pairs",
    "find_video",
    "read_pictures",
    "set_groups",
    "split_pictures",
    "split_videos",
    "video_facts",
]

# The public view defines what a pair is, so that SQL users and the trainer get the same pairs.
_PAIRS = table("pairs", column("video_id"), column("title"), column("picture_sha256"))
_PICTURE = func.coalesce(_PAIRS.c.picture_sha256, Video.picture_sha256)
"""A video's thumbnail: the pair's, if the video is a pair."""

_ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Pair:
    """A current thumbnail and its title."""

    video_id: str
    channel_id: str
    version_id: int
    title: str
    picture_sha256: str


@dataclass(frozen=True, slots=True)
class SplitVideo:
    """The data for grouping and splitting of a video that is a pair or has a split."""

    video_id: str
    channel_id: str
    title: str
    picture_sha256: str | None
    split: str | None
    is_pair: bool


def current_pairs(session: Session) -> list[Pair]:
    """Return all pairs of the view `pairs` with their versions, newest first (ties by video id).

    The recipe lists a channel in the same order. Until the thumbnail of a changed title was checked, the pair is the
    previous version, whose title and thumbnail were seen together. Pairs without a version are left out.
    """
    query = (
        select(Video.id, Video.channel_id, VideoVersion.id, VideoVersion.title, VideoVersion.picture_sha256)
        .join(_PAIRS, _PAIRS.c.video_id == Video.id)
        .join(VideoVersion, and_(VideoVersion.video_id == Video.id, VideoVersion.number == newest_complete()))
    )
    return [
        Pair(video, intern(channel), version, title, picture)
        for video, channel, version, title, picture in session.execute(_newest_first(query))
    ]


def find_video(session: Session, video_id: str) -> tuple[str, str | None] | None:
    """Return a video's last (title, thumbnail digest or None) that were seen together; None if the store lacks it."""
    query = (
        select(
            func.coalesce(VideoVersion.title, Video.title),
            func.coalesce(VideoVersion.picture_sha256, Video.picture_sha256),
        )
        .select_from(Video)
        .outerjoin(VideoVersion, and_(VideoVersion.video_id == Video.id, VideoVersion.number == newest_complete()))
        .where(Video.id == video_id)
    )
    row = session.execute(query).first()
    return None if row is None else (row[0], row[1])


def split_pictures(session: Session) -> set[str]:
    """Return the digests of the thumbnails of `split_videos`."""
    query = _of_split(_PICTURE).where(_PICTURE.is_not(None))
    return set(session.scalars(query.execution_options(yield_per=_ROWS_AT_ONCE)))


def split_videos(session: Session) -> list[SplitVideo]:
    """Return every video that is a pair or has a split, newest first (ties by video id).

    This includes unavailable videos, because a re-upload of a deleted video belongs to its group. A caller that writes
    groups or splits afterwards must lock the videos first.
    """
    title, is_pair = func.coalesce(_PAIRS.c.title, Video.title), _PAIRS.c.video_id.is_not(None)
    query = _of_split(Video.id, Video.channel_id, title, _PICTURE, Video.split, is_pair)
    return [
        SplitVideo(video, intern(channel), title, picture, split and intern(split), bool(is_pair))
        for video, channel, title, picture, split, is_pair in session.execute(_newest_first(query))
    ]


def _of_split(*columns: Any) -> Select[Any]:
    """Columns of the videos that are pairs or have a split."""
    of_videos = select(*columns).select_from(Video).outerjoin(_PAIRS, _PAIRS.c.video_id == Video.id)
    return of_videos.where(or_(Video.split.is_not(None), _PAIRS.c.video_id.is_not(None)))


def _newest_first(query: Select[tuple[object, ...]] | Select) -> Select:  # type: ignore[type-arg]
    ordered = query.order_by(Video.published_at.is_(None), Video.published_at.desc(), Video.id)
    return ordered.execution_options(yield_per=_ROWS_AT_ONCE)


def set_groups(session: Session, groups: Mapping[str, str]) -> None:
    """Write {video id: group id}; rows that do not change are not written."""
    lock_videos(session)
    for ids in batches(list(groups)):
        rows = session.execute(select(Video.id, Video.group_id).where(Video.id.in_(ids))).all()
        changed = [{"id": video, "group_id": groups[video]} for video, group in rows if group != groups[video]]
        if changed:
            session.execute(update(Video), changed)


def assign_splits(session: Session, splits: Mapping[str, str], at: datetime) -> dict[str, str]:
    """Assign {video id: split} to the videos that have no split; return the splits that all of them have now.

    A split that another process assigned first stays, so the caller must use the returned splits.
    """
    lock_videos(session)
    for split in sorted(set(splits.values())):
        for ids in batches([video for video, split_of_video in splits.items() if split_of_video == split]):
            session.execute(
                update(Video)
                .where(Video.id.in_(ids), Video.split.is_(None))
                .values(split=split, split_at=at)
                .execution_options(synchronize_session=False)
            )
    given: dict[str, str] = {}
    for ids in batches(list(splits)):
        rows = session.execute(select(Video.id, Video.split).where(Video.id.in_(ids)))
        given.update({video: intern(split) for video, split in rows if split is not None})
    return given


def read_pictures(session: Session, digests: Iterable[str]) -> dict[str, bytes]:
    """Return {digest: file content} of thumbnails, by lower-case hex SHA-256.

    All files are held in memory, so read large sets in batches.

    Raises:
        NotFound: a thumbnail is not in the store.
        PictureDamaged: the bytes of a thumbnail do not match its digest.
        PicturesUnavailable: the folder or bucket of the thumbnails can't be read now.
    """
    requested = sorted(set(digests))
    found = read_files(session, requested)
    missing = [digest for digest in requested if digest not in found]
    if missing:
        raise NotFound(f"thumbnail {missing[0]} is not in the store; 'thumbtune db check --repair' fetches it again")
    for digest, content in found.items():
        if hashlib.sha256(content).hexdigest() != digest:
            raise PictureDamaged(f"thumbnail {digest} is damaged; 'thumbtune db check --repair' fetches it again")
    return found


def channel_titles(session: Session) -> dict[str, tuple[str | None, str]]:
    """Return {channel id: (handle, title)} of all channels that are not removed."""
    rows = session.execute(select(Channel.id, Channel.handle, Channel.title).where(Channel.removed_at.is_(None)))
    return {channel: (handle, title) for channel, handle, title in rows}


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """A video's channel (its handle, or else its id), publication time in UTC, and tags."""

    channel: str
    published_at: datetime | None
    tags: tuple[str, ...]


def video_facts(session: Session, video_ids: Collection[str]) -> dict[str, VideoFacts]:
    """Return {video id: facts} of at most a few hundred videos."""
    query = (
        select(Video.id, Channel.id, Channel.handle, Video.published_at, Video.api_item)
        .join(Channel, Channel.id == Video.channel_id)
        .where(Video.id.in_(video_ids))
    )
    return {
        video_id: VideoFacts(handle or channel_id, published_at, _tags(item))
        for video_id, channel_id, handle, published_at, item in session.execute(query)
    }


def _tags(item: dict[str, Any] | None) -> tuple[str, ...]:
    snippet = (item or {}).get("snippet")
    tags = snippet.get("tags") if isinstance(snippet, dict) else None
    return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()
