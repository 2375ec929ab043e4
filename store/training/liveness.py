"""Whether the process of a run or a sweep that reads `running` still works on it.

On its own machine the process itself tells. Of any other machine, and of this one before it was last started, only the
signs of life tell: no name tells two machines apart for certain (host names are shared, and images and clones
share machine ids), so that a process that can't be looked at counts as gone only when it was silent for long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store.tables import Sweep, TrainingRun
from store.types import utc_now
from store.youtube import LEASE

__all__ = ["HasEnded", "clock", "heard_at", "mark_interrupted_rows", "say_alive"]

HasEnded = Callable[[str, int, datetime], bool]
"""Whether the process is known to be gone that was at work on this host, with this number, at this time."""

_ERROR = "the process ended without a word (killed, or the machine stopped)"


def heard_at(row: TrainingRun | Sweep) -> datetime:
    """When a row's process was last known to be at work."""
    return row.seen_at or row.started_at


def mark_interrupted_rows(session: Session, model: type[TrainingRun | Sweep], has_ended: HasEnded) -> list[int]:
    """Mark `running` rows as `interrupted` whose process is gone, or was silent for `LEASE`; return their ids.

    Rows without a sign of life, of an earlier version, are judged by their process alone.
    """
    silent_since = clock(session) - LEASE
    query = select(model).where(model.status == "running")
    rows = cast("Sequence[TrainingRun | Sweep]", session.scalars(query).all())
    dead = [
        row.id
        for row in rows
        if has_ended(row.host, row.pid, heard_at(row)) or (row.seen_at is not None and row.seen_at < silent_since)
    ]
    # On PostgreSQL it may have ended since it was read, and its process after that.
    still = update(model).where(model.id.in_(dead), model.status == "running")
    marked = still.values(status="interrupted", error=_ERROR, finished_at=utc_now()).returning(model.id)
    return sorted(session.scalars(marked))


def say_alive(session: Session, model: type[TrainingRun | Sweep], row_id: int) -> None:
    """Note that a run or sweep still runs; one that another process took for dead meanwhile is `running` again."""
    of_row = update(model).where(model.id == row_id)
    session.execute(of_row.values(seen_at=clock(session)))
    wrongly = of_row.where(model.status == "interrupted", model.error == _ERROR)
    session.execute(wrongly.values(status="running", error=None, finished_at=None))


def clock(session: Session) -> datetime:
    """The time, by one clock for all machines where there is one: the server's."""
    if session.get_bind().dialect.name == "sqlite":
        return utc_now()
    return session.scalars(select(func.now())).one()
