"""How much is new since a run: what decides whether training again is worth it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, case, exists, select
from sqlalchemy.orm import Session, aliased

from store.pairs import current_pairs
from store.tables import SnapshotExample, TrainingRun, Video, VideoVersion

__all__ = ["NewPairs", "new_pairs_since"]


@dataclass(frozen=True, slots=True)
class NewPairs:
    """Pairs that no finished run has seen.

    Args:
        videos: of videos that were in none of those runs' snapshots.
        changed: of videos that were, with another title or picture.
    """

    videos: int
    changed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.videos + self.changed


def new_pairs_since(session: Session, run_id: int | None, channels: Collection[str] = ()) -> NewPairs:
    """Count the pairs, as they are now, that neither this run nor a later finished one was given.

    Later runs count too: one that was no better than the champion has still been tried, and would end the same again.
    By content: a title that was changed and changed back is not new. A pair that snapshots leave out (its group
    is more held out than itself, see `trainer.splits.group_homes`) is not either: no run will ever see it.

    Args:
        session: any session.
        run_id: the run; None: all pairs are new.
        channels: ids of the channels to count; empty for all.
    """
    seen = set() if run_id is None else _seen(session, run_id)
    known = {video for video, _title, _picture in seen}
    left_out = set(session.scalars(_left_out()))
    videos = changed = 0
    for pair in current_pairs(session):
        if pair.video_id in left_out or (channels and pair.channel_id not in channels):
            continue
        if pair.video_id not in known:
            videos += 1
        elif (pair.video_id, pair.title, pair.picture_sha256) not in seen:
            changed += 1
    return NewPairs(videos, changed)


def _seen(session: Session, run_id: int) -> set[tuple[str, str, str | None]]:
    """(video, title, picture) of all that the finished runs from this one on were given; a sweep's trials apart."""
    snapshots = select(TrainingRun.snapshot_id).where(
        TrainingRun.id >= run_id, TrainingRun.status == "done", TrainingRun.trial.is_(None)
    )
    versions = select(SnapshotExample.version_id).where(SnapshotExample.snapshot_id.in_(snapshots))
    query = select(VideoVersion.video_id, VideoVersion.title, VideoVersion.picture_sha256).where(
        VideoVersion.id.in_(versions)
    )
    return {(video, title, picture) for video, title, picture in session.execute(query)}


def _left_out() -> Select[str]:
    """Videos in a split that is less held out than that of another video of their group."""
    other = aliased(Video)
    held = exists().where(other.group_id == Video.group_id, _held_out(other) > _held_out(Video))
    return select(Video.id).where(Video.split.is_not(None), held)


def _held_out(video: type[Video]) -> ColumnElement[int]:
    return case({"train": 0, "valid": 1, "test": 2}, value=video.split)
