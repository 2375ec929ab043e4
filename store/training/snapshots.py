"""Snapshots: immutable datasets, stored once per content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from store.errors import ContentRemoved, NotFound
from store.tables import Snapshot, SnapshotExample, Video, VideoVersion
from store.types import can_be_id, utc_now

__all__ = [
    "ExampleRow",
    "SnapshotInfo",
    "SnapshotSpan",
    "load_examples",
    "newest_snapshot",
    "save_snapshot",
    "snapshot_info",
    "snapshot_span",
    "trained_pairs",
]


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
    if examples:
        session.execute(insert(SnapshotExample), [_as_row(row.id, example) for example in examples])
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
    query = (
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
        .order_by(SnapshotExample.position)
    )
    rows = session.execute(query).all()
    if removed := sum(row.picture_sha256 is None for row in rows):
        raise ContentRemoved(
            f"{removed} of {len(rows)} titles and thumbnails of snapshot {snapshot_id} were deleted with their "
            "channel, so its runs can't be scored or repeated; run 'thumbtune train' for a new snapshot"
        )
    return [ExampleRow(*row) for row in rows]  # type: ignore[arg-type]


def trained_pairs(session: Session, snapshot_id: int) -> list[tuple[str, str]]:
    """Return (title, thumbnail digest) of each example in a snapshot's training split."""
    query = (
        select(VideoVersion.title, VideoVersion.picture_sha256)
        .join(SnapshotExample, SnapshotExample.version_id == VideoVersion.id)
        .where(SnapshotExample.snapshot_id == snapshot_id, SnapshotExample.split == "train")
    )
    # Only emptied versions of removed channels have no thumbnail.
    return [(title, picture) for title, picture in session.execute(query) if picture is not None]
