"""Count pairs that are new since a run, to decide whether to train again."""

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
    """Numbers of pairs that the relevant runs have not seen.

    Args:
        videos: pairs of videos that were in none of these runs' snapshots.
        changed: pairs of videos that were in a snapshot with another title or thumbnail.
    """

    videos: int
    changed: int

    @property
    def total(self) -> int:
        """The sum of both."""
        return self.videos + self.changed


def new_pairs_since(
    session: Session, run_id: int | None, channels: Collection[str] = (), *, left_out: Collection[str] = ()
) -> NewPairs:
    """Count the current pairs that neither this run nor a later candidate for its replacement has seen.

    A candidate that was not better counts, because training on the same pairs again would give the same result. Only
    runs on the same channels are candidates. Runs that were not compared with this run (those of `train` and of sweeps)
    do not count, because their settings may differ. Pairs are compared by content: a title that was changed and changed
    back is not new.

    Args:
        session: any session.
        run_id: the run; None: all pairs are new.
        channels: ids of the channels to count; empty for all.
        left_out: ids of videos that snapshots exclude (see `trainer.data.left_out`).
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
    """(video id, title, thumbnail digest) of all pairs in the snapshots of the relevant runs."""
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
