"""Training runs and their results: written while they run, read by `runs`, `evaluate` and `export`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.orm import Session

from store.errors import NotFound
from store.tables import Evaluation, Rank, TrainingRun, TrainingStep, VideoVersion
from store.tables import SnapshotExample as Example
from store.training.liveness import HasEnded, heard_at, mark_interrupted_rows
from store.types import can_be_id, utc_now

__all__ = [
    "add_evaluations",
    "add_ranks",
    "add_steps",
    "end_run",
    "end_run_at_work",
    "evaluations",
    "get_run",
    "list_runs",
    "lock_runs",
    "mark_interrupted",
    "newest_done_run",
    "ranks",
    "run_at_work",
    "snapshot_pairs",
    "start_run",
    "steps",
    "update_run",
]


def start_run(session: Session, **columns: Any) -> int:
    """Insert a run with status `running`; `columns` are those of `TrainingRun` known at the start. Return its id."""
    now = utc_now()
    run = TrainingRun(status="running", started_at=now, seen_at=now, **columns)
    session.add(run)
    session.flush()
    return run.id


def update_run(session: Session, run_id: int, **columns: Any) -> None:
    """Set columns of a run as they become known."""
    session.execute(update(TrainingRun).where(TrainingRun.id == run_id).values(**columns))


def end_run(session: Session, run_id: int, status: str, **columns: Any) -> None:
    """Close a run: its status, the time, and whatever else is known."""
    update_run(session, run_id, **_end(get_run(session, run_id), status), **columns)


def end_run_at_work(session: Session, run_id: int, status: str, **columns: Any) -> str:
    """Close a run that is `running`, as `end_run` does; one that has ended stays as it is. Return what it ended as."""
    run = get_run(session, run_id)
    still = update(TrainingRun).where(TrainingRun.id == run_id, TrainingRun.status == "running")
    session.execute(still.values(**_end(run, status), **columns))
    session.refresh(run)
    return run.status


def _end(run: TrainingRun, status: str) -> dict[str, Any]:
    now = utc_now()
    return {"status": status, "finished_at": now, "seconds": (now - run.started_at).total_seconds()}


def mark_interrupted(session: Session, has_ended: HasEnded) -> list[int]:
    """Mark `running` runs as `interrupted` whose process is gone, or was silent for long; return their ids.

    Args:
        session: a write session.
        has_ended: whether the process is known to be gone that was at work on a run on this host, with this number, at
            this time.
    """
    return mark_interrupted_rows(session, TrainingRun, has_ended)


def run_at_work(session: Session, lives_here: Callable[[str, int, datetime], bool]) -> TrainingRun | None:
    """The oldest run that is `running` in a living process of this machine, or None; a sweep's trials apart.

    Args:
        session: any session.
        lives_here: whether the process lives on this machine that was at work on a run on this host, with this number,
            at this time.
    """
    query = (
        select(TrainingRun).where(TrainingRun.status == "running", TrainingRun.trial.is_(None)).order_by(TrainingRun.id)
    )
    return next((run for run in session.scalars(query) if lives_here(run.host, run.pid, heard_at(run))), None)


def lock_runs(session: Session) -> None:
    """Let nobody start a run until this write transaction ends; on SQLite it is alone from its start."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text("LOCK TABLE training_run IN SHARE ROW EXCLUSIVE MODE"))


def add_steps(session: Session, run_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Append optimiser steps: {"step", "epoch", "loss", "learning_rate"}."""
    if rows:
        session.execute(insert(TrainingStep), [{"run_id": run_id, **row} for row in rows])


def add_evaluations(session: Session, run_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Append metrics; keys are the columns of `Evaluation` but `run_id`."""
    if rows:
        session.execute(insert(Evaluation), [{"run_id": run_id, **row} for row in rows])


def add_ranks(session: Session, run_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Append ranks; keys are the columns of `Rank` but `run_id`."""
    if rows:
        session.execute(insert(Rank), [{"run_id": run_id, **row} for row in rows])


def get_run(session: Session, run_id: int) -> TrainingRun:
    """One run.

    Raises:
        NotFound: there is none with this id.
    """
    run = session.get(TrainingRun, run_id) if can_be_id(run_id) else None
    if run is None:
        raise NotFound(f"there is no run {run_id}; 'thumbtune runs' lists them")
    return run


def list_runs(session: Session) -> list[TrainingRun]:
    """All runs, oldest first."""
    return list(session.scalars(select(TrainingRun).order_by(TrainingRun.id)))


def newest_done_run(session: Session) -> TrainingRun | None:
    """The run that ended `done` last and kept its model, or None: a sweep's trials keep none."""
    query = (
        select(TrainingRun)
        .where(TrainingRun.status == "done", TrainingRun.trial.is_(None))
        .order_by(TrainingRun.id.desc())
        .limit(1)
    )
    return session.scalars(query).first()


def steps(session: Session, run_id: int) -> list[TrainingStep]:
    """A run's optimiser steps in order."""
    query = select(TrainingStep).where(TrainingStep.run_id == run_id).order_by(TrainingStep.step)
    return list(session.scalars(query))


def evaluations(session: Session, run_id: int) -> list[Evaluation]:
    """A run's metrics, in a fixed order."""
    query = (
        select(Evaluation)
        .where(Evaluation.run_id == run_id)
        .order_by(Evaluation.model, Evaluation.scope, Evaluation.split, Evaluation.direction, Evaluation.metric)
    )
    return list(session.scalars(query))


def ranks(session: Session, run_id: int, model: str, direction: str, split: str) -> dict[str, Rank]:
    """{video id: rank row} of one model of one run, on one split."""
    query = select(Rank).where(
        Rank.run_id == run_id, Rank.model == model, Rank.direction == direction, Rank.split == split
    )
    return {row.video_id: row for row in session.scalars(query)}


def snapshot_pairs(session: Session, snapshot_id: int, videos: Iterable[str]) -> dict[str, tuple[str, str]]:
    """{video id: (title, digest of the picture) in this snapshot} for those of `videos` that are in it.

    Of a removed channel: an empty title, and the version's number in place of a digest.
    """
    wanted = set(videos)
    query = (
        select(Example.video_id, VideoVersion.title, VideoVersion.picture_sha256, VideoVersion.id)
        .join(VideoVersion, VideoVersion.id == Example.version_id)
        .where(Example.snapshot_id == snapshot_id)
    )
    rows = session.execute(query)
    return {
        video: (title, picture or f"version {version}") for video, title, picture, version in rows if video in wanted
    }
