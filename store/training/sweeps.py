"""Sweeps: searches over settings, whose trials are training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from store.errors import NotFound
from store.tables import Evaluation, Sweep, TrainingRun
from store.training.liveness import HasEnded, mark_interrupted_rows
from store.training.runs import add_evaluations, add_steps
from store.types import can_be_id, utc_now

__all__ = [
    "TrialRun",
    "TrialScore",
    "add_trial_runs",
    "end_sweep",
    "get_sweep",
    "mark_sweeps_interrupted",
    "reopen_sweep",
    "start_sweep",
    "sweep_runs",
    "trial_scores",
    "winner_run",
]


@dataclass(frozen=True)
class TrialRun:
    """A trial's finished run, to be inserted.

    Args:
        columns: values of its row in `training_run`, except `sweep_id` and `trial`.
        steps: as for `store.training.runs.add_steps`.
        evaluations: as for `store.training.runs.add_evaluations`.
    """

    columns: Mapping[str, Any]
    steps: Sequence[dict[str, Any]] = field(default_factory=list)
    evaluations: Sequence[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TrialScore:
    """The result of one run of a trial: thumbnail to title, over all channels, on the valid split.

    Args:
        run_id, trial: the run's id and the trial's number.
        seed: the run's seed.
        status: `done`, or `failed` (then the metrics are None).
        settings: all settings.
        recall_at_1, mrr: of the tuned model.
        n: number of ranked rows.
        snapshot_id: the snapshot that it was trained on.
    """

    run_id: int
    trial: int
    seed: int
    status: str
    settings: dict[str, Any]
    recall_at_1: float | None
    mrr: float | None
    n: int | None
    snapshot_id: int | None


def start_sweep(
    session: Session, settings: dict[str, Any], host: str, pid: int, *, process_start: int | None = None
) -> int:
    """Insert a sweep with status `running`; return its id."""
    now = utc_now()
    sweep = Sweep(status="running", started_at=now, seen_at=now, settings=settings, host=host, pid=pid)
    sweep.process_start = process_start
    session.add(sweep)
    session.flush()
    return sweep.id


def get_sweep(session: Session, sweep_id: int) -> Sweep:
    """Return a sweep.

    Raises:
        NotFound: the sweep does not exist.
    """
    sweep = session.get(Sweep, sweep_id) if can_be_id(sweep_id) else None
    if sweep is None:
        raise _not_there(sweep_id)
    return sweep


def _not_there(sweep_id: int) -> NotFound:
    return NotFound(f"there is no sweep {sweep_id}; the table sweep lists all sweeps")


def reopen_sweep(
    session: Session,
    sweep_id: int,
    settings: dict[str, Any],
    host: str,
    pid: int,
    *,
    process_start: int | None = None,
) -> bool:
    """Reopen a stopped sweep in this process; return False without changes if it is running or done.

    Sets a new start time, because the check whether a process is alive compares it with the process's start time.

    Raises:
        NotFound: the sweep does not exist.
    """
    # If two processes resume a sweep at the same time, the second process finds it running.
    sweep = session.get(Sweep, sweep_id, with_for_update=True) if can_be_id(sweep_id) else None
    if sweep is None:
        raise _not_there(sweep_id)
    if sweep.status not in ("interrupted", "failed"):
        return False
    sweep.status, sweep.error, sweep.finished_at = "running", None, None
    sweep.started_at = sweep.seen_at = utc_now()
    sweep.settings, sweep.host, sweep.pid, sweep.process_start = settings, host, pid, process_start
    return True


def end_sweep(session: Session, sweep_id: int, status: str, error: str | None = None) -> None:
    """Record the end of a sweep."""
    sweep = get_sweep(session, sweep_id)
    sweep.status, sweep.error, sweep.finished_at = status, error, utc_now()


def mark_sweeps_interrupted(session: Session, has_ended: HasEnded) -> list[int]:
    """Mark `running` sweeps as `interrupted` whose process is gone or was silent for `LEASE`; return their ids."""
    return mark_interrupted_rows(session, Sweep, has_ended)


def add_trial_runs(session: Session, sweep_id: int, trial: int, runs: Sequence[TrialRun]) -> None:
    """Insert a trial's runs with their steps and evaluations."""
    for run in runs:
        row = TrainingRun(sweep_id=sweep_id, trial=trial, **run.columns)
        session.add(row)
        session.flush()
        add_steps(session, row.id, run.steps)
        add_evaluations(session, row.id, run.evaluations)


def sweep_runs(session: Session, sweep_id: int) -> Sequence[TrainingRun]:
    """Return a sweep's runs, oldest first."""
    return session.scalars(select(TrainingRun).where(TrainingRun.sweep_id == sweep_id).order_by(TrainingRun.id)).all()


def trial_scores(session: Session, sweep_id: int) -> list[TrialScore]:
    """Return the results of all runs of a sweep's trials, ordered by trial and run."""
    recall, mrr = aliased(Evaluation), aliased(Evaluation)
    query = select(
        TrainingRun.id,
        TrainingRun.trial,
        TrainingRun.seed,
        TrainingRun.status,
        TrainingRun.settings,
        recall.value,
        mrr.value,
        recall.n,
        TrainingRun.snapshot_id,
    ).where(TrainingRun.sweep_id == sweep_id, TrainingRun.trial.is_not(None))
    for figure, metric in ((recall, "recall@1"), (mrr, "mrr")):
        query = query.outerjoin(
            figure,
            (figure.run_id == TrainingRun.id)
            & (figure.model == "tuned")
            & (figure.scope == "all")
            & (figure.split == "valid")
            & (figure.direction == "thumbnail_to_title")
            & (figure.metric == metric),
        )
    rows = session.execute(query.order_by(TrainingRun.trial, TrainingRun.id))
    return [TrialScore(*row) for row in rows]


def winner_run(session: Session, sweep_id: int) -> TrainingRun | None:
    """Return the finished run with the sweep's best settings, or None."""
    query = select(TrainingRun).where(
        TrainingRun.sweep_id == sweep_id, TrainingRun.trial.is_(None), TrainingRun.status == "done"
    )
    return session.scalars(query.order_by(TrainingRun.id.desc()).limit(1)).first()
