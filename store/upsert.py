"""Inserts that leave existing rows alone, in the words of either database."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store.tables import Base

__all__ = ["insert"]


def insert(session: Session, model: type[Base]) -> sqlite.Insert | postgresql.Insert | Any:
    """An INSERT into the model's table that knows `on_conflict_do_nothing` and `on_conflict_do_update`.

    Both dialects spell them alike, but SQLAlchemy gives each its own class.
    """
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(model)
    return sqlite.insert(model)
