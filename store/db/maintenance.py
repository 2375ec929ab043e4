"""Looking after a store: check that it is sound, copy it while it is in use, drop what can be made again."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, select

from store.db.damage import damaged_pictures
from store.db.database import Database, advice_on_log, mapped_errors
from store.db.migrate import current_revision
from store.db.read_only import read_only_uri
from store.db.schema_check import broken_references, schema_problems
from store.errors import DatabaseUnavailable, StoreError
from store.tables import Feature, KnownModel, ThumbnailWords

__all__ = ["Check", "backup", "check", "clear_cache", "vacuum"]


READERS_MAY_TAKE_S = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what is wrong with it; nothing wrong: `problems` is empty."""

    name: str
    problems: tuple[str, ...]
    detail: str = ""


def check(database: Database) -> Iterator[Check]:
    """Look at the whole store without changing it: file structure, references, schema, and each picture's digest.

    Raises:
        StoreError: the database failed while it was read.
    """
    with database.read() as session:
        connection = session.connection()
        yield Check("revision", (), str(current_revision(connection)))
        if database.is_sqlite:
            lines = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
            yield Check("integrity", tuple(lines), advice_on_log(database.path) if lines and database.path else "")
            rows = broken_references(connection)
            yield Check("references", tuple(f"{row[0]} row {row[1]} points to no {row[2]}" for row in rows))
        yield Check("schema", schema_problems(connection))
        found = [problem for _, problem in damaged_pictures(session)]
        yield Check("pictures", tuple(problem for problem in found if problem), f"{len(found)} digests")


def backup(database: Database, target: Path) -> int:
    """Copy a SQLite store, consistent even while others write, to a new file; returns its size in bytes.

    Uses SQLite's online backup (https://www.sqlite.org/backup.html). The copy gets its name only when it is whole.

    Raises:
        StoreError: the store is on PostgreSQL, or the target exists.
        DatabaseUnavailable: the copy can't be written.
    """
    if database.path is None:
        raise StoreError("a PostgreSQL store is backed up by PostgreSQL's own tools; run pg_dump")
    if target.exists():
        raise StoreError(f"{target} exists already; name a new file")
    if not target.parent.is_dir():
        raise DatabaseUnavailable(f"the folder {target.parent} does not exist; make it first")
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        # Not by SQLite, which says little of why it can't, and whose errors are told as the store's.
        partial.open("xb").close()
        with database.unchanged(), mapped_errors(database.url):
            source = sqlite3.connect(read_only_uri(database.path), uri=True)
            copy = sqlite3.connect(partial)
            try:
                source.backup(copy)
                # The copy is one file: no write-ahead log beside it to forget when it is moved.
                copy.execute("PRAGMA journal_mode = DELETE")
            finally:
                copy.close()
                source.close()
        partial.rename(target)
    except OSError as error:
        raise DatabaseUnavailable(f"{target} can't be written ({error.strerror}); name another place") from error
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def clear_cache(database: Database) -> int:
    """Delete what frozen towers made of pictures and titles; returns how many vectors. Runs make them again.

    The words that a reader found on the thumbnails are deleted with them.

    Vectors of models that are no longer used stay until this is called. SQLite keeps the room for later rows.
    """
    with database.write() as session:
        vectors = session.scalar(select(func.count()).select_from(Feature)) or 0
        session.execute(delete(Feature))
        session.execute(delete(KnownModel))
        session.execute(delete(ThumbnailWords))
    return vectors


def vacuum(database: Database) -> int:
    """Rewrite a SQLite store's file without what was deleted, its write-ahead log included; return its size in bytes.

    See https://www.sqlite.org/lang_vacuum.html. A process that is killed in it leaves the store as it was.

    Raises:
        StoreError: the store is on PostgreSQL; or others read or write it, so that old pages can't go yet.
        DatabaseUnavailable: the disk has no room for a second copy.
    """
    if database.path is None:
        raise StoreError("a PostgreSQL store is rewritten by PostgreSQL itself; run VACUUM FULL there")
    with mapped_errors(database.url):
        connection = database.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            # Readers keep the log for as long as they like; a service's may never end.
            cursor.execute(f"PRAGMA busy_timeout = {READERS_MAY_TAKE_S * 1000}")
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.close()
        finally:
            connection.invalidate()  # not to be used again with its own timeout
    if busy:
        raise StoreError("another process reads the store; run 'thumbtune db vacuum' when it has ended")
    return database.path.stat().st_size
