"""Additional columns of exports: facts about videos, and the words on their thumbnails."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import Channel, SnapshotExample, ThumbnailWords, Video, VideoVersion

__all__ = ["VideoFacts", "any_texts", "texts_of", "video_facts"]


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


def any_texts(session: Session, snapshot_id: int) -> bool:
    """Whether words were read on any thumbnail of a snapshot."""
    query = (
        select(SnapshotExample.position)
        .join(VideoVersion, VideoVersion.id == SnapshotExample.version_id)
        .join(ThumbnailWords, ThumbnailWords.picture_sha256 == VideoVersion.picture_sha256)
        .where(SnapshotExample.snapshot_id == snapshot_id)
    )
    return session.execute(query.limit(1)).first() is not None


def texts_of(session: Session, digests: Collection[str] | None = None) -> dict[str, str]:
    """Return {SHA-256 (hex) of a thumbnail: the words last read on it}, for the given thumbnails or all."""
    query = select(ThumbnailWords.picture_sha256, ThumbnailWords.text).order_by(
        ThumbnailWords.read_at, ThumbnailWords.reader
    )
    if digests is not None:
        query = query.where(ThumbnailWords.picture_sha256.in_(digests))
    return {row.picture_sha256: row.text for row in session.execute(query)}
