"""Remove a channel: delete its YouTube data, and keep the results of training runs.

Training runs refer to videos and versions. Those rows are kept without content: ids, splits, ranks and recalls stay;
titles, thumbnails and all other data from YouTube are deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from store.db import batches
from store.errors import InUse, NotFound
from store.tables import (
    Channel,
    Feature,
    Picture,
    PictureFailure,
    PicturePlace,
    Rank,
    SnapshotExample,
    SyncRun,
    ThumbnailWords,
    TrainingRun,
    Video,
    VideoReading,
    VideoVersion,
)
from store.youtube.syncs import end_stale_syncs
from store.youtube.videos import lock_videos

__all__ = ["ChannelContents", "contents_of", "remove_channel"]

IsAlive = Callable[[int, datetime, int | None], bool]


@dataclass(frozen=True, slots=True)
class ChannelContents:
    """The amount of data that the store holds for a channel.

    Attributes:
        channel_id: `UC...`.
        handle: `@name`; None for a channel without a handle, or a removed channel.
        title: the channel's title; empty for a removed channel.
        videos: number of videos, without emptied rows.
        versions: number of versions, without emptied rows.
        thumbnails: number of thumbnails that no other channel's videos show.
        readings: number of readings of views, likes and comments.
        syncs: number of syncs in the history.
        examples: number of the channel's pairs in snapshots.
        runs: ids of the training runs on those snapshots.
    """

    channel_id: str
    handle: str | None
    title: str
    videos: int
    versions: int
    thumbnails: int
    readings: int
    syncs: int
    examples: int
    runs: tuple[int, ...]


def contents_of(session: Session, channel_id: str) -> ChannelContents:
    """Count a channel's data. The channel may have been removed with `keep_runs`.

    Raises:
        NotFound: the store does not have the channel, or no data to remove.
    """
    channel = session.get(Channel, channel_id)
    mine = _videos_of(channel_id)
    held = _held_by_versions(channel_id)
    if channel is None or (channel.removed_at is not None and not _count(session, held)):
        raise NotFound(f"the store has no channel {channel_id}; 'thumbtune channels' lists its channels")
    snapshots = select(SnapshotExample.snapshot_id).where(SnapshotExample.channel_id == channel_id)
    runs = select(TrainingRun.id).where(TrainingRun.snapshot_id.in_(snapshots)).order_by(TrainingRun.id)
    own = select(Picture.sha256).where(
        Picture.sha256.in_(_pictures_of(channel_id)),
        ~exists().where(Video.picture_sha256 == Picture.sha256, Video.channel_id != channel_id),
        ~exists().where(VideoVersion.picture_sha256 == Picture.sha256, VideoVersion.video_id.not_in(mine)),
    )
    return ChannelContents(
        channel_id=channel_id,
        handle=channel.handle,
        title=channel.title,
        videos=0 if channel.removed_at is not None else _count(session, mine),
        versions=_count(session, held),
        thumbnails=_count(session, own),
        readings=_count(session, select(VideoReading.video_id).where(VideoReading.video_id.in_(mine))),
        syncs=_count(session, select(SyncRun.id).where(SyncRun.channel_id == channel_id)),
        examples=_count(session, select(SnapshotExample.video_id).where(SnapshotExample.channel_id == channel_id)),
        runs=tuple(session.scalars(runs)),
    )


def remove_channel(
    session: Session, channel_id: str, *, keep_runs: bool, host: str, is_alive: IsAlive, now: datetime
) -> dict[str, list[str]]:
    """Delete a channel's data in this transaction.

    Videos and versions that snapshots and ranks refer to keep their rows, without titles, thumbnails and publishing
    times; then the channel keeps its row, too. If a later sync adds such a video again, it keeps its split.

    Args:
        session: a write session without other changes.
        channel_id: the channel. It may have been removed with `keep_runs`.
        keep_runs: keep the titles, thumbnails and publishing times that snapshots refer to, and their cached vectors,
            so that runs on these snapshots can still be scored and repeated.
        host: this machine's name; only its processes can be checked.
        is_alive: called with a process id, a time at which the process was running, and the column `process_start`.
            Returns whether the process is still running.
        now: the current time.

    Returns:
        {URL of a place: digests} of the deleted thumbnails whose files are outside the database. Once the transaction
        is committed, delete them (`store.db.delete_files`).

    Raises:
        NotFound: the store does not have the channel, or no data to remove.
        InUse: a sync of the channel, or a training run on it, is running.
    """
    lock_videos(session, channel_id)
    session.scalar(select(Channel.id).where(Channel.id == channel_id).with_for_update())
    contents_of(session, channel_id)
    _require_idle(session, channel_id, host, is_alive, now)
    titles, pictures = _titles_of(session, channel_id), _texts(session, _pictures_of(channel_id))
    mine = _videos_of(channel_id)
    for table in (PictureFailure, VideoReading):
        _delete(session, table, table.video_id.in_(mine))
    _delete(session, SyncRun, SyncRun.channel_id == channel_id)
    in_snapshot = exists().where(SnapshotExample.version_id == VideoVersion.id)
    _delete(session, VideoVersion, VideoVersion.video_id.in_(mine), ~in_snapshot)
    if not keep_runs:
        _update(session, VideoVersion, VideoVersion.video_id.in_(mine), title="", picture_sha256=None)
    referred = or_(
        exists().where(SnapshotExample.video_id == Video.id),
        exists().where(Rank.video_id == Video.id),
        exists().where(Rank.top_video_id == Video.id),
    )
    _delete(session, Video, Video.channel_id == channel_id, ~referred)
    _update(session, Video, Video.channel_id == channel_id, **_emptied_video(keep_runs))
    files = _delete_pictures(session, pictures)
    _delete_features(session, titles, pictures)
    # Without videos, no examples refer to the channel.
    if session.scalar(select(Video.id).where(Video.channel_id == channel_id).limit(1)) is None:
        _delete(session, Channel, Channel.id == channel_id)
    else:
        _update(session, Channel, Channel.id == channel_id, **_emptied_channel(now))
    return files


def _require_idle(session: Session, channel_id: str, host: str, is_alive: IsAlive, now: datetime) -> None:
    end_stale_syncs(session, channel_id, host=host, is_alive=is_alive, now=now)
    syncing = select(SyncRun).where(SyncRun.channel_id == channel_id, SyncRun.status == "running").limit(1)
    if (sync := session.scalar(syncing)) is not None:
        raise InUse(f"process {sync.pid} on {sync.host} is syncing the channel; wait until it has finished, or stop it")
    snapshots = select(SnapshotExample.snapshot_id).where(SnapshotExample.channel_id == channel_id)
    training = select(TrainingRun).where(
        TrainingRun.status == "running",
        TrainingRun.host == host,
        or_(TrainingRun.snapshot_id.is_(None), TrainingRun.snapshot_id.in_(snapshots)),
    )
    for run in session.scalars(training):
        if is_alive(run.pid, run.seen_at or run.started_at, run.process_start):
            raise InUse(f"process {run.pid} is training run {run.id}; wait until it has finished, or stop it")


def _emptied_video(keep_runs: bool) -> dict[str, Any]:
    return {
        "title": "",
        "picture_sha256": None,
        "picture_url": None,
        "picture_etag": None,
        "picture_last_modified": None,
        "picture_checked_at": None,
        "api_item": None,
        "duration_s": None,
        "kind": "unknown",
        "in_shorts_list": None,
        "shorts_asked_at": None,
        "availability": "gone",
        "details_at": None,
        **({} if keep_runs else {"published_at": None}),
    }


def _emptied_channel(now: datetime) -> dict[str, Any]:
    return {
        "handle": None,
        "title": "",
        "api_item": None,
        "described_at": None,
        "listing_token": None,
        "listing_began_at": None,
        "listed_at": None,
        "synced_at": None,
        "refreshed_at": None,
        "refresh_began_at": None,
        "removed_at": now,
    }


def _delete_pictures(session: Session, digests: Sequence[str]) -> dict[str, list[str]]:
    """Delete the rows of thumbnails that no other row refers to; return their files, see `remove_channel`."""
    shown = or_(
        exists().where(Video.picture_sha256 == Picture.sha256),
        exists().where(VideoVersion.picture_sha256 == Picture.sha256),
    )
    files: dict[str, list[str]] = {}
    for batch in batches(digests):
        unused = (Picture.sha256.in_(batch), ~shown)
        outside = select(PicturePlace.url, Picture.sha256).join(PicturePlace, PicturePlace.id == Picture.place_id)
        for url, sha256 in session.execute(outside.where(*unused)):
            files.setdefault(url, []).append(sha256)
        _delete(session, Picture, *unused)
    return files


def _delete_features(session: Session, titles: Sequence[str], pictures: Sequence[str]) -> None:
    """Delete the cached vectors and OCR texts of titles and thumbnails that are no longer in the store."""
    left: set[str] = set()
    for batch in batches(titles):
        for table in (Video, VideoVersion):
            left.update(session.scalars(select(table.title).where(table.title.in_(batch)).distinct()))
    for batch in batches(pictures):
        left.update(session.scalars(select(Picture.sha256).where(Picture.sha256.in_(batch))))
    gone = {
        "text": [hashlib.sha256(title.encode()).hexdigest() for title in titles if title not in left],
        "vision": [digest for digest in pictures if digest not in left],
    }
    for batch in batches(gone["vision"]):
        _delete(session, ThumbnailWords, ThumbnailWords.picture_sha256.in_(batch))
    for fingerprint, tower in session.execute(select(Feature.fingerprint, Feature.tower).distinct()).all():
        for batch in batches(gone[tower]):
            _delete(
                session, Feature, Feature.fingerprint == fingerprint, Feature.tower == tower, Feature.digest.in_(batch)
            )


def _videos_of(channel_id: str) -> Any:
    return select(Video.id).where(Video.channel_id == channel_id)


def _held_by_versions(channel_id: str) -> Any:
    """Versions with a title or a thumbnail."""
    has_content = or_(VideoVersion.title != "", VideoVersion.picture_sha256.is_not(None))
    return select(VideoVersion.id).where(VideoVersion.video_id.in_(_videos_of(channel_id)), has_content)


def _pictures_of(channel_id: str) -> Any:
    own = select(Video.picture_sha256).where(Video.channel_id == channel_id, Video.picture_sha256.is_not(None))
    ever = select(VideoVersion.picture_sha256).where(
        VideoVersion.video_id.in_(_videos_of(channel_id)), VideoVersion.picture_sha256.is_not(None)
    )
    return own.union(ever)


def _titles_of(session: Session, channel_id: str) -> list[str]:
    own = select(Video.title).where(Video.channel_id == channel_id)
    ever = select(VideoVersion.title).where(VideoVersion.video_id.in_(_videos_of(channel_id)))
    return [title for title in _texts(session, own.union(ever)) if title]


def _texts(session: Session, query: Any) -> list[str]:
    return list(session.scalars(query))


def _count(session: Session, query: Any) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _delete(session: Session, table: Any, *which: ColumnElement[bool]) -> None:
    session.execute(delete(table).where(*which).execution_options(synchronize_session=False))


def _update(session: Session, table: Any, *which: ColumnElement[bool], **values: Any) -> None:
    session.execute(update(table).where(*which).values(values).execution_options(synchronize_session=False))
