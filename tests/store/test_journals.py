"""A store with an untrusted journal: SQLite would delete the file that the journal names."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select

from store.db import open_database
from store.errors import NotAStore
from store.tables import Video

MAGIC = bytes.fromhex("d9d505f920a163d7")
PENDING_PAGE = (1 << 30) // 4096 + 1


def journal_that_names(file: Path, pages: int) -> bytes:
    """A rollback journal without pages that names a super-journal; https://www.sqlite.org/fileformat.html."""
    header = MAGIC + struct.pack(">5I", 0, 0, pages, 512, 4096)
    name = str(file).encode()
    end = struct.pack(">I", PENDING_PAGE) + name + struct.pack(">2I", len(name), sum(name)) + MAGIC
    return header.ljust(512, b"\0") + end


@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"create": False}])
def test_a_journal_cannot_delete_another_file(migrated_file: Path, tmp_path: Path, options: dict[str, bool]) -> None:
    store, link, victim = tmp_path / "store.db", tmp_path / "link.db", tmp_path / "victim"
    shutil.copy(migrated_file, store)
    link.symlink_to(store)
    victim.write_text("important")
    (tmp_path / "store.db-journal").write_bytes(journal_that_names(victim, store.stat().st_size // 4096))
    for path in (store, link):
        with pytest.raises(NotAStore, match="journal"):
            open_database(f"sqlite:///{path}", **options)
    assert victim.exists()
    # SQLite itself deletes it; if a later version does not, the check is no longer needed.
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("SELECT count(*) FROM video").fetchone()
    assert not victim.exists()


def test_a_journal_beside_a_missing_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.db-journal").write_bytes(journal_that_names(tmp_path / "victim", 1))
    with pytest.raises(NotAStore):
        open_database(f"sqlite:///{tmp_path / 'new.db'}")


def test_an_ordinary_journal_is_left_to_sqlite(migrated_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    shutil.copy(migrated_file, store)
    (tmp_path / "store.db-journal").write_bytes(b"\0" * 512)
    with open_database(f"sqlite:///{store}") as database, database.read() as session:
        assert session.scalar(select(func.count()).select_from(Video)) == 0
