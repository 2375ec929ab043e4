"""Create the file of a new SQLite store. It is renamed when it is a valid database, so it is never an empty file."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

__all__ = ["make_file"]


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
