"""Shared fixtures: empty stores on SQLite and PostgreSQL."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy import make_url

from store.db import Database, open_database
from tests.object_store import ObjectStore, environment_of, folder_url, new_bucket, object_store

# The same examples in every run, so that only a change can cause a failure. `python -m bench.fuzzing` tries new inputs.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


MEMORY = Path("/dev/shm")
IN_MEMORY = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30


def pytest_configure() -> None:
    """Keep the tests' folders in memory, where it has room, because each commit to a store waits for the disk."""
    if IN_MEMORY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


# The name of the running test, in a run with `-m 'not processes'`.
_without_processes: str | None = None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker `postgres` to tests that use PostgreSQL through a fixture or a fixture's parameter."""
    for item in items:
        call = getattr(item, "callspec", None)
        parameters = call.params.values() if call else ()
        if "postgres_server" in getattr(item, "fixturenames", ()) or "postgres" in map(str, parameters):
            item.add_marker(pytest.mark.postgres)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """In a run without `processes`, fail tests that start a Python process without the marker."""
    global _without_processes  # noqa: PLW0603 (audit hooks can't be removed, and get no test as an argument)
    _without_processes = item.nodeid if "not processes" in item.config.option.markexpr else None
    try:
        return (yield)
    finally:
        _without_processes = None


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if event == "subprocess.Popen" and _without_processes and sys.executable in cast(Iterable[object], arguments[1]):
        raise AssertionError(f"{_without_processes} starts a process; mark it with pytest.mark.processes")


sys.addaudithook(_refuse_processes)


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """Restore the logging configuration after commands in the test process, so that pytest keeps capturing logs."""
    loggers = [logging.getLogger(name) for name in ("collector", "store", "thumbtune", "trainer")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: THUMBTUNE_TEST_POSTGRES, or a new server (Unix socket only)."""
    if url := os.environ.get("THUMBTUNE_TEST_POSTGRES"):
        yield url
        return
    pgserver = pytest.importorskip("pgserver", reason="needs pgserver, or a server in THUMBTUNE_TEST_POSTGRES")

    # Not in pytest's folder, which only this user can read: root's server runs as another user.
    with tempfile.TemporaryDirectory(prefix="thumbtune-postgres-", dir=MEMORY if IN_MEMORY else None) as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                # This server's data need not outlive a power cut, and waiting for the disk takes most of its time.
                # Its databases are dropped before they need a vacuum.
                for setting in (b"fsync", b"synchronous_commit", b"full_page_writes", b"autovacuum"):
                    connection.execute(b"ALTER SYSTEM SET " + setting + b" = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    """Create a database as a copy of `template`, yield its URL, and drop it."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        # Copying files takes a third of the time of the default, which also writes each page to the log.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
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
    """The URL of an empty store; tests that use it run on both databases."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite store to copy, because a migration for each test would take most of the suite's time."""
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
    """The URL of a migrated, empty SQLite store."""
    shutil.copy(migrated_file, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def migrated_postgres_url(postgres_server: str, migrated_postgres: str) -> Iterator[str]:
    """The URL of a migrated, empty PostgreSQL store."""
    with postgres_database(postgres_server, migrated_postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty, migrated store; tests that use it run on both databases."""
    opened = open_database(request.getfixturevalue(f"migrated_{request.param}_url"))
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(migrated_sqlite_url: str) -> Iterator[Database]:
    """An empty, migrated SQLite store, for tests that do not depend on the database."""
    opened = open_database(migrated_sqlite_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def object_store_server() -> Iterator[ObjectStore]:
    """An S3 server on loopback."""
    with object_store() as server:
        yield server


@pytest.fixture
def bucket(object_store_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An empty bucket, with its credentials in the environment."""
    for name, value in environment_of(object_store_server).items():
        monkeypatch.setenv(name, value)
    return new_bucket(object_store_server)


@pytest.fixture(params=["folder", "bucket"])
def place_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty place for thumbnails."""
    if request.param == "folder":
        return folder_url(tmp_path / "pictures")
    store: ObjectStore = request.getfixturevalue("bucket")
    return store.url


@pytest.fixture(scope="session")
def shared_channel() -> Path:
    """The real channel's folder; tests are skipped without it."""
    folder = SHARED / "channel"
    if not folder.is_dir():
        pytest.skip("../shared/channel does not exist")
    return folder


@pytest.fixture(scope="session")
def api_samples() -> Path:
    """Recorded API responses; tests are skipped without them."""
    folder = SHARED / "youtube-api-samples"
    if not folder.is_dir():
        pytest.skip("../shared/youtube-api-samples does not exist")
    return folder
