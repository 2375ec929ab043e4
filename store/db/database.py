"""Open the store: parse its URL, configure the engine, migrate, run transactions, translate database errors.

SQLite settings follow https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html: WAL mode, so that readers
do not wait for the writer; `synchronous=FULL`, so that a committed batch survives a power cut; foreign keys enforced.

PostgreSQL connections use the same lock timeout as SQLite, and detect an unreachable server within a minute.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Dialect, Engine, Result, create_engine, event, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.pool import NullPool

from store.db.migrate import bring_up_to_date, require_current
from store.db.sqlite_file import make_file, mark_of, read_only_uri, require_safe_journal, why_not_writable
from store.errors import BadDatabaseUrl, DatabaseUnavailable, NotAStore, ServerLost, StoreError, StoreTooOld
from store.tables import PicturePlace
from store.urls import shown_message, shown_url

__all__ = [
    "Database",
    "PicturesAt",
    "advice_on_log",
    "mapped_errors",
    "open_database",
    "raise_interrupt",
    "rows_as_dicts",
]

BUSY_TIMEOUT_S = 60.0
AWAY_S = 60.0
"""How long `Database.patient` waits for a PostgreSQL server, in seconds."""
RETRY_S = 1.0

T = TypeVar("T")

_READS = "reads"
"""The key in a session's `info` under which `Database.read` names its engine."""


@dataclass(frozen=True, slots=True)
class PicturesAt:
    """The `picture_place` to which new thumbnails are written."""

    id: int
    url: str
    mark: str


@dataclass(frozen=True, repr=False)
class Database:
    """An open store. A context manager that closes the store at the end of the block.

    Thread-safe: each `read()` or `write()` uses its own connection.

    Example:
        >>> with open_database("sqlite:///thumbtune.db") as database, database.read() as session:
        ...     session.get(Channel, "UC...")
    """

    engine: Engine
    url: URL
    unwritable: str = ""
    """Why a SQLite store can't be written; empty if it can."""
    pictures: PicturesAt | None = None
    """Where new thumbnails are written, as of the opening of the store; None: into the database."""

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that reads one consistent state of the store. Changes are rolled back.

        Raises:
            StoreError: the database failed.
        """
        engine = self.engine
        if not self.is_sqlite:
            # PostgreSQL's default shows each statement the latest commits; SQLite keeps one state for the transaction.
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        session = Session(engine, expire_on_commit=False, info={_READS: self.engine})
        with self.unchanged(), mapped_errors(self.url):
            try:
                yield session
            finally:
                _close(session)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Fail if the file changes during the block while it is read without locks (see `store.db.sqlite_file`).

        Raises:
            DatabaseUnavailable: the file changed, so the data that was read may be inconsistent.
        """
        path = self.path if self.unwritable else None
        before = None if path is None else mark_of(path)
        if path is None or before is None:
            yield
            return
        changed = DatabaseUnavailable(
            f"the store {path} changed while it was read without locks; run the command again"
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
        """Open a session in one write transaction: committed at the end of the block, rolled back on an exception.

        On SQLite the transaction takes the write lock at its start (BEGIN IMMEDIATE), so that writers wait for each
        other instead of failing at their first write.

        Raises:
            StoreError: the database failed; the transaction was rolled back.
        """
        if self.unwritable:
            raise DatabaseUnavailable(
                f"the store {self.path} can't be written ({self.unwritable}); only commands that read it work"
            )
        engine = self.engine.execution_options(thumbtune_begin="IMMEDIATE")
        with mapped_errors(self.url), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def transact(self, work: Callable[[Session], T]) -> T:
        """Call a function in a write transaction, and again if the connection to PostgreSQL is lost meanwhile.

        The function may be called several times, so its only effects are those in the database. Within `patient`, each
        call waits for the server.

        Raises:
            StoreError: as `write`.
        """

        def write() -> T:
            with self.write() as session:
                return work(session)

        return _until_not_lost(write)

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Within the block, wait up to `AWAY_S` for a PostgreSQL server that restarts or can't be reached.

        A statement in a session of `read` that loses its connection is executed again. What the session read before is
        then of an earlier state of the store.

        For long work that would otherwise be lost, and which reads rows that don't change: snapshots, vectors and
        thumbnails by digest. Has no effect on SQLite, which has no server.
        """
        if self.is_sqlite:
            yield
            return
        over = threading.Event()

        def connect(dialect: Dialect, _record: object, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
            deadline = time.monotonic() + AWAY_S
            while True:
                try:
                    return dialect.connect(*arguments, **options)
                except dialect.loaded_dbapi.OperationalError:
                    if time.monotonic() >= deadline or over.wait(RETRY_S):
                        raise

        def execute(state: ORMExecuteState) -> Result[Any] | None:
            if state.session.info.get(_READS) is not self.engine:
                return None

            def invoke() -> Result[Any]:
                with mapped_errors(self.url):
                    return state.invoke_statement()

            def leave() -> None:
                state.session.expunge_all()  # a rollback would expire the objects that the caller has
                state.session.rollback()

            return _until_not_lost(invoke, leave)

        event.listen(self.engine, "do_connect", connect)
        event.listen(Session, "do_orm_execute", execute)
        try:
            yield
        finally:
            over.set()
            event.remove(Session, "do_orm_execute", execute)
            event.remove(self.engine, "do_connect", connect)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all pooled connections. On SQLite this also merges the write-ahead log into the file."""
        self.engine.dispose()

    @property
    def is_sqlite(self) -> bool:
        """Whether this store is a SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path | None:
        """The SQLite file, or None on PostgreSQL."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    def __repr__(self) -> str:
        return f"Database({self})"  # the engine and the URL may show a password

    def __str__(self) -> str:
        return shown_url(self.url.render_as_string(hide_password=True))


def _close(session: Session) -> None:
    """Close a session that only read. If its rollback loses the connection, nothing is lost."""
    try:
        session.close()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise


def _until_not_lost(call: Callable[[], T], leave: Callable[[], object] = lambda: None) -> T:
    """Call a function until it does not lose the connection to PostgreSQL, for up to `AWAY_S`.

    `leave` is called after each loss, before the next call.
    """
    deadline = time.monotonic() + AWAY_S
    while True:
        try:
            return call()
        except ServerLost:
            if time.monotonic() >= deadline:
                raise
            leave()


def open_database(url: str, *, create: bool = True, read_only: bool = False, any_revision: bool = False) -> Database:
    """Open the store at `url`, and migrate it to the current schema.

    Args:
        url: `sqlite:///FILE`, or `postgresql://...`.
        create: create a missing store instead of raising `DatabaseUnavailable`.
        read_only: allow no writes and no migration. Always true for a SQLite store that can't be written; see
            `Database.unwritable`.
        any_revision: with `read_only`, also open a store that needs a migration, to copy it unchanged.

    Raises:
        BadDatabaseUrl: the URL is invalid or unsupported, or its driver is not installed.
        DatabaseUnavailable: the folder is missing, the server is down, permission is denied, ...
        NotAStore: the database is damaged or is not a thumbtune store.
        StoreTooNew: a newer version migrated the store.
        StoreTooOld: the store is opened read-only and needs a migration.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _check_file(parsed, create=create and not read_only)
    unwritable = why_not_writable(Path(parsed.database or "")) if parsed.get_backend_name() == "sqlite" else ""
    engine = _engine(parsed, read_only=read_only or bool(unwritable))
    database = Database(engine, parsed, unwritable)
    try:
        with mapped_errors(parsed):
            is_current = True
            if read_only or unwritable:
                is_current = _is_current(engine, unwritable, any_revision=any_revision)
            else:
                bring_up_to_date(engine, create=create)
                if database.is_sqlite:
                    _use_write_ahead_log(engine)
            return replace(database, pictures=_pictures_at(engine)) if is_current else database
    except BaseException:
        engine.dispose()
        raise


def _pictures_at(engine: Engine) -> PicturesAt | None:
    with engine.connect() as connection:
        query = select(PicturePlace.id, PicturePlace.url, PicturePlace.mark).where(PicturePlace.is_current)
        row = connection.execute(query).first()
    return None if row is None else PicturesAt(row.id, row.url, row.mark)


def _is_current(engine: Engine, unwritable: str, *, any_revision: bool) -> bool:
    try:
        require_current(engine)
    except StoreTooOld as error:
        if any_revision:
            return False
        if unwritable:
            raise StoreTooOld(f"{error}; this store can't be written ({unwritable}), so upgrade a copy") from error
        raise
    return True


def _parse(url: str) -> URL:
    """Parse the user's URL, and select the driver that thumbtune installs for the database."""
    try:
        url.encode()
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is not a number, or the text is not Unicode
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


def _check_file(url: URL, *, create: bool) -> None:
    path = Path(url.database or "")
    if path.is_dir():
        raise DatabaseUnavailable(f"{path} is a folder, not a database file; name a file")
    require_safe_journal(path)
    if path.exists():
        if path.stat().st_size == 0:
            # SQLite would treat an empty file as a new database and hide the loss of its content.
            raise NotAStore(
                f"{path} is empty; it is not a thumbtune store. Restore it from a backup, or delete it to start again"
            )
        return
    if not create:
        raise DatabaseUnavailable(
            f"there is no store at {path}; run 'thumbtune sync CHANNEL' first, or name the store with --db"
        )
    if not path.parent.is_dir():
        raise DatabaseUnavailable(f"the folder {path.parent} does not exist; create it first")
    try:
        with mapped_errors(url):
            make_file(path)
    except OSError as error:
        raise DatabaseUnavailable(f"{path} can't be created ({error.strerror}); name another file with --db") from error


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


def _engine(url: URL, *, read_only: bool) -> Engine:
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
        connection.set_progress_handler(_let_signals_in, _STEPS_BETWEEN_SIGNALS)
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


def _let_signals_in() -> int:
    """SQLite's progress handler. Python runs pending signal handlers in it, and their exceptions end the statement.

    Without it, a signal would only be handled when the statement ends, which may be never for a recursive query.
    """
    return 0


def raise_interrupt(error: BaseException | None) -> None:
    """Raise a signal handler's exception again if SQLite converted it to an error of its own.

    Raises:
        KeyboardInterrupt: a signal ended the statement, in the progress handler or in `_sha256`.
    """
    if isinstance(error, sqlite3.OperationalError) and (
        error.sqlite_errorname == "SQLITE_INTERRUPT" or "user-defined function raised exception" in str(error)
    ):
        raise KeyboardInterrupt from error


def _sha256(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.sha256(content).digest()


def _use_write_ahead_log(engine: Engine) -> None:
    """Switch the file to WAL mode. This changes the file, so it must be known to be a store."""
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
    """Translate database errors into `StoreError` with advice for the user, or into a signal's KeyboardInterrupt."""
    try:
        yield
    except StoreError:
        raise
    except DBAPIError as error:
        raise_interrupt(error.orig)
        mapped = _mapped(error.orig, url)
        if error.connection_invalidated:
            raise ServerLost(str(mapped)) from error
        raise mapped from error
    except sqlite3.Error as error:
        raise_interrupt(error)
        raise _mapped(error, url) from error
    except UnicodeDecodeError as error:
        # SQLite's message about a damaged schema quotes bytes that Python's driver can't decode.
        if url.get_backend_name() != "sqlite":
            raise
        raise _mapped(sqlite3.DatabaseError("malformed database schema"), url) from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database call failed ({error}); please report this") from error


_SQLITE_ERRORS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("file is not a database", NotAStore, "is not a SQLite database; name another file with --db"),
    ("malformed", NotAStore, "is damaged; restore it from a backup (see 'thumbtune db backup')"),
    (
        "readonly database",
        DatabaseUnavailable,
        "is read-only; check the permissions of the file, its -wal and -shm files, and the folder",
    ),
    (
        "unable to open",
        DatabaseUnavailable,
        "can't be opened; check that the path exists and is readable and writable",
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
        "is locked by another program; run the command again when that program has finished",
    ),
)


# By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), because messages are localised.
_POSTGRES_ERRORS: dict[str, tuple[str, str]] = {
    "25006": ("is read-only", "use a primary server instead of a standby, or grant write permission"),
    "40001": ("was changed by another program at the same time", "run the command again"),
    "40P01": ("was changed by another program at the same time", "run the command again"),
    "42501": ("denied permission to this user", "grant the privileges, or connect as the owner of the tables"),
    "53100": ("can't grow: the server's disk is full", "make room and run the command again"),
    "55P03": ("is locked by another program", "run the command again when that program has finished"),
    "57014": ("exceeded the server's statement timeout", "raise statement_timeout, or run the command again"),
}


def _mapped(error: BaseException | None, url: URL) -> StoreError:
    text = str(error)
    whole = url.render_as_string(hide_password=False)
    where = shown_url(whole)
    first_line = shown_message(next((line.strip() for line in text.splitlines() if line.strip()), "no message"), whole)
    if url.get_backend_name() == "sqlite":
        described = f"{text} {getattr(error, 'sqlite_errorname', '')}".lower()
        for needle, kind, advice in _SQLITE_ERRORS:
            if needle in described:
                hint = advice_on_log(Path(url.database or "")) if needle == "malformed" else ""
                return kind(f"the store {url.database} {advice}{hint and '; '}{hint}")
        return StoreError(f"the store {url.database} rejected a statement ({first_line}); please report this")
    known = _POSTGRES_ERRORS.get(getattr(error, "sqlstate", None) or "")
    if known:
        return DatabaseUnavailable(f"{where} {known[0]} ({first_line}); {known[1]}")
    if any(
        word in text
        for word in ("connection", "connect", "could not translate", "resolve host", "authentication", "does not exist")
    ):
        return DatabaseUnavailable(f"{where} can't be used ({first_line}); check the URL and the server")
    return StoreError(f"{where} rejected a statement ({first_line}); please report this")


def advice_on_log(path: Path) -> str:
    """Advice for a damaged file that has a write-ahead log; empty if it has none.

    A killed process leaves its log, and SQLite applies that log to a file that later gets the same name.
    """
    log = Path(f"{path}-wal")
    if not log.exists() or not log.stat().st_size:
        return ""
    return f"if the file was just copied there, delete {log} and {path}-shm of the previous file and copy it again"


def rows_as_dicts(session: Session, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    """Run a trusted SELECT with `:name` parameters and return its rows as dictionaries, keyed by column."""
    return [dict(row) for row in session.execute(text(sql), parameters).mappings()]
