"""What can be trained on: pairs in their current versions, pictures by digest, groups and permanent splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import LargeBinary, Select, and_, cast, column, func, or_, select, table, update
from sqlalchemy.orm import Session

from store.errors import NotFound, PictureDamaged
from store.tables import Channel, Picture, Video, VideoVersion
from store.youtube import lock_videos, newest_complete

__all__ = [
    "Pair",
    "SplitVideo",
    "assign_splits",
    "channel_titles",
    "current_pairs",
    "find_video",
    "read_pictures",
    "set_groups",
    "split_videos",
]

# More bound values than this in one statement is more than an old SQLite takes.
_BATCH = 500

# The public view decides what a pair is, so that SQL users and the trainer never disagree.
_PAIRS = table("pairs", column("video_id"), column("title"), column("picture_sha256"))


@dataclass(frozen=True, slots=True)
class Pair:
    """One thumbnail and its title, as they are now."""

    video_id: str
    channel_id: str
    version_id: int
    title: str
    picture_sha256: str


@dataclass(frozen=True, slots=True)
class SplitVideo:
    """What grouping and splitting need to know of a video: one that is a pair now, or that ever got a split."""

    video_id: str
    channel_id: str
    title: str
    picture_sha256: str | None
    split: str | None
    is_pair: bool


def current_pairs(session: Session) -> list[Pair]:
    """All pairs of the view `pairs`, newest first (ties by video id), each with the version that it is.

    Newest first is the order in which the recipe lists a channel. While a changed title waits for its thumbnail to be
    checked, the pair is what was last seen together: the version before. A pair without any version is left out.
    """
    query = (
        select(Video.id, Video.channel_id, VideoVersion.id, VideoVersion.title, VideoVersion.picture_sha256)
        .join(_PAIRS, _PAIRS.c.video_id == Video.id)
        .join(VideoVersion, and_(VideoVersion.video_id == Video.id, VideoVersion.number == newest_complete()))
    )
    return [Pair(*row) for row in session.execute(_newest_first(query))]


def find_video(session: Session, video_id: str) -> tuple[str, str | None] | None:
    """(title, digest of the picture or None) of a video as last seen together, or None: not in the store."""
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


def split_videos(session: Session) -> list[SplitVideo]:
    """Every video that is a pair now or has a split from earlier, newest first (ties by video id).

    Vanished videos count: a re-upload of a deleted one belongs to its group. Who then writes groups and splits locks
    the videos first.
    """
    query = (
        select(
            Video.id,
            Video.channel_id,
            func.coalesce(_PAIRS.c.title, Video.title),
            func.coalesce(_PAIRS.c.picture_sha256, Video.picture_sha256),
            Video.split,
            _PAIRS.c.video_id.is_not(None),
        )
        .outerjoin(_PAIRS, _PAIRS.c.video_id == Video.id)
        .where(or_(Video.split.is_not(None), _PAIRS.c.video_id.is_not(None)))
    )
    return [SplitVideo(*row) for row in session.execute(_newest_first(query))]


def _newest_first(query: Select[tuple[object, ...]] | Select) -> Select:  # type: ignore[type-arg]
    return query.order_by(Video.published_at.is_(None), Video.published_at.desc(), Video.id)


def set_groups(session: Session, groups: Mapping[str, str]) -> None:
    """Write {video id: group id}, touching only the rows that differ."""
    lock_videos(session)
    known: dict[str, str | None] = {}
    for ids in _batches(list(groups)):
        rows = session.execute(select(Video.id, Video.group_id).where(Video.id.in_(ids)))
        known.update((video, group) for video, group in rows)
    changed = [{"id": video, "group_id": group} for video, group in groups.items() if known.get(video) != group]
    if changed:
        session.execute(update(Video), changed)


def assign_splits(session: Session, splits: Mapping[str, str], at: datetime) -> dict[str, str]:
    """Give {video id: split} to the videos that have none yet; return what each has now.

    A split that someone else gave first stays: the caller goes on with what is returned.
    """
    lock_videos(session)
    for split in sorted(set(splits.values())):
        for ids in _batches([video for video, wanted in splits.items() if wanted == split]):
            session.execute(
                update(Video)
                .where(Video.id.in_(ids), Video.split.is_(None))
                .values(split=split, split_at=at)
                .execution_options(synchronize_session=False)
            )
    given: dict[str, str] = {}
    for ids in _batches(list(splits)):
        rows = session.execute(select(Video.id, Video.split).where(Video.id.in_(ids)))
        given.update({video: split for video, split in rows if split is not None})
    return given


def read_pictures(session: Session, digests: Iterable[str]) -> dict[str, bytes]:
    """The files of these pictures, by lower-case hex SHA-256. Ask for a batch at a time: they are held in memory.

    Raises:
        NotFound: one of them is not in the store.
        PictureDamaged: one has other bytes than its digest says.
    """
    wanted = sorted(set(digests))
    found: dict[str, bytes] = {}
    for batch in _batches(wanted):
        # Cast, as what was damaged may be text to SQLite.
        query = select(Picture.sha256, cast(Picture.bytes, LargeBinary)).where(Picture.sha256.in_(batch))
        rows = session.execute(query)
        found.update((digest, content) for digest, content in rows)
    missing = [digest for digest in wanted if digest not in found]
    if missing:
        raise NotFound(
            f"picture {missing[0]} is not in the store; run 'thumbtune db check', with --repair to fetch it again"
        )
    for digest, content in found.items():
        if hashlib.sha256(content).hexdigest() != digest:
            raise PictureDamaged(
                f"picture {digest} is damaged in the store; run 'thumbtune db check', with --repair to fetch it again"
            )
    return found


def channel_titles(session: Session) -> dict[str, tuple[str | None, str]]:
    """{channel id: (handle, title)} of every channel in the store; removed ones are not."""
    rows = session.execute(select(Channel.id, Channel.handle, Channel.title).where(Channel.removed_at.is_(None)))
    return {channel: (handle, title) for channel, handle, title in rows}


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
