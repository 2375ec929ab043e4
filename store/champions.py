"""The champion: the run whose model is in use, and every one that was. Rows are added, never changed."""

from __future__ import annotations

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from store.runs import get_run
from store.tables import Promotion, TrainingRun
from store.types import utc_now

__all__ = ["champion", "champion_ids", "promote", "replace_champion"]


def champion(session: Session) -> TrainingRun | None:
    """The run whose model is in use, or None before the first promotion."""
    query = select(TrainingRun).join(Promotion, Promotion.run_id == TrainingRun.id).order_by(Promotion.id.desc())
    return session.scalars(query.limit(1)).first()


def champion_ids(session: Session) -> list[int]:
    """The runs that ever came into use, in that order; one that came back is there again."""
    return list(session.scalars(select(Promotion.run_id).order_by(Promotion.id)))


def promote(session: Session, run_id: int, reason: str) -> int | None:
    """Take a run's model into use from now on; return the run that was in use until now, or None.

    Raises:
        NotFound: there is no such run.
    """
    get_run(session, run_id)
    _lock(session)
    replaced = champion(session)
    session.add(Promotion(run_id=run_id, promoted_at=utc_now(), reason=reason))
    session.flush()
    return None if replaced is None else replaced.id


def replace_champion(session: Session, run_id: int, old: int | None, reason: str) -> bool:
    """Take a run's model into use instead of that of run `old`; not if `old` is no longer, or not at all, in use.

    Args:
        session: a write session.
        run_id: the new champion.
        old: what it was compared with; None: it is the first.
        reason: why, with the figures.

    Returns:
        Whether it is in use now. False: another run came into use meanwhile, and stays.

    Raises:
        NotFound: there is no such run.
    """
    _lock(session)
    current = champion(session)
    if (None if current is None else current.id) != old:
        return False
    promote(session, run_id, reason)
    return True


def _lock(session: Session) -> None:
    """Let nobody promote between a look at the champion and what follows from it; readers don't wait.

    On SQLite a write transaction is alone from its start.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text("LOCK TABLE promotion IN SHARE ROW EXCLUSIVE MODE"))
