"""Checks find damage, and backups are complete."""

from __future__ import annotations

import hashlib
import os
import resource
import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select

from store.db import Database, backup, check, clear_cache, open_database
from store.errors import DatabaseUnavailable, NotAStore, StoreError
from store.tables import Picture
from store.training import read_features, write_features
from store.types import utc_now


def add_picture(database: Database, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    with database.write() as session:
        session.add(
            Picture(
                sha256=digest,
                bytes=content,
                mime="image/png",
                width=1,
                height=1,
                byte_count=len(content),
                fetched_at=utc_now(),
            )
        )
    return digest


def problems(database: Database) -> dict[str, tuple[str, ...]]:
    return {result.name: result.problems for result in check(database)}


def test_a_sound_store_has_no_problems(database: Database) -> None:
    add_picture(database, b"picture")
    found = problems(database)
    assert {"revision", "schema", "pictures"} <= set(found)
    assert not any(found.values())


def test_a_thumbnail_with_changed_bytes_is_found(sqlite_database: Database) -> None:
    digest = add_picture(sqlite_database, b"picture")
    assert sqlite_database.path is not None
    with sqlite3.connect(sqlite_database.path) as plain:
        plain.execute("UPDATE picture SET bytes = x'00'")
    plain.close()
    assert problems(sqlite_database)["pictures"] == (f"the bytes of thumbnail {digest} do not match its digest",)


def test_a_dangling_reference_is_found(sqlite_database: Database) -> None:
    assert sqlite_database.path is not None
    with sqlite3.connect(sqlite_database.path) as plain:
        plain.execute("INSERT INTO picture_failure VALUES ('nobody', 'u', 'r', 1, '2024', '2024', '2024')")
    plain.close()
    assert problems(sqlite_database)["references"] == ("picture_failure row 1 refers to a missing video",)


def test_a_missing_column_is_found(sqlite_database: Database) -> None:
    assert sqlite_database.path is not None
    with sqlite3.connect(sqlite_database.path) as plain:
        plain.execute("ALTER TABLE quota_day DROP COLUMN units")
    plain.close()
    assert any("units" in problem for problem in problems(sqlite_database)["schema"])


def test_a_backup_during_writes_has_the_committed_rows(sqlite_database: Database, tmp_path: Path) -> None:
    digest = add_picture(sqlite_database, b"picture")
    target = tmp_path / "copy.db"
    with sqlite_database.write() as session:
        session.execute(delete(Picture))
        assert backup(sqlite_database, target) == target.stat().st_size
        session.rollback()
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy.db"]
    copy = open_database(f"sqlite:///{target}", read_only=True)
    with copy.read() as session:
        assert session.get_one(Picture, digest).bytes == b"picture"
    copy.close()


def test_a_store_beside_the_log_of_another_store_is_reported(migrated_file: Path, tmp_path: Path) -> None:
    old, restored = tmp_path / "old.db", tmp_path / "restored.db"
    old.write_bytes(migrated_file.read_bytes())
    with sqlite3.connect(old) as plain:
        for half in range(2):
            rows = ((f"{half}-{number}", "u" * 200) for number in range(1500))
            plain.executemany("INSERT INTO picture_failure VALUES (?, ?, 'r', 1, '2024', '2024', '2024')", rows)
            plain.commit()
            # The state after a process was killed when half of the log was merged into the file.
            log = Path(f"{old}-wal").read_bytes()
            plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    plain.close()
    restored.write_bytes(migrated_file.read_bytes())
    Path(f"{restored}-wal").write_bytes(log)

    reader = open_database(f"sqlite:///{restored}", read_only=True)
    with pytest.raises(NotAStore) as caught:
        list(check(reader))
    reader.close()
    assert f"delete {restored}-wal and {restored}-shm" in str(caught.value)
    Path(f"{restored}-wal").unlink()
    Path(f"{restored}-shm").unlink()
    reader = open_database(f"sqlite:///{restored}", read_only=True)
    assert problems(reader)["integrity"] == ()
    reader.close()


@pytest.mark.parametrize(("log", "hint"), [(b"log", True), (b"", False), (None, False)])
def test_damage_that_only_the_integrity_check_finds(
    migrated_file: Path, tmp_path: Path, log: bytes | None, hint: bool
) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(migrated_file.read_bytes())
    with sqlite3.connect(path) as plain:
        plain.execute("INSERT INTO quota_day VALUES ('2024-01-01', 'this key', 1)")
    plain.close()
    before, after = path.read_bytes().rsplit(b"this key", 1)
    path.write_bytes(before + b"that key" + after)  # in the index, but not in the table
    if log is not None:
        Path(f"{path}-wal").write_bytes(log)
    reader = open_database(f"sqlite:///{path}", read_only=True)
    (integrity,) = (result for result in check(reader) if result.name == "integrity")
    reader.close()
    assert "missing from index" in integrity.problems[0]
    assert (f"delete {path}-wal" in integrity.detail) is hint


def test_a_backup_overwrites_no_file(sqlite_database: Database, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(StoreError, match=r"copy\.db already exists"):
        backup(sqlite_database, target)
    assert target.read_text() == "precious"


def test_a_backup_to_a_missing_folder_is_an_error(sqlite_database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        backup(sqlite_database, tmp_path / "missing" / "copy.db")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_an_unwritable_backup_does_not_blame_the_store(sqlite_database: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"/proc/copy\.db can't be written \("):
        backup(sqlite_database, Path("/proc/copy.db"))
    theirs = tmp_path / "copy.db.partial"
    theirs.write_text("somebody's")
    assert backup(sqlite_database, tmp_path / "copy.db") > 0
    assert theirs.read_text() == "somebody's"


@pytest.mark.parametrize(("mode", "umask"), [(0o600, 0o022), (0o640, 0o000), (0o644, 0o077)])
def test_a_backup_has_no_more_permissions_than_its_source_and_the_umask(
    sqlite_database: Database, tmp_path: Path, mode: int, umask: int
) -> None:
    assert sqlite_database.path is not None
    sqlite_database.path.chmod(mode)
    before = os.umask(umask)
    try:
        backup(sqlite_database, tmp_path / "copy.db")
    finally:
        os.umask(before)
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == mode & ~umask


def test_a_backup_that_exceeds_the_file_size_limit_blames_the_copy_and_leaves_no_file(
    sqlite_database: Database, tmp_path: Path
) -> None:
    add_picture(sqlite_database, bytes(100_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "to").mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DatabaseUnavailable, match="copy.db can't be written"):
            backup(sqlite_database, tmp_path / "to" / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "to").iterdir()) == []


def test_backup_refuses_postgres(postgres_url: str, tmp_path: Path) -> None:
    database = open_database(postgres_url)
    with pytest.raises(StoreError, match="pg_dump"):
        backup(database, tmp_path / "copy.db")
    database.close()


def test_clear_cache_deletes_only_cached_rows(database: Database) -> None:
    add_picture(database, b"picture")
    with database.write() as session:
        write_features(session, "a" * 64, "vision", {"1" * 64: b"\0" * 8})
    assert clear_cache(database) == 1
    assert clear_cache(database) == 0
    with database.read() as session:
        assert read_features(session, "a" * 64, "vision", ["1" * 64], 2) == {}
        assert session.scalar(select(func.count()).select_from(Picture)) == 1


FOREIGN = (
    "CREATE TABLE replication_state (lsn TEXT NOT NULL, at GEOMETRY)",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers (id))",
    "INSERT INTO orders VALUES (1, 7)",
    "CREATE INDEX mine ON video (title, published_at)",
    "CREATE UNIQUE INDEX mine_too ON video_version (video_id, number, title)",
    "CREATE INDEX by_lower_title ON video (lower(title))",
    "ALTER TABLE video ADD COLUMN note TEXT",
    "ALTER TABLE video ADD COLUMN starred INTEGER NOT NULL DEFAULT 0",
    "CREATE VIEW my_titles AS SELECT title, note FROM video",
)


def run_sql(database: Database, *statements: str) -> None:
    with database.write() as session:
        for statement in statements:
            session.connection().exec_driver_sql(statement)


def test_tables_of_other_programs_are_not_damage(database: Database) -> None:
    if database.is_sqlite:
        with sqlite3.connect(str(database.path)) as plain:
            for statement in FOREIGN:
                plain.execute(statement)
        plain.close()
    else:
        run_sql(database, *(s.replace("GEOMETRY", "point").replace(" REFERENCES customers (id)", "") for s in FOREIGN))
    assert not any(problems(database).values())
    open_database(database.url.render_as_string(hide_password=False)).close()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (("DROP INDEX ix_video_channel_id_id",), "ix_video_channel_id_id"),
        (
            ("DROP INDEX ix_video_channel_id_id", "CREATE INDEX ix_video_channel_id_id ON video (channel_id)"),
            "ix_video_channel_id_id",
        ),
        (("DROP VIEW pairs",), "pairs"),
        (("DROP VIEW champions", "CREATE VIEW champions AS SELECT 1 AS run_id"), "champions lacks the column reason"),
        (("DROP TABLE quota_day",), "quota_day"),
        (("DROP TABLE quota_day", "CREATE TABLE quota_day (day DATE, units TEXT)"), "quota_day"),
        (("CREATE TABLE q (a INT)", "ALTER TABLE picture_failure ADD COLUMN must TEXT NOT NULL"), "must"),
    ],
)
def test_missing_and_altered_own_tables_are_damage(database: Database, damage: tuple[str, ...], named: str) -> None:
    if "NOT NULL" in damage[-1] and database.is_sqlite:
        pytest.skip("SQLite adds no such column to a table that is there")
    run_sql(database, *damage)
    assert any(named in problem for problem in problems(database)["schema"])
