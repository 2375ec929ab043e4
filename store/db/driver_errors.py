"""Translates the errors of SQLite, PostgreSQL and SQLAlchemy into `StoreError` with advice for the user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from store.errors import DatabaseUnavailable, NotAStore, ServerLost, StoreError
from store.urls import shown_message, shown_url

__all__ = ["advice_on_log", "mapped_errors", "raise_interrupt"]


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
    # An error of Python's driver, which has no error code. Its message quotes the text.
    (
        "could not decode to utf-8",
        NotAStore,
        "is damaged (a text is not UTF-8); restore it from a backup (see 'thumbtune db backup')",
    ),
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


def raise_interrupt(error: BaseException | None) -> None:
    """Raise a signal handler's exception again if SQLite converted it to an error of its own.

    Raises:
        KeyboardInterrupt: a signal ended the statement, in one of the callbacks that `store.db.engine` gives SQLite.
    """
    if isinstance(error, sqlite3.OperationalError) and (
        getattr(error, "sqlite_errorname", None) == "SQLITE_INTERRUPT"
        or "user-defined function raised exception" in str(error)
    ):
        raise KeyboardInterrupt from error
