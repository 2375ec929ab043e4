"""Inserts that skip or update existing rows, for either database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store.tables import Base

__all__ = ["insert", "insert_for"]


def insert(session: Session, model: type[Base]) -> sqlite.Insert | postgresql.Insert | Any:
    """Return an INSERT into the model's table with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return insert_for(session.get_bind().dialect, model)


def insert_for(dialect: Dialect, model: type[Base]) -> sqlite.Insert | postgresql.Insert | Any:
    """Return `insert` for one dialect.

    Both dialects have the same methods, but SQLAlchemy gives each its own class.
    """
    return postgresql.insert(model) if dialect.name == "postgresql" else sqlite.insert(model)
