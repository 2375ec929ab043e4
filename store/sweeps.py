"""Sweeps: searches over settings, whose trials are training runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.errors import NotFound
from store.tables import Sweep, TrainingRun
from store.types import utc_now

__all__ = ["end_sweep", "get_sweep", "mark_sweeps_interrupted", "start_sweep", "sweep_runs"]


def start_sweep(session: Session, settings: dict[str, Any], host: str, pid: int) -> int:
    """Insert a sweep with status `running`; return its id."""
    sweep = Sweep(status="running", started_at=utc_now(), settings=settings, host=host, pid=pid)
    session.add(sweep)
    session.flush()
    return sweep.id


def get_sweep(session: Session, sweep_id: int) -> Sweep:
    """One sweep.

    Raises:
        NotFound: there is none with this id.
    """
    sweep = session.get(Sweep, sweep_id)
    if sweep is None:
        raise NotFound(f"there is no sweep {sweep_id}; the table sweep has those that are")
    return sweep


def end_sweep(session: Session, sweep_id: int, status: str, error: str | None = None) -> None:
    """Close a sweep."""
    sweep = get_sweep(session, sweep_id)
    sweep.status, sweep.error, sweep.finished_at = status, error, utc_now()


def mark_sweeps_interrupted(session: Session, host: str, is_alive: Callable[[int, datetime], bool]) -> list[int]:
    """Mark this host's `running` sweeps whose process is gone as `interrupted`; return their ids.

    Args:
        session: a write session.
        host: this host's name; sweeps of other hosts can't be judged from here.
        is_alive: whether the process with this id, which started a sweep at this time, still runs.
    """
    query = select(Sweep).where(Sweep.status == "running", Sweep.host == host)
    dead = [sweep for sweep in session.scalars(query) if not is_alive(sweep.pid, sweep.started_at)]
    for sweep in dead:
        sweep.status = "interrupted"
        sweep.error = "the process ended without a word (killed, or the machine stopped)"
        sweep.finished_at = utc_now()
    return [sweep.id for sweep in dead]


def sweep_runs(session: Session, sweep_id: int) -> Sequence[TrainingRun]:
    """A sweep's runs, oldest first."""
    return session.scalars(select(TrainingRun).where(TrainingRun.sweep_id == sweep_id).order_by(TrainingRun.id)).all()
