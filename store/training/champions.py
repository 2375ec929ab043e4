"""The champion: the run whose model is in use, and its predecessors. Rows are added, never changed."""

from __future__ import annotations

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from store.tables import Promotion, TrainingRun
from store.training.runs import get_run
from store.types import utc_now

__all__ = ["champion", "champion_ids", "promote", "replace_champion"]


def champion(session: Session) -> TrainingRun | None:
    """Return the run whose model is in use, or None before the first promotion."""
    query = select(TrainingRun).join(Promotion, Promotion.run_id == TrainingRun.id).order_by(Promotion.id.desc())
    return session.scalars(query.limit(1)).first()


def champion_ids(session: Session) -> list[int]:
    """Return the ids of all promoted runs in order of promotion; a run promoted twice occurs twice."""
    return list(session.scalars(select(Promotion.run_id).order_by(Promotion.id)))


def promote(session: Session, run_id: int, reason: str) -> int | None:
    """Make a run the champion; return the previous champion, or None.

    Raises:
        NotFound: the run does not exist.
    """
    get_run(session, run_id)
    _lock(session)
    replaced = champion(session)
    session.add(Promotion(run_id=run_id, promoted_at=utc_now(), reason=reason))
    session.flush()
    return None if replaced is None else replaced.id


def replace_champion(session: Session, run_id: int, old: int | None, reason: str) -> bool:
    """Make a run the champion in place of run `old`; do nothing if `old` is not the champion.

    Args:
        session: a write session.
        run_id: the new champion.
        old: the run that it was compared with; None if there was no champion.
        reason: the reason, with the figures.

    Returns:
        Whether the run is the champion now. False: another run was promoted in the meantime and stays the champion.

    Raises:
        NotFound: the run does not exist.
    """
    _lock(session)
    current = champion(session)
    if (None if current is None else current.id) != old:
        return False
    promote(session, run_id, reason)
    return True


def _lock(session: Session) -> None:
    """Block other promotions between reading the champion and replacing it; readers don't wait.

    On SQLite a write transaction is exclusive from its start.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text("LOCK TABLE promotion IN SHARE ROW EXCLUSIVE MODE"))
