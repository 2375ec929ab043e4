"""The file of a SQLite store: create it, and read it on a read-only mount or without write permission.

A new file is renamed when it is a valid database, so a store is never an empty file.

A store is in WAL mode. Reading it needs the files `-wal` and `-shm`, which can't be created on a read-only mount
(https://www.sqlite.org/wal.html#readonly). If no log exists, nobody is writing, so SQLite can open the file as
immutable and needs neither file. A later writer on another mount is detected by the file's modification time.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from store.errors import DatabaseUnavailable, NotAStore

__all__ = ["file_id", "make_file", "mark_of", "read_only_uri", "require_safe_journal", "why_not_writable"]

_WAL_MODE = b"\x02\x02"
"""Bytes 18 and 19 of a database file in WAL mode (https://www.sqlite.org/fileformat.html)."""


_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""The end of a rollback journal that names a super-journal (https://www.sqlite.org/fileformat.html#the_rollback_journal)."""


def require_safe_journal(path: Path) -> None:
    """Refuse a file with a journal that names another file, which SQLite would delete when it opens the database.

    Only transactions on several databases have such a journal. thumbtune has none, but a stranger's folder may.

    Raises:
        NotAStore: there is such a journal.
    """
    journal = Path(f"{os.path.realpath(path)}-journal")
    if not journal.is_file():
        return
    with journal.open("rb") as file:
        file.seek(-min(len(_SUPER_JOURNAL), journal.stat().st_size), os.SEEK_END)
        if file.read() == _SUPER_JOURNAL:
            raise NotAStore(
                f"{journal} belongs to a transaction on several databases, and SQLite would delete a file that it "
                "names; delete the journal if it came with the store"
            )


def why_not_writable(path: Path) -> str:
    """Why this process can't write an existing store; empty if it can."""
    if not os.access(path, os.W_OK):
        return "the file is read-only or on a read-only mount"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return "its folder, where SQLite writes its log, is read-only"
    others = [file for file in (_log(path), _index(path)) if file.exists() and not os.access(file, os.W_OK)]
    return f"its file {others[0].name} is read-only" if others else ""


def read_only_uri(path: Path) -> str:
    """Return the URI with which SQLite opens a store read-only.

    Raises:
        DatabaseUnavailable: the store has unmerged changes in a log that can't be read without write permission.
    """
    uri = path.absolute().as_uri()
    if not why_not_writable(path) or not _in_wal_mode(path):
        return f"{uri}?mode=ro"
    if _must_be_immutable(path):
        return f"{uri}?mode=ro&immutable=1"
    if not _index(path).exists() and not os.access(path.parent, os.W_OK):
        raise DatabaseUnavailable(
            f"the store {path} was not closed, and its log {_log(path).name} can't be read in a read-only folder; "
            f"copy both files to a writable folder, and name the copy with --db"
        )
    return f"{uri}?mode=ro"


def file_id(path: Path) -> tuple[int, int] | None:
    """(device, inode) of the file with this name; None if there is none."""
    try:
        at = path.stat()
    except OSError:
        return None
    return at.st_dev, at.st_ino


def mark_of(path: Path) -> tuple[int, int, int] | None:
    """(mtime in ns, size, inode) of a file that SQLite opens as immutable; None if SQLite detects changes itself."""
    if not _in_wal_mode(path) or not _must_be_immutable(path):
        return None
    at = path.stat()
    return at.st_mtime_ns, at.st_size, at.st_ino


def _must_be_immutable(path: Path) -> bool:
    log = _log(path)
    if not log.exists():
        return True
    return log.stat().st_size == 0 and not _index(path).exists()


def _in_wal_mode(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == _WAL_MODE
    except OSError:
        return False


def _log(path: Path) -> Path:
    return Path(f"{path}-wal")


def _index(path: Path) -> Path:
    return Path(f"{path}-shm")


def make_file(path: Path) -> None:
    """Create an empty database in WAL mode at `path`, unless another process creates it first.

    Raises:
        sqlite3.Error, OSError: the file can't be written.
    """
    unnamed = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
    try:
        with closing(sqlite3.connect(unnamed)) as connection:
            # This transaction writes the first page; on a full disk the change of the journal mode would fail silently.
            connection.execute("PRAGMA user_version = 0")
            connection.execute("PRAGMA journal_mode = WAL")
        try:
            os.link(unnamed, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not path.exists():
                unnamed.rename(path)
    finally:
        unnamed.unlink(missing_ok=True)
