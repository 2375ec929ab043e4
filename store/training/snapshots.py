"""Snapshots: immutable datasets, stored once per content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any

from sqlalchemy import Select, and_, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from store.db import Database
from store.errors import ContentRemoved, NotFound
from store.tables import Snapshot, SnapshotExample, ThumbnailWords, Video, VideoVersion
from store.types import can_be_id, utc_now

__all__ = [
    "ExampleRow",
    "SnapshotInfo",
    "SnapshotSpan",
    "any_texts",
    "every_negative",
    "example_batches",
    "load_examples",
    "newest_snapshot",
    "pairs_of_snapshot",
    "save_snapshot",
    "snapshot_info",
    "snapshot_span",
    "trained_pairs",
]


_INSERTED_AT_ONCE = 10_000
_READ_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """One example of a snapshot, with the title and thumbnail of its version."""

    position: int
    video_id: str
    channel_id: str
    version_id: int
    group_id: str
    split: str
    title: str
    picture_sha256: str
    negative_position: int | None


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot without its examples."""

    id: int
    fingerprint: str
    created_at: datetime
    settings: dict[str, Any]
    counts: dict[str, int]
    """{"train": n, "valid": n, "test": n}."""
    excluded: dict[str, int]


@dataclass(frozen=True)
class SnapshotSpan:
    """The extent of a snapshot, without its content."""

    channels: int
    groups: int
    """Sets of videos that share a thumbnail or a title; each set is in one split."""
    first_published_at: datetime | None
    """UTC; None if no publishing time is known."""
    last_published_at: datetime | None


def save_snapshot(
    session: Session,
    fingerprint: str,
    settings: dict[str, Any],
    excluded: dict[str, int],
    examples: Sequence[ExampleRow],
) -> tuple[int, bool]:
    """Store a snapshot unless an equal snapshot exists; return its id, and whether it is new.

    If the existing snapshot lost content because its channel was removed and added again, the content is restored.
    """
    known = _id_of(session, fingerprint)
    if known is not None:
        _refer_anew(session, known, examples)
        return known, False
    counts = Counter(example.split for example in examples)
    row = Snapshot(
        fingerprint=fingerprint,
        created_at=utc_now(),
        settings=settings,
        excluded=excluded,
        n_train=counts["train"],
        n_valid=counts["valid"],
        n_test=counts["test"],
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # Another process stored the same snapshot between the query and the insert (PostgreSQL only).
        known = _id_of(session, fingerprint)
        if known is None:
            raise
        return known, False
    for start in range(0, len(examples), _INSERTED_AT_ONCE):
        some = examples[start : start + _INSERTED_AT_ONCE]
        session.execute(insert(SnapshotExample), [_as_row(row.id, example) for example in some])
    return row.id, True


def _id_of(session: Session, fingerprint: str) -> int | None:
    return session.scalar(select(Snapshot.id).where(Snapshot.fingerprint == fingerprint))


def _refer_anew(session: Session, snapshot_id: int, examples: Sequence[ExampleRow]) -> None:
    """Make examples whose version was emptied refer to the version with the same content."""
    emptied = (
        select(SnapshotExample.position)
        .join(VideoVersion, VideoVersion.id == SnapshotExample.version_id)
        .where(SnapshotExample.snapshot_id == snapshot_id, VideoVersion.picture_sha256.is_(None))
    )
    positions = set(session.scalars(emptied))
    rows = [
        {"snapshot_id": snapshot_id, "position": example.position, "version_id": example.version_id}
        for example in examples
        if example.position in positions
    ]
    if rows:
        session.execute(update(SnapshotExample), rows)


def _as_row(snapshot_id: int, example: ExampleRow) -> dict[str, Any]:
    return {
        "snapshot_id": snapshot_id,
        "position": example.position,
        "video_id": example.video_id,
        "version_id": example.version_id,
        "channel_id": example.channel_id,
        "group_id": example.group_id,
        "split": example.split,
        "negative_position": example.negative_position,
    }


def snapshot_info(session: Session, snapshot_id: int) -> SnapshotInfo:
    """Return a snapshot without its examples.

    Raises:
        NotFound: the snapshot does not exist.
    """
    row = session.get(Snapshot, snapshot_id) if can_be_id(snapshot_id) else None
    if row is None:
        raise NotFound(f"there is no snapshot {snapshot_id}; 'thumbtune runs' shows which runs and snapshots exist")
    counts = {"train": row.n_train, "valid": row.n_valid, "test": row.n_test}
    return SnapshotInfo(row.id, row.fingerprint, row.created_at, row.settings, counts, row.excluded)


def snapshot_span(session: Session, snapshot_id: int) -> SnapshotSpan:
    """Count a snapshot's channels and groups, and find when its first and last videos were published.

    Raises:
        NotFound: the snapshot does not exist.
    """
    snapshot_info(session, snapshot_id)
    query = (
        select(
            func.count(SnapshotExample.channel_id.distinct()),
            func.count(SnapshotExample.group_id.distinct()),
            func.min(Video.published_at),
            func.max(Video.published_at),
        )
        .join(Video, Video.id == SnapshotExample.video_id)
        .where(SnapshotExample.snapshot_id == snapshot_id)
    )
    return SnapshotSpan(*session.execute(query).one())


def newest_snapshot(session: Session, *, all_channels: bool = False) -> int | None:
    """Return the id of the newest snapshot, or None.

    With `all_channels`, a snapshot of all channels is preferred to a newer snapshot of some channels.
    """
    newest = session.scalar(select(Snapshot.id).order_by(Snapshot.id.desc()).limit(1))
    if not all_channels:
        return newest
    every = session.execute(select(Snapshot.id, Snapshot.settings).order_by(Snapshot.id.desc()))
    return next((snapshot for snapshot, settings in every if not settings.get("channels")), newest)


def load_examples(session: Session, snapshot_id: int) -> list[ExampleRow]:
    """Return a snapshot's examples in order, with their titles and thumbnails at the time of the snapshot.

    Raises:
        NotFound: the snapshot does not exist.
        ContentRemoved: titles and thumbnails of the snapshot were deleted with their channel.
    """
    snapshot_info(session, snapshot_id)
    query = _examples(snapshot_id).order_by(SnapshotExample.position).execution_options(yield_per=_READ_AT_ONCE)
    # Equal strings are one object: most groups have one video, and channels and splits repeat.
    rows = [
        ExampleRow(
            position,
            video_id,
            intern(channel_id),
            version_id,
            video_id if group_id == video_id else group_id,
            intern(split),
            title,
            picture,
            negative,
        )
        for position, video_id, channel_id, version_id, group_id, split, title, picture, negative in session.execute(
            query
        )
    ]
    _require_content(session, snapshot_id)
    return rows


def example_batches(
    database: Database, snapshot_id: int, split: str, size: int
) -> Iterator[list[tuple[ExampleRow, str | None]]]:
    """Yield a split's examples in order, each with the title of its negative. One batch is in memory at a time.

    Each batch is read in a session of its own, because a snapshot never changes.

    Raises:
        ContentRemoved: titles and thumbnails of the snapshot were deleted with their channel.
    """
    negative, titled = aliased(SnapshotExample), aliased(VideoVersion)
    query = (
        _examples(snapshot_id)
        .add_columns(titled.title)
        .outerjoin(
            negative,
            and_(
                negative.snapshot_id == SnapshotExample.snapshot_id,
                negative.position == SnapshotExample.negative_position,
            ),
        )
        .outerjoin(titled, titled.id == negative.version_id)
        .where(SnapshotExample.split == split)
        .order_by(SnapshotExample.position)
        .limit(size)
    )
    last = -1
    while True:
        with database.read() as session:
            if last < 0:
                _require_content(session, snapshot_id)
            rows = session.execute(query.where(SnapshotExample.position > last)).all()
        if not rows:
            return
        yield [(ExampleRow(*row[:-1]), row[-1]) for row in rows]
        last = rows[-1].position


def every_negative(session: Session, snapshot_id: int) -> bool:
    """Whether each example of a snapshot has a negative."""
    without = select(SnapshotExample.position).where(
        SnapshotExample.snapshot_id == snapshot_id, SnapshotExample.negative_position.is_(None)
    )
    return session.execute(without.limit(1)).first() is None


def any_texts(session: Session, snapshot_id: int) -> bool:
    """Whether words were read on any thumbnail of a snapshot."""
    query = (
        select(SnapshotExample.position)
        .join(VideoVersion, VideoVersion.id == SnapshotExample.version_id)
        .join(ThumbnailWords, ThumbnailWords.picture_sha256 == VideoVersion.picture_sha256)
        .where(SnapshotExample.snapshot_id == snapshot_id)
    )
    return session.execute(query.limit(1)).first() is not None


def pairs_of_snapshot(session: Session, snapshot_id: int) -> Iterator[tuple[str, int, str]]:
    """Yield (video id, version id, split) of each example, without holding all of them in memory."""
    query = select(SnapshotExample.video_id, SnapshotExample.version_id, SnapshotExample.split)
    query = query.where(SnapshotExample.snapshot_id == snapshot_id).execution_options(yield_per=_READ_AT_ONCE)
    yield from ((video_id, version_id, split) for video_id, version_id, split in session.execute(query))


def _examples(snapshot_id: int) -> Select:  # type: ignore[type-arg]
    """Select the columns of `ExampleRow`."""
    return (
        select(
            SnapshotExample.position,
            SnapshotExample.video_id,
            SnapshotExample.channel_id,
            SnapshotExample.version_id,
            SnapshotExample.group_id,
            SnapshotExample.split,
            VideoVersion.title,
            VideoVersion.picture_sha256,
            SnapshotExample.negative_position,
        )
        .join(VideoVersion, VideoVersion.id == SnapshotExample.version_id)
        .where(SnapshotExample.snapshot_id == snapshot_id)
    )


def _require_content(session: Session, snapshot_id: int) -> None:
    emptied = _examples(snapshot_id).where(VideoVersion.picture_sha256.is_(None)).subquery()
    if removed := session.scalar(select(func.count()).select_from(emptied)):
        total = sum(snapshot_info(session, snapshot_id).counts.values())
        raise ContentRemoved(
            f"{removed} of {total} titles and thumbnails of snapshot {snapshot_id} were deleted with their "
            "channel, so its runs can't be scored or repeated; run 'thumbtune train' for a new snapshot"
        )


def trained_pairs(session: Session, snapshot_id: int) -> Iterator[tuple[str, str]]:
    """Yield (title, thumbnail digest) of each example in a snapshot's training split, a few at a time in memory."""
    query = (
        select(VideoVersion.title, VideoVersion.picture_sha256)
        .join(SnapshotExample, SnapshotExample.version_id == VideoVersion.id)
        .where(SnapshotExample.snapshot_id == snapshot_id, SnapshotExample.split == "train")
        .execution_options(yield_per=_READ_AT_ONCE)
    )
    # Only emptied versions of removed channels have no thumbnail.
    yield from ((title, picture) for title, picture in session.execute(query) if picture is not None)
