"""Training runs and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Select, func, insert, select, text, update
from sqlalchemy.orm import Session

from store.errors import NotFound
from store.tables import Base, Evaluation, Rank, TestLook, TrainingRun, TrainingStep, VideoVersion
from store.tables import SnapshotExample as Example
from store.training.liveness import HasEnded, heard_at, mark_interrupted_rows
from store.types import can_be_id, utc_now

__all__ = [
    "add_evaluations",
    "add_ranks",
    "add_steps",
    "add_test_look",
    "count_test_looks",
    "done_runs",
    "end_run",
    "end_run_at_work",
    "evaluations",
    "fail_runs_of",
    "get_run",
    "hidden_runs",
    "hide_run",
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


_ADDED_AT_ONCE = 10_000
_READ_AT_ONCE = 2000


def start_run(session: Session, **columns: Any) -> int:
    """Insert a run with status `running` and the columns of `TrainingRun` known at the start; return its id."""
    now = utc_now()
    run = TrainingRun(status="running", started_at=now, seen_at=now, **columns)
    session.add(run)
    session.flush()
    return run.id


def update_run(session: Session, run_id: int, **columns: Any) -> None:
    """Set columns of a run."""
    session.execute(update(TrainingRun).where(TrainingRun.id == run_id).values(**columns))


def end_run(session: Session, run_id: int, status: str, **columns: Any) -> None:
    """Close a run: set its status, end time and other columns."""
    update_run(session, run_id, **_end(get_run(session, run_id), status), **columns)


def end_run_at_work(session: Session, run_id: int, status: str, **columns: Any) -> str:
    """Close a run like `end_run`, unless it has already ended; return its final status."""
    run = get_run(session, run_id)
    still = update(TrainingRun).where(TrainingRun.id == run_id, TrainingRun.status == "running")
    session.execute(still.values(**_end(run, status), **columns))
    session.refresh(run)
    return run.status


def fail_runs_of(session: Session, host: str, pid: int, process_start: int | None, error: str) -> int:
    """Close the runs of a process that has ended without closing them, as `failed`; return how many.

    Args:
        session: a write transaction.
        host: the process's machine, as recorded in its runs.
        pid: the process id.
        process_start: when the process started.
        error: the reason.
    """
    query = select(TrainingRun.id).where(
        TrainingRun.status == "running",
        TrainingRun.host == host,
        TrainingRun.pid == pid,
        TrainingRun.process_start == process_start,
    )
    found = session.scalars(query).all()
    for run_id in found:
        end_run_at_work(session, run_id, "failed", error=error)
    return len(found)


def _end(run: TrainingRun, status: str) -> dict[str, Any]:
    now = utc_now()
    return {"status": status, "finished_at": now, "seconds": (now - run.started_at).total_seconds()}


def mark_interrupted(session: Session, has_ended: HasEnded) -> list[int]:
    """Mark `running` runs as `interrupted` whose process is gone or was silent for `LEASE`; return their ids."""
    return mark_interrupted_rows(session, TrainingRun, has_ended)


def run_at_work(session: Session, lives_here: Callable[[str, int, datetime, int | None], bool]) -> TrainingRun | None:
    """Return the oldest run that a process of this machine is working on, or None. Trials of sweeps are ignored.

    Args:
        session: any session.
        lives_here: called with a host, a process id, a time at which the process was running, and its start. Returns
            whether the process is still running on this machine.
    """
    query = (
        select(TrainingRun).where(TrainingRun.status == "running", TrainingRun.trial.is_(None)).order_by(TrainingRun.id)
    )
    return next(
        (run for run in session.scalars(query) if lives_here(run.host, run.pid, heard_at(run), run.process_start)), None
    )


def lock_runs(session: Session) -> None:
    """Block the start of other runs until this write transaction ends.

    On SQLite a write transaction is exclusive from its start.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text("LOCK TABLE training_run IN SHARE ROW EXCLUSIVE MODE"))


def add_steps(session: Session, run_id: int, rows: Iterable[dict[str, Any]]) -> None:
    """Append optimiser steps: {"step", "epoch", "loss", "learning_rate"}."""
    _add(session, TrainingStep, run_id, rows)


def add_evaluations(session: Session, run_id: int, rows: Iterable[dict[str, Any]]) -> None:
    """Append metrics; keys are the columns of `Evaluation` without `run_id`."""
    _add(session, Evaluation, run_id, rows)


def add_ranks(session: Session, run_id: int, rows: Iterable[dict[str, Any]]) -> None:
    """Append ranks; keys are the columns of `Rank` without `run_id`."""
    _add(session, Rank, run_id, rows)


def _add(session: Session, table: type[Base], run_id: int, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows in batches, so that an iterator of very many is never in memory as a whole."""
    rows = iter(rows)
    while some := list(islice(rows, _ADDED_AT_ONCE)):
        session.execute(insert(table), [{"run_id": run_id, **row} for row in some])


def get_run(session: Session, run_id: int) -> TrainingRun:
    """Return a run.

    Raises:
        NotFound: the run does not exist.
    """
    run = session.get(TrainingRun, run_id) if can_be_id(run_id) else None
    if run is None:
        raise NotFound(f"there is no run {run_id}; 'thumbtune runs' lists them")
    return run


def newest_done_run(session: Session) -> TrainingRun | None:
    """Return the newest run that is done and has a model, or None."""
    return session.scalars(_done().order_by(TrainingRun.id.desc()).limit(1)).first()


def done_runs(session: Session) -> list[TrainingRun]:
    """Return the runs that are done and have a model, oldest first."""
    return list(session.scalars(_done().order_by(TrainingRun.id)))


def _done() -> Select[TrainingRun]:
    """Trials of sweeps keep no model."""
    return select(TrainingRun).where(TrainingRun.status == "done", TrainingRun.trial.is_(None))


def hidden_runs(session: Session) -> set[int]:
    """Return the ids of the runs that `thumbtune runs` does not list."""
    return set(session.scalars(select(TrainingRun.id).where(TrainingRun.hidden_at.is_not(None))))


def hide_run(session: Session, run_id: int, *, hidden: bool = True) -> None:
    """Hide a run from the list of `thumbtune runs`, or show it again.

    Raises:
        NotFound: the run does not exist.
    """
    get_run(session, run_id)
    update_run(session, run_id, hidden_at=utc_now() if hidden else None)


def steps(session: Session, run_id: int) -> list[TrainingStep]:
    """Return a run's optimiser steps in order."""
    query = select(TrainingStep).where(TrainingStep.run_id == run_id).order_by(TrainingStep.step)
    return list(session.scalars(query))


def evaluations(session: Session, run_id: int) -> list[Evaluation]:
    """Return a run's metrics in a fixed order."""
    query = (
        select(Evaluation)
        .where(Evaluation.run_id == run_id)
        .order_by(Evaluation.model, Evaluation.scope, Evaluation.split, Evaluation.direction, Evaluation.metric)
    )
    return list(session.scalars(query))


def ranks(session: Session, run_id: int, model: str, direction: str, split: str) -> dict[str, Rank]:
    """Return {video id: rank row} of one model of a run on one split."""
    query = select(Rank).where(
        Rank.run_id == run_id, Rank.model == model, Rank.direction == direction, Rank.split == split
    )
    return {row.video_id: row for row in session.scalars(query)}


def snapshot_pairs(session: Session, snapshot_id: int, videos: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return {video id: (title, thumbnail digest) in the snapshot} for those of `videos` that it contains.

    If the channel was removed, the title is empty and the version's id replaces the digest.
    """
    requested = set(videos)
    query = (
        select(Example.video_id, VideoVersion.title, VideoVersion.picture_sha256, VideoVersion.id)
        .join(VideoVersion, VideoVersion.id == Example.version_id)
        .where(Example.snapshot_id == snapshot_id)
        .execution_options(yield_per=_READ_AT_ONCE)
    )
    rows = session.execute(query)
    return {
        video: (title, picture or f"version {version}") for video, title, picture, version in rows if video in requested
    }


def add_test_look(session: Session, model: str, snapshot_id: int, run_id: int | None = None) -> int:
    """Record that a model was scored on the test split; return the number of looks, this one included.

    Args:
        session: a write session.
        model: `tuned` or `base` for a model of a run, else the model's name.
        snapshot_id: the snapshot.
        run_id: the run that the model belongs to, or None.
    """
    session.add(TestLook(looked_at=utc_now(), model=model, run_id=run_id, snapshot_id=snapshot_id))
    session.flush()
    return count_test_looks(session)


def count_test_looks(session: Session) -> int:
    """How often a model was scored on the test split of any snapshot in this store."""
    return session.scalar(select(func.count()).select_from(TestLook)) or 0
