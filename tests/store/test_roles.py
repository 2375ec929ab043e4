"""A PostgreSQL role that owns only a schema can do everything; `db check` advises against roles with more rights."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import URL, make_url

from store.db import Database, check, copy_store, open_database, rows_as_dicts, run_query
from store.errors import BadQuery, DatabaseUnavailable
from tests.trainer.tiny import fill


def _url_of(url: str, role: str, schema: str) -> str:
    parsed: URL = make_url(url).set(username=role, password="a password")
    options = f"-c search_path={schema},public"
    return parsed.update_query_dict({"options": options}).render_as_string(hide_password=False)


@pytest.fixture
def roles(postgres_server: str, postgres_url: str) -> Iterator[list[str]]:
    """The URLs of two ordinary roles in one database, each with its own schema and no other rights."""
    names = [f"plain_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'a password'".encode())
            connection.execute(f"CREATE SCHEMA {name}_schema AUTHORIZATION {name}".encode())
    yield [_url_of(postgres_url, name, f"{name}_schema") for name in names]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in names:
            connection.execute(f"DROP OWNED BY {name} CASCADE".encode())
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for name in names:
            connection.execute(f"DROP ROLE {name}".encode())


def test_a_role_that_owns_only_a_schema_can_create_a_store_in_it(roles: list[str], sqlite_database: Database) -> None:
    fill(sqlite_database, 12)
    with open_database(roles[0]) as first, open_database(roles[1]) as second:
        copied = copy_store(sqlite_database, first)
        fill(second, 3)
        assert copied["video"] == 12
        for database in (first, second):
            checks = {one.name: one for one in check(database)}
            assert not any(one.problems for one in checks.values())
            assert "superuser" not in checks["role"].detail
        with first.read() as session, second.read() as other:
            count = "SELECT count(*) AS n FROM pairs"
            assert [rows_as_dicts(one, count)[0]["n"] for one in (session, other)] == [12, 3]


def test_a_role_without_a_schema_gets_a_clear_error(roles: list[str], postgres_url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="search_path|schema"):
        open_database(_url_of(postgres_url, make_url(roles[0]).username or "", "nowhere"))


def test_a_superuser_is_advised_to_use_another_role(postgres_url: str) -> None:
    with open_database(postgres_url) as database:
        (role,) = (one for one in check(database) if one.name == "role")
    assert role.problems == ()
    assert "superuser" in role.detail


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SET default_transaction_read_only = off; CREATE TABLE x (y int)",
    ],
)
def test_a_query_of_an_ordinary_role_reads_only_the_store(roles: list[str], sql: str) -> None:
    open_database(roles[0]).close()
    with (
        open_database(roles[0], read_only=True) as database,
        pytest.raises(BadQuery),
        run_query(database, sql) as answer,
    ):
        list(answer.rows)
