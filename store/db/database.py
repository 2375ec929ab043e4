"""Opening the store: URL, engine, pragmas, migrations, short transactions, and library errors mapped to ours.

SQLite settings follow https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html: WAL so that readers never
wait for the writer, `synchronous=FULL` so that a committed batch survives a power cut, foreign keys enforced.

On PostgreSQL a lock is waited for as long as on SQLite, and a server whose machine is gone is noticed within a minute.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from store.db.migrate import bring_up_to_date, require_current
from store.db.new_file import make_file
from store.db.read_only import mark_of, read_only_uri, why_not_writable
from store.errors import BadDatabaseUrl, DatabaseUnavailable, NotAStore, StoreError, StoreTooOld

__all__ = ["DEFAULT_URL", "Database", "advice_on_log", "mapped_errors", "open_database", "rows_as_dicts"]

DEFAULT_URL = "sqlite:///thumbtune.db"
BUSY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Database:
    """An open store, closed at the end of a `with` block.

    Threads may share it; each `read()` or `write()` takes a connection of its own.

    Example:
        >>> with open_database("sqlite:///thumbtune.db") as database, database.read() as session:
        ...     session.get(Channel, "UC...")
    """

    engine: Engine
    url: URL
    unwritable: str = ""
    """Why the place of an SQLite store can't be written; nothing where it can."""

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session over one consistent state of the store; what is changed in it is thrown away.

        Raises:
            StoreError: the database failed.
        """
        engine = self.engine
        if not self.is_sqlite:
            # By default each statement sees what others have committed by then; on SQLite a transaction never does.
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self.unchanged(), mapped_errors(self.url), Session(engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """A block that fails if the file changes that is read in it without locks (see `store.db.read_only`).

        Raises:
            DatabaseUnavailable: it did; what was read may be wrong.
        """
        path = self.path if self.unwritable else None
        before = None if path is None else mark_of(path)
        if path is None or before is None:
            yield
            return
        changed = DatabaseUnavailable(
            f"the store {path} was changed while it was read in a place where it can't be locked; run the command again"
        )
        try:
            yield
        except StoreError as error:
            if mark_of(path) not in (before, None):
                raise changed from error
            raise
        if mark_of(path) not in (before, None):
            raise changed

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one short write transaction: committed when the block ends, rolled back when it raises.

        On SQLite the write lock is taken at the start (BEGIN IMMEDIATE): writers queue up instead of failing half way.

        Raises:
            StoreError: the database failed; nothing of the block was kept.
        """
        if self.unwritable:
            raise DatabaseUnavailable(
                f"the store {self.path} can't be written ({self.unwritable}); commands that only read it work"
            )
        engine = self.engine.execution_options(thumbtune_begin="IMMEDIATE")
        with mapped_errors(self.url), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every pooled connection; on SQLite this also folds the write-ahead log into the file."""
        self.engine.dispose()

    @property
    def is_sqlite(self) -> bool:
        """Whether this store is one SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path | None:
        """The SQLite file, or None on another database."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)


def open_database(
    url: str = DEFAULT_URL, *, create: bool = True, read_only: bool = False, any_revision: bool = False
) -> Database:
    """Open the store at `url`, migrated to this version's schema.

    Args:
        url: `sqlite:///FILE`, or `postgresql://...`.
        create: make the store where there is none; otherwise that is an error.
        read_only: open so that nothing can be written, migrations included. A SQLite store in a place that can't be
            written is opened so in any case; see `Database.unwritable`.
        any_revision: with `read_only`: take a store that waits for a migration too, to copy it as it is.

    Raises:
        BadDatabaseUrl: not a URL we can open, or its driver is not installed.
        DatabaseUnavailable: the folder is missing, the server is down, no permission, ...
        NotAStore: it holds something else, or is damaged.
        StoreTooNew: a later version migrated it.
        StoreTooOld: it is opened for reading only, and needs a migration first.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _check_file(parsed, create=create and not read_only)
    unwritable = why_not_writable(Path(parsed.database or "")) if parsed.get_backend_name() == "sqlite" else ""
    engine = _engine(parsed, read_only=read_only or bool(unwritable))
    database = Database(engine, parsed, unwritable)
    try:
        with mapped_errors(parsed):
            if read_only or unwritable:
                _require_current(engine, unwritable, any_revision=any_revision)
            else:
                bring_up_to_date(engine, create=create)
                if database.is_sqlite:
                    _use_write_ahead_log(engine)
    except BaseException:
        engine.dispose()
        raise
    return database


def _require_current(engine: Engine, unwritable: str, *, any_revision: bool) -> None:
    try:
        require_current(engine)
    except StoreTooOld as error:
        if any_revision:
            return
        if unwritable:
            raise StoreTooOld(f"{error}; it can't be written here ({unwritable}): use a copy elsewhere") from error
        raise


def _parse(url: str) -> URL:
    """Turn the user's text into a URL with the driver we ship for that database."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BadDatabaseUrl(
            f"{url!r} is not a database URL; write sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise BadDatabaseUrl(f"{url!r} names no file; write sqlite:///FILE (four slashes for an absolute path)")
        return parsed.set(drivername="sqlite")
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    raise BadDatabaseUrl(f"{backend!r} databases are not supported; use sqlite:///FILE or postgresql://...")


def _check_file(url: URL, *, create: bool) -> None:
    path = Path(url.database or "")
    if path.is_dir():
        raise DatabaseUnavailable(f"{path} is a folder, not a database file; name a file in it")
    if path.exists():
        if path.stat().st_size == 0:
            # SQLite would take it for a new database: what was in it would go unmissed.
            raise NotAStore(
                f"{path} is empty; it is not a thumbtune store. Restore it from a backup, or delete it to start again"
            )
        return
    if not create:
        raise DatabaseUnavailable(
            f"there is no store at {path}; run 'thumbtune sync CHANNEL' first, or name the store with --db"
        )
    if not path.parent.is_dir():
        raise DatabaseUnavailable(f"the folder {path.parent} does not exist; make it first")
    try:
        with mapped_errors(url):
            make_file(path)
    except OSError as error:
        raise DatabaseUnavailable(f"{path} can't be made ({error.strerror}); name another place with --db") from error


# A minute without a sign of life from the server's machine, and a connection counts as broken. libpq alone waits for an
# answer without end: a machine that lost its power or its network closes nothing, and would hold a service forever.
# https://www.postgresql.org/docs/current/libpq-connect.html explains each; a Unix socket needs none.
_TCP_LIMITS = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def _engine(url: URL, *, read_only: bool) -> Engine:
    """The engine, with limits of ours on how long a server is waited for; those on TCP give way to the URL's own.

    Raises:
        BadDatabaseUrl: the driver is not installed.
    """
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url, read_only=read_only)
        options = f"-c timezone=utc -c lock_timeout={BUSY_TIMEOUT_S * 1000:.0f}ms"
        if read_only:
            options += " -c default_transaction_read_only=on"
        limits = {name: limit for name, limit in _TCP_LIMITS.items() if name not in url.query}
        return create_engine(url, pool_pre_ping=True, connect_args={"options": options, **limits})
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise BadDatabaseUrl("the PostgreSQL driver is not installed; run pip install 'thumbtune[postgres]'") from error


def _sqlite_engine(url: URL, *, read_only: bool) -> Engine:
    if read_only:
        path = Path(url.database or "")

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(read_only_uri(path), uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

        # Without a pool: how the file can be read is asked anew each time.
        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    else:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        # We emit BEGIN ourselves (below): the driver's own rules begin too late for BEGIN IMMEDIATE and
        # leave DDL outside of transactions.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.create_function("sha256", 1, _sha256, deterministic=True)  # PostgreSQL has it
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("thumbtune_begin", "")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _sha256(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.sha256(content).digest()


def _use_write_ahead_log(engine: Engine) -> None:
    """Once in a file's life, and not before it is known to be a store: it changes the file."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()
    finally:
        connection.close()


@contextmanager
def mapped_errors(url: URL) -> Iterator[None]:
    """The one place where database errors end: each becomes a `StoreError` that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except DBAPIError as error:
        raise _mapped(error.orig, url) from error
    except sqlite3.Error as error:
        raise _mapped(error, url) from error
    except UnicodeDecodeError as error:
        # SQLite's message about a damaged schema quotes it, and Python's driver can't read that.
        if url.get_backend_name() != "sqlite":
            raise
        raise _mapped(sqlite3.DatabaseError("malformed database schema"), url) from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database call failed ({error}); please report this") from error


_SQLITE_ERRORS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("file is not a database", NotAStore, "is not a SQLite database; name another file with --db"),
    ("malformed", NotAStore, "is damaged; restore it from a backup ('thumbtune db backup' makes them)"),
    (
        "readonly database",
        DatabaseUnavailable,
        "is read-only; check the permissions of the file, of its -wal and -shm beside it, and of the folder",
    ),
    (
        "unable to open",
        DatabaseUnavailable,
        "can't be opened; check that the path exists and may be read and written",
    ),
    (
        "disk is full",
        DatabaseUnavailable,
        "can't grow: the disk is full; make room and run the command again",
    ),
    (
        "sqlite_ioerr_shmsize",
        DatabaseUnavailable,
        "can't grow: the disk is full; make room and run the command again",
    ),
    ("disk i/o error", DatabaseUnavailable, "can't be read or written (disk I/O error); check the disk"),
    (
        "locked",
        DatabaseUnavailable,
        "is locked by another program; run the command again when that has ended",
    ),
)


# By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html): the texts are in the server's language.
_POSTGRES_ERRORS: dict[str, tuple[str, str]] = {
    "25006": ("is read-only", "name a server that takes writes (no standby), or ask for the right to write"),
    "40001": ("was changed by another program at the same time", "run the command again"),
    "40P01": ("was changed by another program at the same time", "run the command again"),
    "42501": ("does not allow this user that", "grant the rights, or connect as the user who owns the tables"),
    "53100": ("can't grow: the server's disk is full", "make room and run the command again"),
    "55P03": ("is locked by another program", "run the command again when that has ended"),
    "57014": ("took longer than its server allows", "raise its statement_timeout, or run the command again"),
}


def _mapped(error: BaseException | None, url: URL) -> StoreError:
    text = str(error)
    where = url.render_as_string(hide_password=True)
    first_line = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    if url.get_backend_name() == "sqlite":
        described = f"{text} {getattr(error, 'sqlite_errorname', '')}".lower()
        for needle, kind, advice in _SQLITE_ERRORS:
            if needle in described:
                hint = advice_on_log(Path(url.database or "")) if needle == "malformed" else ""
                return kind(f"the store {url.database} {advice}{hint and '; '}{hint}")
        return StoreError(f"the store {url.database} refused a statement ({first_line}); please report this")
    known = _POSTGRES_ERRORS.get(getattr(error, "sqlstate", None) or "")
    if known:
        return DatabaseUnavailable(f"{where} {known[0]} ({first_line}); {known[1]}")
    if any(
        word in text for word in ("connection", "connect", "could not translate", "authentication", "does not exist")
    ):
        return DatabaseUnavailable(f"{where} can't be used ({first_line}); check the URL and the server")
    return StoreError(f"{where} refused a statement ({first_line}); please report this")


def advice_on_log(path: Path) -> str:
    """What to try with a damaged file that has a write-ahead log beside it; nothing where it has none.

    The log of a process that was killed stays, and SQLite takes it for that of whatever file is put there next.
    """
    log = Path(f"{path}-wal")
    if not log.exists() or not log.stat().st_size:
        return ""
    return (
        f"if the file was just put there, delete {log} and {path}-shm, which the old one left, and put it there again"
    )


def rows_as_dicts(session: Session, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    """Run a trusted SELECT with `:name` parameters and return its rows as dictionaries, keyed by column."""
    return [dict(row) for row in session.execute(text(sql), parameters).mappings()]
