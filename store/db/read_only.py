"""Reading a SQLite store where it can't be written: on a read-only mount, or without the right to write.

A store is in WAL mode, and reading one needs two files beside it, `-wal` and `-shm`, which can't be made there
(https://www.sqlite.org/wal.html#readonly). Where there is no log, nobody is writing: then SQLite may be told that the
file is immutable, so that it needs neither. A writer who comes later, by another mount, is noticed by the file's time.
"""

from __future__ import annotations

import os
from pathlib import Path

from store.errors import DatabaseUnavailable

__all__ = ["mark_of", "read_only_uri", "why_not_writable"]

_WAL_MODE = b"\x02\x02"
"""Bytes 18 and 19 of a database file in WAL mode (https://www.sqlite.org/fileformat.html)."""


def why_not_writable(path: Path) -> str:
    """Why a store that is there can't be written by this process; nothing if it can."""
    if not os.access(path, os.W_OK):
        return "the file is read-only, or on a read-only mount"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return "its folder is read-only, where SQLite keeps its log"
    others = [file for file in (_log(path), _index(path)) if file.exists() and not os.access(file, os.W_OK)]
    return f"{others[0].name} beside it is read-only" if others else ""


def read_only_uri(path: Path) -> str:
    """The URI by which SQLite reads a store and never writes it.

    Raises:
        DatabaseUnavailable: it can't be read where it is.
    """
    uri = path.absolute().as_uri()
    if not why_not_writable(path) or not _in_wal_mode(path):
        return f"{uri}?mode=ro"
    if _must_be_immutable(path):
        return f"{uri}?mode=ro&immutable=1"
    if not _index(path).exists() and not os.access(path.parent, os.W_OK):
        raise DatabaseUnavailable(
            f"the store {path} was not closed, and what {_log(path).name} holds can't be read in a place that is "
            f"read-only; copy both files to a folder that can be written, and name the copy with --db"
        )
    return f"{uri}?mode=ro"


def mark_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does that is read as immutable; None where SQLite itself sees to that."""
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
