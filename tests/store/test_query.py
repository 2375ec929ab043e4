"""The user's own SQL: reads everything, writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.database import Database, open_database
from store.errors import BadQuery
from store.query import run_query
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


def test_a_query_gives_columns_and_rows(reader: Database) -> None:
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
def test_what_is_no_query_is_refused(reader: Database, sql: str) -> None:
    with pytest.raises(BadQuery), run_query(reader, sql) as answer:
        list(answer.rows)
    with run_query(reader, "SELECT units FROM quota_day") as answer:
        assert [row[0] for row in answer.rows] == [7]
