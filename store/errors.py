"""Errors of the store.

StoreError                     the root: anything the store can't do
├── BadDatabaseUrl             SQLAlchemy can't open the URL
├── DatabaseUnavailable        the database can't be used now (folder missing, server down, read-only, locked, full)
├── NotAStore                  the file or database holds something else, or is damaged
├── StoreTooNew                a newer thumbtune migrated it
├── StoreTooOld                it needs `thumbtune db upgrade` first
├── AmbiguousHandle            several channels have the handle (exit code 2)
├── NotFound                   a row that was asked for by id does not exist
├── ContentRemoved             a snapshot's titles and thumbnails were deleted with their channel
├── InUse                      a running process needs what was to be deleted
└── BadQuery                   a SQL statement that the user gave fails or writes
"""

from __future__ import annotations

__all__ = [
    "AmbiguousHandle",
    "BadDatabaseUrl",
    "BadQuery",
    "ContentRemoved",
    "DatabaseUnavailable",
    "InUse",
    "NotAStore",
    "NotFound",
    "StoreError",
    "StoreTooNew",
    "StoreTooOld",
]


class StoreError(Exception):
    """Root of the store's errors. The message has the form `what happened; what to do`."""

    exit_code = 1


class BadDatabaseUrl(StoreError):
    """The database URL can't be parsed, or names a database that is not supported."""

    exit_code = 2


class DatabaseUnavailable(StoreError):
    """The database can't be opened, read or written now."""


class NotAStore(StoreError):
    """The database is damaged, or holds something that thumbtune did not make."""


class StoreTooNew(StoreError):
    """The schema revision is unknown to this version of thumbtune."""


class StoreTooOld(StoreError):
    """The schema is outdated, and the caller asked not to migrate it."""


class PictureDamaged(StoreError):
    """A stored thumbnail has other bytes than its digest says."""


class AmbiguousHandle(StoreError):
    """Several channels in the store have the handle that should name one."""

    exit_code = 2


class NotFound(StoreError):
    """A row with the given id does not exist."""


class ContentRemoved(StoreError):
    """Titles and thumbnails that a snapshot refers to were deleted with their channel."""


class InUse(StoreError):
    """A process at work needs what was to be deleted."""


class BadQuery(StoreError):
    """A statement given by the user fails or would write."""

    exit_code = 2
