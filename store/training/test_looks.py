"""How often the test split was looked at: each look makes its figure a little less of a surprise."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.tables import TestLook
from store.types import utc_now

__all__ = ["add_test_look", "count_test_looks"]


def add_test_look(session: Session, model: str, snapshot_id: int, run_id: int | None = None) -> int:
    """Record that a model was scored on the test split; return the number of looks, this one included.

    Args:
        session: of a transaction that writes.
        model: `tuned` or `base` of a run, else the model's name.
        snapshot_id: whose test split.
        run_id: the run whose model it was, or None.
    """
    session.add(TestLook(looked_at=utc_now(), model=model, run_id=run_id, snapshot_id=snapshot_id))
    session.flush()
    return count_test_looks(session)


def count_test_looks(session: Session) -> int:
    """How often a model was scored on the test split of any snapshot in this store."""
    return session.scalar(select(func.count()).select_from(TestLook)) or 0
