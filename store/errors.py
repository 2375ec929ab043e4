"""Errors of the store.

StoreError                     the base class
├── BadDatabaseUrl             the URL is invalid or names an unsupported database (exit code 2)
├── BadPicturesUrl             THUMBTUNE_PICTURES is invalid, or not where the store's thumbnails are (exit code 2)
├── DatabaseUnavailable        the database can't be used now (missing folder, server down, read-only, locked, full)
│   └── ServerLost             the connection to PostgreSQL was lost in a transaction
├── NotAStore                  the file or database is not a thumbtune store, or is damaged
├── StoreTooNew                a newer version of thumbtune migrated the schema
├── StoreTooOld                the schema needs `thumbtune db upgrade`
├── PicturesUnavailable        the folder or bucket of the thumbnails can't be used now
├── PictureDamaged             a stored thumbnail does not match its digest
├── AmbiguousHandle            several channels have the handle (exit code 2)
├── NotFound                   no row has the given id
├── ContentRemoved             titles and thumbnails of a snapshot were deleted with their channel
├── InUse                      a running process needs the data to be deleted
└── BadQuery                   the user's SQL statement fails or would write (exit code 2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = [
    "AmbiguousHandle",
    "BadDatabaseUrl",
    "BadPicturesUrl",
    "BadQuery",
    "ContentRemoved",
    "DatabaseUnavailable",
    "InUse",
    "NotAStore",
    "NotFound",
    "PicturesUnavailable",
    "ServerLost",
    "StoreError",
    "StoreTooNew",
    "StoreTooOld",
    "panics_as_errors",
]


class StoreError(Exception):
    """Base class of the store's errors. Messages have the form `what happened; what to do`."""

    exit_code = 1


class BadDatabaseUrl(StoreError):
    """The database URL is invalid, or names an unsupported database."""

    exit_code = 2


class BadPicturesUrl(StoreError):
    """THUMBTUNE_PICTURES is invalid, or does not name the place that holds the store's thumbnails."""

    exit_code = 2


class DatabaseUnavailable(StoreError):
    """The database can't be opened, read or written now."""


class ServerLost(DatabaseUnavailable):
    """The connection to PostgreSQL was lost during a transaction, which may be repeated."""


class NotAStore(StoreError):
    """The file or database is damaged, or is not a thumbtune store."""


class StoreTooNew(StoreError):
    """The schema revision is unknown to this version of thumbtune."""


class StoreTooOld(StoreError):
    """The schema is outdated, and the store was opened without permission to migrate it."""


class PicturesUnavailable(StoreError):
    """The folder or bucket of the thumbnails can't be read or written now, or is not this store's."""


class PictureDamaged(StoreError):
    """The bytes of a stored thumbnail do not match its digest."""


class AmbiguousHandle(StoreError):
    """Several channels in the store have the same handle."""

    exit_code = 2


class NotFound(StoreError):
    """A row with the given id does not exist."""


class ContentRemoved(StoreError):
    """Titles and thumbnails of a snapshot were deleted with their channel."""


class InUse(StoreError):
    """A running process needs the data to be deleted."""


class BadQuery(StoreError):
    """The user's SQL statement fails or would write."""

    exit_code = 2


@contextmanager
def panics_as_errors(error_of: Callable[[str], Exception] = RuntimeError) -> Iterator[None]:
    """Convert a panic of a Rust library to an error. PyO3's PanicException is not an `Exception`, nor public.

    Args:
        error_of: returns the error, given a text that says what happened.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise error_of(f"a library panicked: {error}") from error
        raise
