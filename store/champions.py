"""The champion: the run whose model is in use, and every one that was. Rows are added, never changed."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.runs import get_run
from store.tables import Promotion, TrainingRun
from store.types import utc_now

__all__ = ["champion", "champion_ids", "promote"]


def champion(session: Session) -> TrainingRun | None:
    """The run whose model is in use, or None before the first promotion."""
    query = select(TrainingRun).join(Promotion, Promotion.run_id == TrainingRun.id).order_by(Promotion.id.desc())
    return session.scalars(query.limit(1)).first()


def champion_ids(session: Session) -> list[int]:
    """The runs that ever came into use, in that order; one that came back is there again."""
    return list(session.scalars(select(Promotion.run_id).order_by(Promotion.id)))


def promote(session: Session, run_id: int, reason: str) -> None:
    """Take a run's model into use from now on.

    Raises:
        NotFound: there is no such run.
    """
    get_run(session, run_id)
    session.add(Promotion(run_id=run_id, promoted_at=utc_now(), reason=reason))
