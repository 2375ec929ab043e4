"""Database engines: parses the URL, and sets the timeouts, transactions and settings of the connections.

SQLite settings follow https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html: WAL mode, so that readers
do not wait for the writer; `synchronous=FULL`, so that a committed batch survives a power cut; foreign keys enforced.

PostgreSQL connections use the same lock timeout as SQLite, and detect an unreachable server within a minute.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from store.db.sqlite_file import read_only_uri
from store.errors import BadDatabaseUrl
from store.types import storable
from store.urls import shown_url

__all__ = ["BUSY_TIMEOUT_S", "make_engine", "parse_url", "use_write_ahead_log"]

BUSY_TIMEOUT_S = 60.0


def parse_url(url: str) -> URL:
    """Parse the user's URL, and select the driver that thumbtune installs for the database.

    Raises:
        BadDatabaseUrl: the URL is invalid, or the database is not supported.
    """
    try:
        if storable(url) != url:  # no file and no server has such a name
            raise ValueError
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is not a number, or as above
        raise BadDatabaseUrl(
            f"{shown_url(url)!r} is not a database URL; write sqlite:///FILE or postgresql://USER@HOST/NAME, or name a "
            "file ending in .db, or a folder ending in /"
        ) from error
    if "@" in (parsed.host or ""):
        raise BadDatabaseUrl("the password in the database URL contains an @; write it as %40")
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.host or parsed.username or not parsed.database or parsed.database == ":memory:":
            raise BadDatabaseUrl(
                f"{shown_url(url)!r} does not name a file; write sqlite:///FILE (four slashes for an absolute path)"
            )
        if parsed.query or (shown_url(url) != url and not Path(parsed.database).exists()):
            raise BadDatabaseUrl(
                f"{shown_url(url)!r} has a password or parameters, and SQLite takes neither; write sqlite:///FILE, or "
                "postgresql://... for a server"
            )
        return parsed.set(drivername="sqlite")
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    raise BadDatabaseUrl(f"the database of {shown_url(url)!r} is not supported; use sqlite:///FILE or postgresql://...")


# libpq's defaults wait forever for a server that lost its power or network, because it closes no connection. With these
# limits a connection fails after a minute without a response. Unix sockets ignore them.
# https://www.postgresql.org/docs/current/libpq-connect.html
_TCP_LIMITS = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def make_engine(url: URL, *, read_only: bool) -> Engine:
    """Create the engine with timeouts. Parameters in the URL override the TCP limits.

    Raises:
        BadDatabaseUrl: the driver is not installed.
    """
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url, read_only=read_only)
        # The URL's own options, such as a search_path, override the limit, but not the time zone.
        theirs = url.normalized_query.get("options", ())
        options = " ".join((f"-c lock_timeout={BUSY_TIMEOUT_S * 1000:.0f}ms", *theirs, "-c timezone=utc"))
        if read_only:
            options += " -c default_transaction_read_only=on"
        limits = {name: limit for name, limit in _TCP_LIMITS.items() if name not in url.query}
        return create_engine(url, pool_pre_ping=True, connect_args={"options": options, **limits})
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise BadDatabaseUrl("the PostgreSQL driver is not installed; run pip install 'thumbtune[postgres]'") from error
    except ArgumentError as error:
        where = shown_url(url.render_as_string(hide_password=False))
        raise BadDatabaseUrl(f"{where!r} has a port that is not a number; correct it") from error


def _sqlite_engine(url: URL, *, read_only: bool) -> Engine:
    if read_only:
        path = Path(url.database or "")

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(read_only_uri(path), uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

        # No pool: each connection checks again how the file can be read.
        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    else:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would emit BEGIN too late for BEGIN IMMEDIATE and leave DDL outside of transactions, so `_begin`
        # emits it.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.set_progress_handler(_handle_signals, _STEPS_BETWEEN_SIGNALS)
        connection.create_function("sha256", 1, _sha256, deterministic=True)  # built into PostgreSQL
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("thumbtune_begin", "")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


_STEPS_BETWEEN_SIGNALS = 100_000
"""SQLite executes so many instructions in about a millisecond."""


def _handle_signals() -> int:
    """SQLite's progress handler. Python runs pending signal handlers in it, and their exceptions end the statement.

    Without it, a signal would only be handled when the statement ends, which may be never for a recursive query.
    """
    return 0


def _sha256(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.sha256(content).digest()


def use_write_ahead_log(engine: Engine) -> None:
    """Switch the file to WAL mode. This changes the file, so it must be known to be a store."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()
    finally:
        connection.close()
