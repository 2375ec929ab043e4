"""The user's own SQL can read everything and write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.db import Database, open_database, run_query
from store.errors import BadQuery
from store.tables import QuotaDay
from store.types import utc_now


@pytest.fixture
def reader(store_url: str) -> Iterator[Database]:
    database = open_database(store_url)
    with database.write() as session:
        session.add(QuotaDay(day=utc_now().date(), key_fingerprint="k", units=7))
    database.close()
    opened = open_database(store_url, read_only=True)
    yield opened
    opened.close()


def test_a_query_returns_columns_and_rows(reader: Database) -> None:
    with run_query(reader, "SELECT units, key_fingerprint AS \"a:b\", '100%' AS share FROM quota_day") as answer:
        assert answer.columns == ("units", "a:b", "share")
        assert [tuple(row) for row in answer.rows] == [(7, "k", "100%")]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM quota_day",
        "UPDATE quota_day SET units = 0 RETURNING units",
        "DROP TABLE quota_day",
        "CREATE TABLE more (id INTEGER)",
        "SELEC 1",
        "SELECT * FROM nowhere",
        "",
    ],
)
def test_statements_that_are_not_queries_are_refused(reader: Database, sql: str) -> None:
    with pytest.raises(BadQuery), run_query(reader, sql) as answer:
        list(answer.rows)
    with run_query(reader, "SELECT units FROM quota_day") as answer:
        assert [row[0] for row in answer.rows] == [7]


def test_a_text_that_is_not_utf8_is_a_failed_query(sqlite_database: Database) -> None:
    with pytest.raises(BadQuery), run_query(sqlite_database, "SELECT CAST(x'ff' AS TEXT)") as answer:
        list(answer.rows)


@pytest.mark.parametrize(
    ("sql", "refused"),
    [
        ("DELETE FROM quota_day", True),
        ("insert INTO quota_day SELECT * FROM quota_day", True),
        ("CREATE TEMP TABLE more AS SELECT 1", True),
        ("SELEC 1", False),
        ("SELECT * FROM nowhere", False),
        ("SELECT units FROM quota_day WHERE", False),
    ],
)
def test_only_writing_statements_get_the_read_only_error(reader: Database, sql: str, refused: bool) -> None:
    with pytest.raises(BadQuery, match=r"^the query failed \(") as caught, run_query(reader, sql) as answer:
        list(answer.rows)
    assert str(caught.value).endswith("); this command only reads") is refused


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '{file}' AS other",
        "attach database '{file}' as other",
        "/* a look */ ATTACH 'file:{file}?mode=rwc' AS other",
        "EXPLAIN ATTACH '{file}' AS other",
        "DETACH main",
    ],
)
def test_no_other_file_is_opened_or_created(migrated_sqlite_url: str, tmp_path: Path, sql: str) -> None:
    reader = open_database(migrated_sqlite_url, read_only=True)
    there = sorted(tmp_path.iterdir())
    message = "the statement would open or create another file; this command only reads the store"
    with pytest.raises(BadQuery, match=message), run_query(reader, sql.format(file=tmp_path / "other.db")):
        pass
    assert sorted(tmp_path.iterdir()) == there
    with run_query(reader, "SELECT name FROM pragma_database_list") as answer:
        assert [row[0] for row in answer.rows] == ["main"]
    reader.close()


@pytest.mark.parametrize("sql", ["VACUUM INTO '{file}'", "VACUUM", "CREATE TEMP TABLE more AS SELECT 1"])
def test_no_copy_is_written(migrated_sqlite_url: str, tmp_path: Path, sql: str) -> None:
    reader = open_database(migrated_sqlite_url, read_only=True)
    there = sorted(tmp_path.iterdir())
    with pytest.raises(BadQuery, match="cannot VACUUM|only reads"), run_query(reader, sql.format(file=tmp_path / "x")):
        pass
    assert sorted(tmp_path.iterdir()) == there
    reader.close()
