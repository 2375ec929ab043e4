"""Fixtures shared by all tests: an empty store on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from store.database import Database, open_database

# The same examples in every run, so that a failure is the change's. `python -m bench.fuzzing` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """Put back what a command that ran inside the test process did to logging: pytest would see no more of it."""
    loggers = [logging.getLogger(name) for name in ("collector", "store", "thumbtune", "trainer")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of this test process's own (unix socket only)."""
    import pgserver  # noqa: PLC0415 (only where a test asks for PostgreSQL)

    # Not below pytest's own folder: each run that starts closes that to other users, and root's server runs as one.
    with tempfile.TemporaryDirectory(prefix="thumbtune-postgres-") as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database, a copy of `template`; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    yield server.replace("/postgres?", f"/{name}?", 1)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'thumbtune.db'}"


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database."""
    with postgres_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store; each test that asks for it runs on both databases."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite store to copy: migrating anew for each test would take most of the suite's time."""
    path = tmp_path_factory.mktemp("migrated") / "thumbtune.db"
    open_database(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[str]:
    """The name of a migrated, empty PostgreSQL database to copy."""
    with postgres_database(postgres_server) as url:
        open_database(url).close()
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def migrated_sqlite_url(migrated_file: Path, sqlite_url: str) -> str:
    """The URL of a migrated, empty SQLite store of the test's own."""
    shutil.copy(migrated_file, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def migrated_postgres_url(postgres_server: str, migrated_postgres: str) -> Iterator[str]:
    """The URL of a migrated, empty PostgreSQL store of the test's own."""
    with postgres_database(postgres_server, migrated_postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty, migrated store; each test that asks for it runs on both databases."""
    opened = open_database(request.getfixturevalue(f"migrated_{request.param}_url"))
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(migrated_sqlite_url: str) -> Iterator[Database]:
    """An empty, migrated SQLite store, for tests where the database makes no difference."""
    opened = open_database(migrated_sqlite_url)
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
