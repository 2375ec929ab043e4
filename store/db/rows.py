"""Insert or update many rows with one statement; all rows have the same columns.

SQLAlchemy's `execute` with a list processes the statement again for each row: a sixth of a first sync's time in the
store. Here a statement is prepared once; per row, only values are converted, with SQLAlchemy's own types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Dialect, Insert, Update, bindparam, or_, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler

from store.db.upsert import insert_for
from store.errors import StoreError
from store.tables import Base

__all__ = ["insert_rows", "update_rows"]

_Kind = Literal["insert", "insert_unknown", "update"]
_OF_ROW = "of_row"
"""The parameter that identifies the updated row; no column has this name."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    column: str
    convert: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement's text, and where its parameters come from, by position or by name."""

    sql: str
    parameters: tuple[_Parameter, ...]
    positional: bool

    def parameters_of(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        """Return the parameters of each row, as the driver takes them."""
        values = zip(*([p.convert(row[p.column]) for row in rows] for p in self.parameters), strict=True)
        if self.positional:
            return list(values)
        names = [parameter.name for parameter in self.parameters]
        return [dict(zip(names, value, strict=True)) for value in values]


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
        session: objects in it are not refreshed.
        model: whose table.
        rows: no defaults are filled in.
        skip_known: leave out those that would collide with one there, instead of failing.
        mend_known: as `skip_known`, but where one that is there differs in one of these columns, they are replaced.

    Raises:
        StoreError (where the session ends): the database rejects a row.
        ValueError: a time has no time zone.
    """
    _execute(session, "insert_unknown" if skip_known or mend_known else "insert", model, rows, mend_known)


def update_rows(session: Session, model: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Update rows by their `id`, each {column: value}, all with the same columns; see `insert_rows`.

    Raises:
        StoreError: a row does not exist.
    """
    _execute(session, "update", model, rows)


def _execute(
    session: Session, kind: _Kind, model: type[Base], rows: Sequence[dict[str, Any]], mended: tuple[str, ...] = ()
) -> None:
    if not rows:
        return
    session.flush()  # as SQLAlchemy's own statements do
    connection = session.connection()
    prepared = _prepare(kind, model, tuple(rows[0]), mended, connection.dialect)
    done = connection.exec_driver_sql(prepared.sql, prepared.parameters_of(rows))
    if kind == "update" and done.rowcount != len(rows):
        raise StoreError(f"updated {done.rowcount} of {len(rows)} rows in {model.__tablename__}; please report this")


@lru_cache(maxsize=64)
def _prepare(
    kind: _Kind, model: type[Base], columns: tuple[str, ...], mended: tuple[str, ...], dialect: Dialect
) -> _Prepared:
    written = [name for name in columns if kind != "update" or name != "id"]
    compiled = _statement(kind, model, mended, dialect).compile(dialect=dialect, column_keys=written)
    assert isinstance(compiled, SQLCompiler)
    parameters = []
    for name in compiled.positiontup or compiled.binds:
        convert = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
        parameters.append(_Parameter(name, "id" if name == _OF_ROW else name, convert or _unchanged))
    return _Prepared(compiled.string, tuple(parameters), compiled.positional)


def _statement(kind: _Kind, model: type[Base], mended: tuple[str, ...], dialect: Dialect) -> Insert | Update:
    if kind == "update":
        return update(model).where(model.__table__.c.id == bindparam(_OF_ROW))
    # Inline: nothing is returned, and no default is computed for a single row.
    statement = insert_for(dialect, model).inline()
    if kind == "insert":
        return statement
    if not mended:
        return statement.on_conflict_do_nothing()
    table, new = model.__table__, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={name: new[name] for name in mended},
        where=or_(*(table.c[name].is_distinct_from(new[name]) for name in mended)),
    )


def _unchanged(value: Any) -> Any:
    return value
