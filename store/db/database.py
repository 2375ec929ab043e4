"""An open store: sessions and transactions, waiting for a lost server, and how a store is opened and migrated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Dialect, Engine, Result, event, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import ORMExecuteState, Session

from store.db.driver_errors import mapped_errors
from store.db.engine import make_engine, parse_url, use_write_ahead_log
from store.db.migrate import bring_up_to_date, require_current
from store.db.sqlite_file import file_id, make_file, mark_of, require_safe_journal, why_not_writable
from store.errors import DatabaseUnavailable, NotAStore, ServerLost, StoreError, StoreTooOld
from store.tables import PicturePlace
from store.urls import shown_url

__all__ = ["Database", "PicturesAt", "open_database", "rows_as_dicts"]

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
    file: tuple[int, int] | None = None
    """The device and inode of a SQLite file, as of the opening of the store."""

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
        self._require_same_file()

    def _require_same_file(self) -> None:
        """Fail if the file was deleted, moved or replaced: SQLite would write to the old one, and nobody would notice.

        The same comparison as SQLite's SQLITE_READONLY_DBMOVED, which it does not make with a write-ahead log.
        """
        path = self.path
        if self.file is not None and path is not None and file_id(path) != self.file:
            raise DatabaseUnavailable(
                f"the store {path} was deleted, moved or replaced while this command wrote to it, so what it wrote "
                "may be lost; if another file is there now, run 'thumbtune db check'; run the command again"
            )

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
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        _check_file(parsed, create=create and not read_only)
    unwritable = why_not_writable(Path(parsed.database or "")) if parsed.get_backend_name() == "sqlite" else ""
    engine = make_engine(parsed, read_only=read_only or bool(unwritable))
    database = Database(engine, parsed, unwritable)
    try:
        with mapped_errors(parsed):
            is_current = True
            if read_only or unwritable:
                is_current = _is_current(engine, unwritable, any_revision=any_revision)
            else:
                bring_up_to_date(engine, create=create)
                if database.is_sqlite:
                    use_write_ahead_log(engine)
            if database.path is not None:
                database = replace(database, file=file_id(database.path))
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


def rows_as_dicts(session: Session, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    """Run a trusted SELECT with `:name` parameters and return its rows as dictionaries, keyed by column."""
    return [dict(row) for row in session.execute(text(sql), parameters).mappings()]
