"""Maintenance of a store: check it, back it up while it is in use, delete caches, release disk space."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from store.db.damage import damaged_pictures
from store.db.database import Database
from store.db.driver_errors import advice_on_log, mapped_errors
from store.db.engine import BUSY_TIMEOUT_S
from store.db.migrate import current_revision
from store.db.picture_files import orphans, places
from store.db.schema_check import broken_references, schema_problems
from store.db.sqlite_file import file_id, read_only_uri
from store.errors import DatabaseUnavailable, StoreError
from store.files import move_synced, narrow
from store.tables import Feature, KnownModel, ThumbnailWords
from store.wording import counted

__all__ = ["Check", "backup", "check", "clear_cache", "vacuum"]


READERS_MAY_TAKE_S = 5
"""How long `vacuum` waits for readers, in seconds."""

_PAGES_BETWEEN_SIGNALS = 4096
"""Pages of 4 KiB that `backup` copies in one step, in about 10 ms."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `problems` is empty if it passed."""

    name: str
    problems: tuple[str, ...]
    detail: str = ""
    digests: tuple[str, ...] = ()
    """The digests of damaged and lost thumbnails."""


def check(database: Database) -> Iterator[Check]:
    """Check file structure, references, schema, and the digest of each thumbnail, without changing the store.

    If thumbnails are in a folder or bucket, files there that belong to no thumbnail are counted, too.

    Raises:
        StoreError: the database failed.
        PicturesUnavailable: a folder or bucket can't be read.
    """
    with database.read() as session:
        connection = session.connection()
        yield Check("revision", (), str(current_revision(connection)))
        if database.path is not None:
            lines = [line for line in _integrity_check(database.path) if line != "ok"]
            yield Check("integrity", tuple(lines), advice_on_log(database.path) if lines else "")
            rows = broken_references(connection)
            yield Check("references", tuple(f"{row[0]} row {row[1]} refers to a missing {row[2]}" for row in rows))
        else:
            yield Check("role", (), _about_role(session))
        yield Check("schema", schema_problems(connection))
        number, damaged = 0, {}
        for sha256, problem in damaged_pictures(session):
            number += 1
            if problem is not None:
                damaged[sha256] = problem
        with database.read() as later:  # since the first session began, another process may have moved or mended some
            again = damaged_pictures(later, damaged)
            damaged = {sha256: problem for sha256, problem in again if problem is not None}
        yield Check("pictures", tuple(damaged.values()), counted(number, "digest"), tuple(damaged))
        for at in places(session):
            count = sum(len(page) for page in orphans(session, at))
            yield Check("files", (), f"{count} in {at.url} belong to no thumbnail")


def _about_role(session: Session) -> str:
    """The role of a PostgreSQL store, with advice if it has unnecessary rights: `sql` runs any query of the user."""
    query = "SELECT rolname, rolsuper OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    name, is_privileged = session.execute(text(query)).one()
    advice = " has rights of a superuser; use a role that owns only this store's database or schema"
    return f"{name}{advice if is_privileged else ''}"


def _integrity_check(path: Path) -> list[str]:
    """Run SQLite's check in another thread, so that a signal can end it: before 3.41 it calls no progress handler.

    The thread has its own connection, which no other code closes. The process can exit without waiting for the thread.

    Raises:
        sqlite3.Error: the file can't be read.
    """
    connection = sqlite3.connect(read_only_uri(path), uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    lines: list[str] = []
    failures: list[sqlite3.Error] = []

    def look() -> None:
        try:
            lines.extend(str(row[0]) for row in connection.execute("PRAGMA integrity_check"))
        except sqlite3.Error as error:
            failures.append(error)

    thread = threading.Thread(target=look, daemon=True)
    try:
        thread.start()
        thread.join()
    except BaseException:
        connection.interrupt()
        raise
    connection.close()
    for error in failures:
        raise error
    return lines


def backup(database: Database, target: Path) -> int:
    """Copy a SQLite store to a new file, consistent even while others write; return the copy's size in bytes.

    Uses SQLite's online backup (https://www.sqlite.org/backup.html). The copy gets its name once it is complete.

    Raises:
        StoreError: the store is on PostgreSQL, or the target exists.
        DatabaseUnavailable: the copy can't be written.
    """
    if database.path is None:
        raise StoreError("a PostgreSQL store needs PostgreSQL's own tools for a backup; run pg_dump")
    if target.exists():
        raise StoreError(f"{target} already exists; name a new file")
    if not target.parent.is_dir():
        raise DatabaseUnavailable(f"the folder {target.parent} does not exist; create it first")
    copied = None
    try:
        # In a temporary folder, because SQLite creates a journal beside the copy, which must be deleted too.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent) as scratch:
            partial = Path(scratch, "copy")
            partial.touch()
            narrow(partial, database.path)
            with database.unchanged(), mapped_errors(database.url):
                _copy(database.path, partial)
            copied = file_id(partial)
            move_synced(partial, target)
        return target.stat().st_size
    except KeyboardInterrupt:
        # It may have its name already, and would make a repetition of the command fail.
        if copied is not None and file_id(target) == copied:
            target.unlink()
        raise
    except _TargetError as error:
        raise DatabaseUnavailable(f"{target} can't be written: {error}; make room, or name another file") from error
    except OSError as error:
        raise DatabaseUnavailable(f"{target} can't be written ({error.strerror}); name another file") from error


class _TargetError(Exception):
    """The copy can't be written. Internal: `backup` catches it."""


def _copy(source: Path, target: Path) -> None:
    """Copy the pages of an SQLite file.

    Raises:
        _TargetError: the target's disk is full or fails: of both files, only the target is written.
        sqlite3.Error: the source failed.
    """
    with (
        closing(sqlite3.connect(read_only_uri(source), uri=True)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        # A transaction, so that all steps copy the same state. Between steps, Python handles signals.
        original.execute("BEGIN")
        original.execute("SELECT 1 FROM sqlite_schema").fetchone()
        try:
            original.backup(copy, pages=_PAGES_BETWEEN_SIGNALS, progress=lambda *_: None, sleep=0)
            # Without WAL mode the copy is a single file, so that moving it can't lose its log.
            copy.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_FULL":
                raise _TargetError("the disk is full") from error
            if "IOERR" in error.sqlite_errorname and "READ" not in error.sqlite_errorname:
                raise _TargetError("its disk failed, or a quota is used up") from error
            raise


def clear_cache(database: Database) -> int:
    """Delete all cached vectors, model facts and OCR texts; return the number of vectors. Runs compute them again.

    Vectors of models that are no longer used stay until this is called. SQLite keeps the free space for later rows.
    """
    with database.write() as session:
        vectors = session.scalar(select(func.count()).select_from(Feature)) or 0
        session.execute(delete(Feature))
        session.execute(delete(KnownModel))
        session.execute(delete(ThumbnailWords))
    return vectors


def vacuum(database: Database) -> int:
    """Rewrite a SQLite store without deleted data, truncate its write-ahead log, and return its size in bytes.

    See https://www.sqlite.org/lang_vacuum.html. If the process is killed, the store stays unchanged.

    Raises:
        StoreError: the store is on PostgreSQL, or another process is using it.
        DatabaseUnavailable: the disk has no space for a second copy.
    """
    if database.path is None:
        raise StoreError("'thumbtune db vacuum' is for SQLite; run VACUUM FULL in PostgreSQL")
    with mapped_errors(database.url):
        connection = database.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            # A reader keeps the log from being truncated, and a service may read for a long time.
            cursor.execute(f"PRAGMA busy_timeout = {READERS_MAY_TAKE_S * 1000}")
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.close()
        finally:
            connection.invalidate()  # its timeout was changed, so it must not return to the pool
    if busy:
        raise StoreError("another process is using the store; run 'thumbtune db vacuum' when it has finished")
    return database.path.stat().st_size
