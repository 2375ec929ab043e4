"""Copy a whole store into another one, on the same or the other database: SQLite to PostgreSQL and back.

Rows keep their ids. They are copied table by table, in the order of their primary keys, so that an interrupted copy can
be continued. Text keys are ordered by code points on both databases, because PostgreSQL's own order depends on the
server's locale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Column, Integer, Row, Select, Table, func, insert, select, text, tuple_
from sqlalchemy.orm import Session
from sqlalchemy.types import String

from store.db.database import Database
from store.errors import StoreError
from store.tables import Base
from store.types import Phase, storable, unshown
from store.wording import counted

__all__ = ["copy_store"]

Key = Sequence[Any]
"""The values of a row's primary key."""

_ROWS = 1000
_BYTES = 16 << 20
"""The maximum size of a batch, in rows and in bytes of thumbnails and vectors."""


def copy_store(source: Database, target: Database, phase: Phase = unshown) -> dict[str, int]:
    """Copy all rows of `source` to `target`, then compare both row by row.

    `target` must be empty, or contain part of a copy of the same store, which is then completed. Changes to `source`
    during the copy are not copied. NUL and lone surrogates in text, which PostgreSQL refuses, become U+FFFD.

    Args:
        source: the store to copy.
        target: the store to write to, at the same revision.
        phase: shows the progress.

    Returns:
        {table: number of rows}.

    Raises:
        StoreError: `target` is `source`, has rows that `source` does not have, or differs from `source` after the
            copy; or a database failed. Copied rows stay.
    """
    if source.url == target.url or (source.path and target.path and source.path.samefile(target.path)):
        raise StoreError(f"{target} is the store itself; name another store to copy to")
    copied: dict[str, int] = {}
    with source.read() as session:
        tables = Base.metadata.sorted_tables
        for table in tables:
            copied[table.name] = _copy_table(session, target, table, phase)
        with target.write() as writing:
            _set_sequences(writing, tables)
        for table in tables:
            with _shown(phase, "Comparing", table, copied[table.name]) as count, target.read() as other:
                if _digest(session, table, count) != _digest(other, table, lambda _n: None):
                    raise StoreError(
                        f"the copy's table {table.name} differs from the original's: the store was changed since an "
                        "earlier, interrupted copy; copy it to a new, empty store"
                    )
    return copied


def _copy_table(session: Session, target: Database, table: Table, phase: Phase) -> int:
    """Copy the rows after the target's last row; return the table's number of rows."""
    total = _count(session, table)
    with target.read() as other:
        last: Key | None = other.execute(_newest_key(other, table)).first()
        n_copied = _count(other, table)
    before = 0 if last is None else _count(session, table, up_to=last)
    if n_copied != before:
        raise StoreError(
            f"{target} has {counted(n_copied, 'row')} in {table.name}, not the first rows of the store to copy; "
            "name an empty store"
        )
    with _shown(phase, "Copying", table, total) as count:
        count(n_copied)
        with closing(_batches(session, _select(session, table, after=last))) as batches:
            for batch in batches:
                with target.write() as writing:
                    writing.connection().execute(insert(table), [_storable(row) for row in batch])
                count(len(batch))
    return total


def _shown(phase: Phase, work: str, table: Table, rows: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show a phase of the work, unless the table has no rows."""
    return (phase if rows else unshown)(f"{work} {table.name}", rows)


def _newest_key(session: Session, table: Table) -> Select[Any]:
    return select(*table.primary_key).order_by(*(key.desc() for key in _keys(session, table))).limit(1)


def _keys(session: Session, table: Table) -> list[Any]:
    return [_ordered(session, column) for column in table.primary_key]


def _ordered(session: Session, column: Column[Any]) -> Any:
    """A column with the sort order that both databases share."""
    on_postgres = session.get_bind().dialect.name == "postgresql"
    return column.collate("C") if on_postgres and isinstance(column.type, String) else column


def _count(session: Session, table: Table, up_to: Key | None = None) -> int:
    counted = select(func.count()).select_from(table)
    if up_to is not None:
        counted = counted.where(tuple_(*_keys(session, table)) <= _bound(table, up_to))
    return session.scalar(counted) or 0


def _select(session: Session, table: Table, after: Key | None = None) -> Select[Any]:
    found = select(*table.columns).order_by(*_keys(session, table))
    return found if after is None else found.where(tuple_(*_keys(session, table)) > _bound(table, after))


def _bound(table: Table, key: Key) -> Any:
    return tuple_(*key, types=[column.type for column in table.primary_key])


def _batches(session: Session, found: Select[Any]) -> Generator[list[Row[Any]], None, None]:
    """Yield the rows, read a few at a time; close the generator to end the query."""
    batch: list[Row[Any]] = []
    size = 0
    with session.execute(found.execution_options(yield_per=64)) as rows:
        for row in rows:
            batch.append(row)
            size += sum(len(value) for value in row if isinstance(value, bytes))
            if len(batch) == _ROWS or size >= _BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _set_sequences(session: Session, tables: Sequence[Table]) -> None:
    """Make PostgreSQL's sequences continue after the copied ids; SQLite needs nothing."""
    if session.get_bind().dialect.name != "postgresql":
        return
    for table in tables:
        for column in table.primary_key:
            if len(table.primary_key) == 1 and isinstance(column.type, Integer):
                session.execute(
                    text(
                        f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), max({column.name})) "  # noqa: S608
                        f"FROM {table.name} HAVING max({column.name}) IS NOT NULL"
                    )
                )


def _digest(session: Session, table: Table, count: Callable[[int], None]) -> str:
    """Return the SHA-256 of all rows, the same on both databases."""
    digest = hashlib.sha256()
    with closing(_batches(session, _select(session, table))) as batches:
        for batch in batches:
            for value in (value for row in batch for value in _storable(row).values()):
                content = _canonical(value)
                digest.update(f"{type(value).__name__} {len(content)} ".encode())
                digest.update(content)
            count(len(batch))
    return digest.hexdigest()


def _storable(row: Row[Any]) -> dict[str, Any]:
    return {name: storable(value) for name, value in row._mapping.items()}


def _canonical(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().encode()
    if isinstance(value, date):
        return value.isoformat().encode()
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True).encode()
    return repr(value).encode()
