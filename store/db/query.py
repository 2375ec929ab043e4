"""Run the user's SQL so that it can't write."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, ResourceClosedError

from store.db.database import Database
from store.db.driver_errors import raise_interrupt
from store.errors import BadQuery

__all__ = ["Answer", "run_query"]

_WRITING = frozenset(("alter", "copy", "create", "delete", "drop", "insert", "merge", "truncate", "update", "vacuum"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A query's columns and rows. Rows are read from the database during iteration."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


@contextmanager
def run_query(database: Database, sql: str) -> Iterator[Answer]:
    """Run one statement on a store that was opened `read_only`. Rows can be read until the block ends.

    Raises:
        BadQuery: the SQL is invalid, is not a query, would write, or would open or create another file.
    """
    with database.read() as session:
        # Passed to the driver unchanged, so that a colon or percent sign in the SQL is not read as a parameter.
        connection = session.connection().execution_options(stream_results=True, no_parameters=True)
        _forbid_attach(connection)
        try:
            result = connection.exec_driver_sql(sql)
            columns = tuple(result.keys())
        except DBAPIError as error:
            raise_interrupt(error.orig)
            if getattr(error.orig, "sqlite_errorname", None) == "SQLITE_AUTH":
                raise BadQuery(
                    "the statement would open or create another file; this command only reads the store"
                ) from error
            raise _failed(error) from error
        except ResourceClosedError as error:
            raise BadQuery("the statement returns no rows; this command only reads") from error
        yield Answer(columns, _rows(iter(result)))


def _forbid_attach(connection: Connection) -> None:
    """Make SQLite reject ATTACH, which would create a missing file even on a read-only store."""
    if connection.dialect.name == "sqlite":
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_authorizer(_authorised)


def _authorised(action: int, *_about: str | None) -> int:
    """SQLite's authorizer callback. VACUUM INTO also uses ATTACH for the file that it creates."""
    return sqlite3.SQLITE_DENY if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH) else sqlite3.SQLITE_OK


def _rows(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    try:
        yield from rows
    except DBAPIError as error:
        raise_interrupt(error.orig)
        raise _failed(error) from error


def _failed(error: DBAPIError) -> BadQuery:
    refused = "; this command only reads" if _is_write_error(error.orig) else ""
    return BadQuery(f"the query failed ({_first_line(error.orig)}){refused}")


def _is_write_error(error: object) -> bool:
    """Whether the database rejected a write. PostgreSQL's cursor reports every write as a syntax error."""
    state = getattr(error, "sqlstate", None)
    if state == "42601":
        word = re.search(r'"(\w+)"', _first_line(error))
        return word is not None and word[1].lower() in _WRITING
    return state == "25006" or str(getattr(error, "sqlite_errorname", None)).startswith("SQLITE_READONLY")


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
