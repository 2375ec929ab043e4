"""Compare a store's schema with the expected schema. Other programs' tables in the same database are ignored."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Connection, inspect
from sqlalchemy.exc import SAWarning

from store.tables import Base
from store.tables.views import VIEWS

__all__ = ["broken_references", "schema_problems"]


def schema_problems(connection: Connection) -> tuple[str, ...]:
    """List missing and altered tables, columns, indexes, constraints and views of thumbtune.

    Other tables and views are ignored, and so are indexes and columns that a user added to thumbtune's tables, except
    a NOT NULL column without a default, which makes every insert fail.
    """
    # Only `db check` and backups need Alembic's comparison. Importing it takes a tenth of a second.
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    options = {"compare_type": True, "include_name": _is_compared, "include_object": _is_own}
    context = MigrationContext.configure(connection, opts=options)
    with warnings.catch_warnings():
        # Expression indexes and types of extensions can't be reflected. thumbtune uses neither.
        warnings.simplefilter("ignore", SAWarning)
        differences = compare_metadata(context, Base.metadata)
        return (*map(str, differences), *_view_problems(connection))


def _is_compared(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in Base.metadata.tables


def _is_own(thing: Any, _name: str | None, _kind: str, reflected: bool, counterpart: object) -> bool:
    """Whether a difference counts. Objects that exist only in the database, such as a user's index, do not."""
    if not reflected or counterpart is not None:
        return True
    return isinstance(thing, Column) and not thing.nullable and thing.server_default is None


def _view_problems(connection: Connection) -> list[str]:
    found = inspect(connection)
    views = set(found.get_view_names())
    problems = [f"the view {name} is missing" for name in VIEWS if name not in views]
    for name in VIEWS:
        if name in views:
            missing = VIEWS[name].columns.keys() - {column["name"] for column in found.get_columns(name)}
            problems += [f"the view {name} lacks the column {column}" for column in sorted(missing)]
    return problems


def broken_references(connection: Connection) -> list[tuple[str, Any, str]]:
    """(table, row id, referenced table) of rows in thumbtune's tables with dangling references. SQLite only.

    Other programs' tables are not checked, because SQLite fails on some of them.
    """
    return list(_broken(connection, Base.metadata.tables.keys() & set(inspect(connection).get_table_names())))


def _broken(connection: Connection, tables: Iterable[str]) -> Iterable[tuple[str, Any, str]]:
    for table in sorted(tables):
        for row in connection.exec_driver_sql(f'PRAGMA foreign_key_check("{table}")'):
            yield row[0], row[1], row[2]
