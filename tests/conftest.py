"""Fixtures shared by all tests: an empty store on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from store.database import Database, open_database

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of this test process's own (unix socket only)."""
    import pgserver  # noqa: PLC0415 (only where a test asks for PostgreSQL)

    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'thumbtune.db'}"


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield postgres_server.replace("/postgres?", f"/{name}?", 1)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store; each test that asks for it runs on both databases."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """An empty, migrated store; on both databases."""
    opened = open_database(store_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    """An empty, migrated SQLite store, for tests where the database makes no difference."""
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def shared_channel() -> Path:
    """The real channel's folder; the test is skipped where it is not at hand."""
    folder = SHARED / "channel"
    if not folder.is_dir():
        pytest.skip("../shared/channel is not here")
    return folder


@pytest.fixture(scope="session")
def api_samples() -> Path:
    """Recorded API answers; the test is skipped where they are not at hand."""
    folder = SHARED / "youtube-api-samples"
    if not folder.is_dir():
        pytest.skip("../shared/youtube-api-samples is not here")
    return folder
