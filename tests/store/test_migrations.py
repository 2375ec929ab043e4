"""Migrations: every older revision, with rows, is upgraded and downgraded, on both databases."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, Engine, create_engine, event, inspect, make_url, select, text

from store.db import check, current_revision, head_revision, open_database, rows_as_dicts
from store.db.migrate import alembic_config, bring_up_to_date
from store.errors import NotAStore, StoreTooNew, StoreTooOld
from store.tables import Base, Video
from store.types import LONG_AGO

REVISIONS = tuple(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())[::-1]
NOW = "2024-01-02 03:04:05.000000"

# Rows for each revision, in SQL: the models are those of the current revision.
ROWS = {
    "0001": [
        "INSERT INTO channel (id, title, uploads_playlist_id, min_duration_s, thumbnail_size, added_at)"
        f" VALUES ('UC1', 'Füchse', 'UU1', 180, 'high', '{NOW}')",
        f"INSERT INTO picture VALUES ('{'a' * 64}', '\x41', 'image/jpeg', 480, 360, 1, '{NOW}')",
        "INSERT INTO video (id, channel_id, title, picture_sha256, duration_s, kind, availability,"
        " first_seen_at, last_seen_at)"
        f" VALUES ('v1', 'UC1', '狐', '{'a' * 64}', 200, 'video', 'available', '{NOW}', '{NOW}')",
        "INSERT INTO video_version (id, video_id, number, title, picture_sha256, first_seen_at, last_seen_at)"
        f" VALUES (1, 'v1', 1, '狐', '{'a' * 64}', '{NOW}', '{NOW}')",
        "INSERT INTO sync_run (channel_id, mode, status, started_at, listed, new, changed, gone, pictures_fetched,"
        " pictures_unchanged, pictures_failed, requests, units, host, pid)"
        f" VALUES ('UC1', 'full', 'complete', '{NOW}', 1, 1, 0, 0, 1, 0, 0, 4, 3, 'h', 1)",
        "INSERT INTO quota_day VALUES ('2024-01-02', 'abc', 3)",
    ],
    "0002": [
        "INSERT INTO snapshot (id, fingerprint, created_at, settings, n_train, n_valid, n_test, excluded)"
        f" VALUES (1, '{'f' * 64}', '{NOW}', '{{}}', 1, 0, 0, '{{}}')",
        "INSERT INTO snapshot_example (snapshot_id, position, video_id, version_id, channel_id, group_id, split)"
        " VALUES (1, 0, 'v1', 1, 'UC1', 'v1', 'test')",
        "INSERT INTO training_run (id, status, started_at, snapshot_id, base_model, trained, seed, settings,"
        " packages, host, pid)"
        f" VALUES (1, 'done', '{NOW}', 1, 'base', 'projection', 42, '{{}}', '{{}}', 'h', 1)",
        "INSERT INTO evaluation (run_id, model, scope, split, direction, metric, k, value, n, low, high)"
        " VALUES (1, 'tuned', 'all', 'test', 'thumbnail_to_title', 'recall@1', 1, 0.75, 12, 0.47, 0.91)",
    ],
    "0003": [],
    "0004": [
        f"INSERT INTO feature VALUES ('{'e' * 64}', 'vision', '{'a' * 64}', '\x41', 1)",
        f"INSERT INTO known_model VALUES ('{'d' * 64}', '{'e' * 64}', '{{}}', '\x41', 1)",
        f"INSERT INTO promotion VALUES (1, 1, '{NOW}', 'the first')",
        f"INSERT INTO sweep VALUES (1, 'done', '{NOW}', '{NOW}', '{{}}', NULL, 'h', 1)",
        "UPDATE training_run SET sweep_id = 1, trial = 0, champion_run_id = 1",
    ],
    "0005": [f"UPDATE sync_run SET seen_at = '{NOW}'"],
    "0006": [f"INSERT INTO promotion VALUES (2, 1, '{NOW}', 'valid recall@1 0.500 against the champion')"],
    "0007": [],
    "0008": [f"INSERT INTO video_reading VALUES ('v1', '{NOW}', 10, 1, NULL)"],
    "0009": [],
    "0010": ["UPDATE video SET in_shorts_list = FALSE"],
    "0014": ["UPDATE promotion SET scope = 'UC1' WHERE id = 2"],
    "0015": ["UPDATE sync_run SET process_start = 123456 WHERE id = 1"],
    "0011": [f"INSERT INTO thumbnail_words VALUES ('{'a' * 64}', 'a reader 1', 'fox', '{NOW}')"],
    "0013": [f"INSERT INTO test_look VALUES (2, '{NOW}', 'base', 1, 1)"],
    "0016": [],
    "0017": [],
}


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    """A bare engine: no thumbtune settings, as another program would connect."""
    url = make_url(store_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def fill(connection: Connection, revision: str) -> None:
    for statement in ROWS[revision]:
        connection.execute(text(statement.replace(":", r"\:")))


def test_the_migration_unpairs_titles_whose_thumbnail_was_not_checked(store_url: str, engine: Engine) -> None:
    """The rows of a sync that stopped between a new title and its thumbnail, in an earlier revision."""
    later = NOW.replace("03:04", "05:06")
    bring_up_to_date(engine, target="0007")
    with engine.begin() as connection:
        for revision in ("0001", "0002"):
            fill(connection, revision)
        picture = "a" * 64
        for video_id, checked_at in (("v2", NOW), ("v3", later), ("v4", "1970-01-01 00:00:00.000000")):
            connection.exec_driver_sql(
                "INSERT INTO video (id, channel_id, title, picture_sha256, duration_s, kind, availability,"
                " first_seen_at, last_seen_at, picture_checked_at)"
                f" VALUES ('{video_id}', 'UC1', 'new', '{picture}', 200, 'video', 'available', '{NOW}', '{NOW}',"
                f" '{checked_at}')"
            )
            for number, title, seen_at in ((1, "old", NOW), (2, "new", later)):
                connection.exec_driver_sql(
                    "INSERT INTO video_version (id, video_id, number, title, picture_sha256, first_seen_at,"
                    f" last_seen_at) VALUES ({number}{video_id[1]}, '{video_id}', {number}, '{title}', '{picture}',"
                    f" '{seen_at}', '{seen_at}')"
                )
    database = open_database(store_url)
    with database.read() as session:
        pairs = rows_as_dicts(session, "SELECT video_id, title FROM pairs WHERE video_id <> 'v1' ORDER BY video_id")
        due = set(session.scalars(select(Video.id).where(Video.picture_checked_at.is_(None))))
    database.close()
    # v3 was checked since; for v4 this is not known, and the next refresh will check it.
    assert [(pair["video_id"], pair["title"]) for pair in pairs] == [("v2", "old"), ("v3", "new"), ("v4", "new")]
    assert "v2" in due
    assert not {"v3", "v4"} & due


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_store_of_an_older_revision_keeps_its_rows(store_url: str, engine: Engine, revision: str) -> None:
    for step in REVISIONS[: REVISIONS.index(revision) + 1]:
        bring_up_to_date(engine, target=step)
        with engine.begin() as connection:
            assert current_revision(connection) == step
            fill(connection, step)

    database = open_database(store_url)
    with database.read() as session:
        pairs = rows_as_dicts(session, "SELECT * FROM pairs")
        runs = rows_as_dicts(session, "SELECT * FROM run_history")
        decisions = rows_as_dicts(session, "SELECT decision FROM training_run")
        checked_at = session.scalar(select(Video.picture_checked_at))
        assert current_revision(session.connection()) == head_revision() == REVISIONS[-1]
    assert [found for found in check(database) if found.problems and found.name != "pictures"] == []
    database.close()

    assert [(pair["video_id"], pair["title"], pair["duration_s"]) for pair in pairs] == [("v1", "狐", 200)]
    if revision != "0001":
        assert [(run["test_recall_at_1"], run["test_recall_at_1_low"], run["n_train"]) for run in runs] == [
            (0.75, 0.47, 1)
        ]
        assert checked_at == LONG_AGO, "only a refresh would check it"
        taken = revision >= "0006"  # the promotion was recorded by then
        assert [row["decision"] for row in decisions] == [
            "valid recall@1 0.500 against the champion" if taken else None
        ]


@pytest.mark.slow
def test_each_migration_can_be_undone_and_redone(engine: Engine) -> None:
    bring_up_to_date(engine)
    for step in [*REVISIONS[-2::-1], "base"]:
        with engine.begin() as connection:
            command.downgrade(alembic_config(connection), step)
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        assert inspect(connection).get_view_names() == []
    bring_up_to_date(engine)
    with engine.connect() as connection:
        assert current_revision(connection) == head_revision()


def test_models_and_migrations_give_the_same_schema(engine: Engine) -> None:
    bring_up_to_date(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_create_the_checks_of_the_models(engine: Engine) -> None:
    """Alembic compares no CHECK constraints, so we do."""
    bring_up_to_date(engine)
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            made = {check["name"] for check in inspect(connection).get_check_constraints(table.name)}
            declared = {check.name for check in table.constraints if isinstance(check, CheckConstraint)}
            assert made == declared, table.name


def _open_and_close(url: str) -> None:
    open_database(url).close()


@pytest.mark.processes
def test_concurrent_processes_migrate_once(store_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_open_and_close, args=(store_url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    database = open_database(store_url, read_only=True)
    database.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_a_newer_version_is_unchanged(store_url: str, engine: Engine, read_only: bool) -> None:
    bring_up_to_date(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match="9999.*upgrade thumbtune"):
        open_database(store_url, read_only=read_only)


def test_a_store_migrated_by_a_newer_version_meanwhile_is_unchanged(store_url: str, engine: Engine) -> None:
    bring_up_to_date(engine, target="0001")
    newer = create_engine(engine.url)
    looks = []

    def migrate(_: Connection) -> None:
        """As an older version begins: check the revision first, then migrate."""
        looks.append("")
        if len(looks) == 2:
            with newer.begin() as other:
                other.execute(text("ALTER TABLE channel RENAME COLUMN title TO name"))
                other.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    event.listen(engine, "begin", migrate)
    with pytest.raises(StoreTooNew, match="9999.*upgrade thumbtune"):
        bring_up_to_date(engine)
    assert len(looks) == 2
    with newer.connect() as connection:
        assert current_revision(connection) == "9999"
        assert "name" in {column["name"] for column in inspect(connection).get_columns("channel")}
        assert "training_run" not in inspect(connection).get_table_names()
    newer.dispose()


def test_a_reader_does_not_migrate_an_old_store(store_url: str, engine: Engine) -> None:
    bring_up_to_date(engine, target="0001")
    with pytest.raises(StoreTooOld, match="db upgrade"):
        open_database(store_url, read_only=True)
    with engine.connect() as connection:
        assert current_revision(connection) == "0001"


def test_the_database_of_another_program_is_unchanged(store_url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoice (id INTEGER)"))
    with pytest.raises(NotAStore, match="not a thumbtune store"):
        open_database(store_url)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["invoice"]


def test_a_failed_migration_is_rolled_back(tmp_path: Path) -> None:
    """A dangling reference (written without enforcement) must stop and undo the whole migration."""
    path = tmp_path / "broken.db"
    url = f"sqlite:///{path}"
    engine = create_engine(url)
    bring_up_to_date(engine, target="0001")
    engine.dispose()
    with sqlite3.connect(path) as plain:
        plain.execute(f"INSERT INTO video_version VALUES (1, 'nobody', 1, 't', NULL, '{NOW}', '{NOW}')")
    plain.close()
    with pytest.raises(Exception, match="dangling references"):
        open_database(url)
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    plain.close()


def test_champions_of_an_older_store_keep_their_channels(store_url: str, engine: Engine) -> None:
    for step in REVISIONS[: REVISIONS.index("0011") + 1]:
        bring_up_to_date(engine, target=step)
        with engine.begin() as connection:
            fill(connection, step)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO training_run"
            " (id, status, started_at, base_model, trained, seed, settings, packages, host, pid)"
            f" VALUES (2, 'done', '{NOW}', 'base', 'ridge', 42, '{{\"channels\": [\"UC2\", \"UC1\"]}}', '{{}}', 'h', 1)"
        )
        connection.exec_driver_sql(f"INSERT INTO promotion VALUES (3, 2, '{NOW}', 'narrow')")
    database = open_database(store_url)
    with database.read() as session:
        found = rows_as_dicts(session, "SELECT run_id, scope, replaced_at FROM champions")
    database.close()
    assert [(row["run_id"], row["scope"]) for row in found] == [(1, "all"), (1, "all"), (2, "UC1,UC2")]
    assert [row["replaced_at"] is None for row in found] == [False, True, True], "one of each set is in use"
