"""Inserts that skip or update existing rows, writes of many rows with one statement, and batches of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Dialect, Table, bindparam, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store.errors import StoreError
from store.tables import Base

__all__ = ["batches", "insert", "insert_for", "insert_rows", "update_rows"]

T = TypeVar("T")

_BOUND_VALUES = 500
"""The number of values in one statement: old SQLite versions allow at most 999."""


def batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split values into batches that every database accepts in one statement."""
    return (values[start : start + _BOUND_VALUES] for start in range(0, len(values), _BOUND_VALUES))


def insert(session: Session, model: type[Base]) -> sqlite.Insert | postgresql.Insert | Any:
    """Return an INSERT into the model's table with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return insert_for(session.get_bind().dialect, model)


def insert_for(dialect: Dialect, model: type[Base]) -> sqlite.Insert | postgresql.Insert | Any:
    """Return `insert` for one dialect.

    Both dialects have the same methods, but SQLAlchemy gives each its own class.
    """
    return postgresql.insert(model) if dialect.name == "postgresql" else sqlite.insert(model)


def insert_rows(
    session: Session,
    model: type[Base],
    rows: Sequence[dict[str, Any]],
    *,
    skip_known: bool = False,
    mend_known: tuple[str, ...] = (),
) -> None:
    """Insert rows, each {column: value}, all with the same columns.

    Args:
        session: its objects are not refreshed.
        model: the table.
        rows: the rows; omitted columns get the table's defaults.
        skip_known: skip rows that conflict with existing rows instead of failing.
        mend_known: like `skip_known`, but an existing row that differs in one of these columns gets the new values.

    Raises:
        StoreError: when the session ends, if the database rejected a row or a time has no time zone.
    """
    if not rows:
        return
    statement = insert(session, model).inline()  # no row is returned
    if mend_known:
        table, new = model.__table__, statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={name: new[name] for name in mend_known},
            where=or_(*(table.c[name].is_distinct_from(new[name]) for name in mend_known)),
        )
    elif skip_known:
        statement = statement.on_conflict_do_nothing()
    session.flush()
    session.connection().execute(statement, rows)


def update_rows(session: Session, model: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Update rows by their `id`. See `insert_rows`.

    Raises:
        StoreError: a row does not exist.
    """
    if not rows:
        return
    table = model.__table__
    assert isinstance(table, Table)
    # The parameters' names select the columns to set. SQLAlchemy reserves those names, so the id needs another name.
    statement = update(table).where(table.c.id == bindparam("of_row"))
    parameters = [{"of_row" if name == "id" else name: value for name, value in row.items()} for row in rows]
    session.flush()
    done = session.connection().execute(statement, parameters)
    if done.rowcount != len(rows):
        raise StoreError(f"updated {done.rowcount} of {len(rows)} rows in {table.name}; please report this")
