"""Opening, transactions, and the message for each failure of a database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from store.db import Database, open_database, rows_as_dicts
from store.errors import BadDatabaseUrl, DatabaseUnavailable, NotAStore, StoreError, StoreTooNew
from store.tables import Channel, QuotaDay, Video
from store.types import utc_now

NOON = datetime(2024, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)


def a_channel(name: str = "UC1", **changes: object) -> Channel:
    values: dict[str, object] = {
        "id": name,
        "title": "Füchse 🦊",
        "uploads_playlist_id": "UU1",
        "min_duration_s": 180,
        "thumbnail_size": "high",
        "added_at": NOON,
    }
    return Channel(**values | changes)


def test_written_values_are_read_back_exactly(database: Database) -> None:
    item = {"snippet": {"title": "a\u202eb \x1b[31m", "tags": ["ß", "狐"]}, "n": 1.5, "none": None}
    with database.write() as session:
        session.add(a_channel(api_item=item))
    with database.read() as session:
        channel = session.get_one(Channel, "UC1")
    assert (channel.title, channel.api_item, channel.added_at) == ("Füchse 🦊", item, NOON)
    assert channel.added_at.tzinfo is UTC


def test_times_of_any_zone_are_converted_and_naive_times_are_refused(database: Database) -> None:
    with database.write() as session:
        session.add(a_channel(synced_at=NOON.astimezone(timezone(timedelta(hours=-9)))))
    with database.read() as session:
        assert session.get_one(Channel, "UC1").synced_at == NOON
    with pytest.raises(StoreError, match="naive datetime"), database.write() as session:
        session.add(a_channel("UC2", added_at=datetime(2024, 1, 1)))  # noqa: DTZ001


def test_a_block_that_raises_is_rolled_back(database: Database) -> None:
    def half_a_batch() -> None:
        with database.write() as session:
            session.add(a_channel())
            session.flush()
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        half_a_batch()
    with database.read() as session:
        assert session.get(Channel, "UC1") is None


@pytest.mark.parametrize("change", ["deleted", "replaced", "moved with its folder"])
def test_a_file_that_is_gone_is_noticed_by_the_next_write(migrated_file: Path, tmp_path: Path, change: str) -> None:
    """SQLite keeps writing to the old file, which nobody finds again."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store = folder / "store.db"
    shutil.copy(migrated_file, store)
    with open_database(f"sqlite:///{store}") as database:
        with database.write() as session:
            session.add(a_channel())
        if change == "deleted":
            store.unlink()
        elif change == "replaced":
            shutil.copy(migrated_file, tmp_path / "other.db")
            (tmp_path / "other.db").replace(store)
        else:
            folder.rename(tmp_path / "elsewhere")
        with pytest.raises(DatabaseUnavailable, match="deleted, moved or replaced"), database.write() as session:
            session.add(a_channel("UC2"))


def test_a_reader_changes_nothing(database: Database) -> None:
    with database.read() as session:
        session.add(a_channel())
        session.flush()
    with database.read() as session:
        assert session.get(Channel, "UC1") is None


@pytest.mark.parametrize("read_only", [False, True])
def test_a_reader_sees_one_state_during_writes(database: Database, read_only: bool) -> None:
    url = database.url.render_as_string(hide_password=False)
    reading = open_database(url, read_only=read_only)
    counts = []
    with reading.read() as session:
        for name in ("UC1", "UC2", "UC3"):
            counts.append(session.query(Channel).count())
            with database.write() as writer:
                writer.add(a_channel(name))
    assert counts == [0, 0, 0]
    with reading.read() as session:
        assert session.query(Channel).count() == 3
    reading.close()


def test_a_writer_sees_what_was_committed_before_each_statement(migrated_postgres_url: str) -> None:
    """Otherwise, one of two writers of a row would fail. This also holds for a connection that a reader used before."""
    database = open_database(migrated_postgres_url)
    with database.read() as session:
        reader = session.connection()
        assert reader.get_isolation_level() == "REPEATABLE READ"
        served_by = reader.scalar(text("SELECT pg_backend_pid()"))
    with database.write() as session:
        writer = session.connection()
        assert writer.get_isolation_level() == "READ COMMITTED"
        assert writer.scalar(text("SELECT pg_backend_pid()")) == served_by
    database.close()


def test_foreign_keys_and_enumerations_are_enforced(database: Database) -> None:
    with pytest.raises(StoreError) as no_channel, database.write() as session:
        session.add(a_video(channel_id="nobody"))
    assert isinstance(no_channel.value.__cause__, IntegrityError)
    with database.write() as session:
        session.add(a_channel())
    with pytest.raises(StoreError) as bad_word, database.write() as session:
        session.add(a_video(kind="podcast"))
    assert isinstance(bad_word.value.__cause__, IntegrityError)


def a_video(channel_id: str = "UC1", kind: str = "video") -> Video:
    return Video(
        id="v1",
        channel_id=channel_id,
        title="t",
        kind=kind,
        availability="available",
        first_seen_at=NOON,
        last_seen_at=NOON,
    )


def test_concurrent_writers_wait_for_each_other(database: Database) -> None:
    """Each transaction reads, then writes. Without the lock at its start, SQLite would refuse one of the two."""
    with database.write() as session:
        session.add(QuotaDay(day=NOON.date(), key_fingerprint="k", units=0))
    barrier = threading.Barrier(4)

    def count_up() -> None:
        barrier.wait(30)
        for _ in range(25):
            with database.write() as session:
                row = session.get_one(QuotaDay, (NOON.date(), "k"), with_for_update=True)
                row.units += 1

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as session:
        assert session.get_one(QuotaDay, (NOON.date(), "k")).units == 100


def test_a_writer_does_not_block_a_reader(sqlite_database: Database) -> None:
    with sqlite_database.write() as writer:
        writer.add(a_channel())
        writer.flush()
        with sqlite_database.read() as reader:
            assert rows_as_dicts(reader, "SELECT count(*) AS n FROM channel") == [{"n": 0}]


def test_sqlite_uses_durable_settings(sqlite_database: Database) -> None:
    with sqlite_database.read() as session:
        connection = session.connection()
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_read_only_store_refuses_writes(store_url: str) -> None:
    open_database(store_url).close()
    database = open_database(store_url, read_only=True)
    with pytest.raises(StoreError), database.write() as session:
        session.add(a_channel())
    with database.read() as session:
        assert rows_as_dicts(session, "SELECT count(*) AS n FROM channel") == [{"n": 0}]
    database.close()


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("thumbtune.db", BadDatabaseUrl, "not a database URL; write sqlite:///FILE"),
        ("sqlite://", BadDatabaseUrl, "does not name a file"),
        ("sqlite:///:memory:", BadDatabaseUrl, "does not name a file"),
        ("mysql://root@localhost/x", BadDatabaseUrl, "'mysql://root@localhost/x' is not supported"),
        ("sqlite:///{tmp}", DatabaseUnavailable, "is a folder"),
        ("sqlite:///{tmp}/missing/x.db", DatabaseUnavailable, "folder .*missing does not exist"),
        ("postgresql://nobody@127.0.0.1:1/none", DatabaseUnavailable, "can't be used .*; check the URL"),
    ],
)
def test_invalid_urls_are_refused(tmp_path: Path, url: str, kind: type[StoreError], says: str) -> None:
    with pytest.raises(kind, match=says):
        open_database(url.format(tmp=tmp_path))


def test_a_password_is_never_shown() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        open_database("postgresql://someone:geheim@127.0.0.1:1/none")
    assert "geheim" not in str(caught.value)


def test_a_reader_does_not_create_a_missing_store(tmp_path: Path) -> None:
    path = tmp_path / "typo.db"
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(DatabaseUnavailable, match=r"there is no store at .*typo\.db; run 'thumbtune sync"):
            open_database(f"sqlite:///{path}", **options)
    assert not path.exists()


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("shopping list\n" * 500)
    with pytest.raises(NotAStore, match="is not a SQLite database"):
        open_database(f"sqlite:///{path}")
    assert path.read_text() == "shopping list\n" * 500


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    database = open_database(f"sqlite:///{path}")
    with database.write() as session:
        session.add_all([a_channel(f"UC{n}", title="x" * 500) for n in range(200)])
    database.close()
    content = bytearray(path.read_bytes())
    content[4096 : len(content) - 4096] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)

    def read_all() -> None:
        with open_database(f"sqlite:///{path}").read() as session:
            session.query(Channel).all()

    with pytest.raises(NotAStore, match="is damaged; restore it from a backup"):
        read_all()


def test_a_file_locked_by_another_program_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.db"
    monkeypatch.setattr("store.db.engine.BUSY_TIMEOUT_S", 0.05)
    database = open_database(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked by another program"), database.write() as session:
        session.connection()
    other.execute("ROLLBACK")
    other.close()
    with database.write() as session:
        session.add(a_channel())
    database.close()


def test_a_table_locked_by_another_program_is_an_error(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.db.engine.BUSY_TIMEOUT_S", 0.05)
    database = open_database(postgres_url)
    with database.engine.connect() as other, other.begin():
        other.execute(text("LOCK TABLE channel IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseUnavailable, match="locked by another program"), database.write() as session:
            session.add(a_channel())
    with database.write() as session:
        session.add(a_channel())
    database.close()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("default_transaction_read_only = on", "is read-only .*; use a primary server"),
        # A built-in role that may read all tables, but write to no table.
        (
            "role = pg_read_all_data",
            "denied permission to this user .*; grant the privileges",
        ),
    ],
)
def test_a_server_that_refuses_writes_is_an_error(migrated_postgres_url: str, setting: str, says: str) -> None:
    set_for_the_database(migrated_postgres_url, setting)
    database = open_database(migrated_postgres_url)
    with pytest.raises(DatabaseUnavailable, match=says), database.write() as session:
        session.add(a_channel())
    with database.read() as session:
        assert session.get(Channel, "UC1") is None
    database.close()


def test_a_statement_timeout_of_the_server_is_an_error(migrated_postgres_url: str) -> None:
    set_for_the_database(migrated_postgres_url, "statement_timeout = '50ms'")
    database = open_database(migrated_postgres_url)
    with (
        pytest.raises(DatabaseUnavailable, match="statement timeout .*; raise statement_timeout"),
        database.read() as session,
    ):
        session.execute(text("SELECT pg_sleep(60)"))
    database.close()


def test_a_deadlock_is_an_error(migrated_postgres_url: str) -> None:
    set_for_the_database(migrated_postgres_url, "deadlock_timeout = '10ms'")
    database = open_database(migrated_postgres_url)
    with database.write() as session:
        session.add_all([a_channel("UC1"), a_channel("UC2")])
    barrier = threading.Barrier(2)
    refused: list[str] = []

    def rename(first: str, second: str) -> None:
        try:
            with database.write() as session:
                session.get_one(Channel, first, with_for_update=True)
                barrier.wait(30)
                session.get_one(Channel, second, with_for_update=True)
        except DatabaseUnavailable as error:
            refused.append(str(error))

    threads = [threading.Thread(target=rename, args=names) for names in (("UC1", "UC2"), ("UC2", "UC1"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    database.close()
    assert len(refused) == 1, "the other transaction gets both locks"
    assert "(deadlock detected)" in refused[0]


def test_the_driver_gets_the_limits_that_detect_an_unreachable_server(migrated_postgres_url: str) -> None:
    """Read back from libpq itself, which rejects unknown parameters."""
    database = open_database(f"{migrated_postgres_url}&keepalives_idle=5")
    with database.read() as session:
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        told = driver.info.get_parameters()
    database.close()
    assert told["keepalives_idle"] == "5", "the limits in the URL take precedence"
    assert (told["keepalives_interval"], told["keepalives_count"], told["tcp_user_timeout"]) == ("10", "3", "60000")
    assert told["connect_timeout"] == "10"


def set_for_the_database(url: str, setting: str) -> None:
    """Change a setting of the database, as an administrator would. It applies to new connections."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {setting}".encode())


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE t (x)"],
        ["CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('x')"],
    ],
)
def test_a_database_of_another_program_is_unchanged(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        other.execute(statement)
    other.close()
    before = path.read_bytes()
    with pytest.raises(NotAStore):
        open_database(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_newer_store_without_a_write_ahead_log_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    open_database(f"sqlite:///{path}").close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE alembic_version SET version_num = 'm9999'")
    other.execute("PRAGMA journal_mode = DELETE")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew):
        open_database(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.processes
@pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root can write any file")
def test_a_read_only_file_is_an_error_for_writers(tmp_path: Path) -> None:
    path = tmp_path / "fixed.db"
    open_database(f"sqlite:///{path}").close()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    program = (
        "from store.db.database import open_database\n"
        "from store.tables import QuotaDay\n"
        "import datetime\n"
        f"database = open_database('sqlite:///{path}')\n"
        "with database.write() as session:\n"
        "    session.add(QuotaDay(day=datetime.date(2024, 1, 1), key_fingerprint='k', units=1))\n"
    )
    # Root may write anywhere; without its capabilities it is bound by the mode like anyone else.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    result = subprocess.run([*drop, sys.executable, "-c", program], capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert "DatabaseUnavailable" in result.stderr
    assert "is read-only" in result.stderr


def test_utc_now_is_in_utc() -> None:
    assert utc_now().utcoffset() == timedelta(0)


def test_parameters_are_bound(database: Database) -> None:
    with database.read() as session:
        rows = rows_as_dicts(session, "SELECT CAST(:word AS TEXT) AS word", word="'; DROP TABLE video; --")
        assert rows == [{"word": "'; DROP TABLE video; --"}]
        session.execute(text("SELECT count(*) FROM video"))
