"""How much is new since a run: what decides whether training again is worth it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from store.tables import SnapshotExample, TrainingRun, VideoVersion
from store.training.champions import Scope, scope_of
from store.training.pairs import current_pairs

__all__ = ["NewPairs", "new_pairs_since"]


@dataclass(frozen=True, slots=True)
class NewPairs:
    """Pairs that are still to be tried.

    Args:
        videos: of videos that were in no snapshot of the runs that count.
        changed: of videos that were, with another title or picture.
    """

    videos: int
    changed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.videos + self.changed


def new_pairs_since(
    session: Session, run_id: int | None, channels: Collection[str] = (), *, left_out: Collection[str] = ()
) -> NewPairs:
    """Count the pairs, as they are now, that neither this run was given nor a later one that was to take its place.

    Only runs on the same channels were to take its place: what a narrower one was given is new to this one.

    One that was no better has still been tried, and would end the same again. Runs that nobody compared with it (those
    of `train` and of a sweep) have not: they may have been made with any settings. By content: a title that was changed
    and changed back is not new.

    Args:
        session: any session.
        run_id: the run; None: all pairs are new.
        channels: ids of the channels to count; empty for all.
        left_out: ids of videos that snapshots leave out (see `trainer.data.left_out`): no run will ever see them.
    """
    seen = set() if run_id is None else _seen(session, run_id, tuple(sorted(set(channels))))
    known = {video for video, _title, _picture in seen}
    videos = changed = 0
    for pair in current_pairs(session):
        if pair.video_id in left_out or (channels and pair.channel_id not in channels):
            continue
        if pair.video_id not in known:
            videos += 1
        elif (pair.video_id, pair.title, pair.picture_sha256) not in seen:
            changed += 1
    return NewPairs(videos, changed)


def _seen(session: Session, run_id: int, scope: Scope) -> set[tuple[str, str, str | None]]:
    """(video, title, picture) of all that this run was given, and those after it that were to take its place."""
    asked = and_(TrainingRun.id > run_id, TrainingRun.status == "done", TrainingRun.decision.is_not(None))
    runs = select(TrainingRun.id, TrainingRun.snapshot_id, TrainingRun.settings).where(
        or_(TrainingRun.id == run_id, asked)
    )
    snapshots = [
        snapshot for id_, snapshot, settings in session.execute(runs) if id_ == run_id or scope_of(settings) == scope
    ]
    versions = select(SnapshotExample.version_id).where(SnapshotExample.snapshot_id.in_(snapshots))
    query = select(VideoVersion.video_id, VideoVersion.title, VideoVersion.picture_sha256).where(
        VideoVersion.id.in_(versions)
    )
    return {(video, title, picture) for video, title, picture in session.execute(query)}
