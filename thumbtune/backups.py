"""Back up and restore an SQLite store with its trained models. Each backup is a folder named by its time."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from store.db import Database, backup, open_database, outside_files
from store.errors import DatabaseUnavailable, StoreError
from store.types import utc_now
from store.urls import shown_url, sqlite_url

__all__ = ["Backup", "backup_into", "restore_from"]

STORE, MODELS = "thumbtune.db", "thumbtune-models"
_NAME = re.compile(r"thumbtune-\d{8}T\d{6}Z(-\d+)?")


@dataclass(frozen=True)
class Backup:
    """A backup's folder, its number of model files, the older backups that were deleted."""

    folder: Path
    models: int
    deleted: tuple[Path, ...] = ()
    pictures: str = ""
    """Where the thumbnails of a restored store are, if they are not in it."""


def backup_into(database: Database, place: Path, keep: int | None = None) -> Backup:
    """Copy a store and its models into a new folder in `place`. The folder is renamed to its final name when complete.

    Args:
        database: an SQLite store, opened for reading.
        place: the folder of all backups; created if missing.
        keep: the number of newest backups to keep; None deletes none. Only folders with a backup's name are deleted.

    Raises:
        StoreError: the store is on PostgreSQL.
        DatabaseUnavailable: the copy can't be written.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".thumbtune-", dir=place) as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            backup(database, new / STORE)
            # Copied after the store, so that every run in the copy has its file.
            models = _copy_models(_models_beside(database.path), new / MODELS)
            folder = new.rename(_new_name(place))
        deleted = [] if keep is None else _ours(place)[:-keep]
        for old in deleted:
            shutil.rmtree(old)
    except OSError as error:
        raise DatabaseUnavailable(
            f"{place} can't be written ({error.strerror or error}); name another folder"
        ) from error
    return Backup(folder, models, tuple(deleted))


def restore_from(folder: Path, url: str) -> Backup:
    """Restore a store and its models.

    Args:
        folder: a backup; a folder of backups, of which the newest is restored; or a copy of a store alone, a file.
        url: the SQLite URL of the restored store.

    Raises:
        StoreError: there is no backup; the store is on PostgreSQL; or a file or folder exists at a target path.
        DatabaseUnavailable: the copy can't be written.
    """
    source = folder if folder.is_file() or (folder / STORE).is_file() else next(reversed(_ours(folder)), folder)
    copy = source if source.is_file() else source / STORE
    if not copy.is_file():
        raise StoreError(f"{folder} has no backup; name a folder that 'thumbtune db backup DIR' made")
    store = _path_of(url)
    for existing in (store, store.with_name(f"{store.name}-wal"), store.with_name(f"{store.name}-shm")):
        if existing.exists():
            raise StoreError(f"{existing} exists already; move it away, or restore to another --db")
    # Detect a damaged or foreign file before it is copied.
    with open_database(sqlite_url(copy), read_only=True, any_revision=True) as database:
        pictures = outside_files(database)
    models = _models_beside(store)
    if source.is_dir() and models.is_dir() and any(models.iterdir()):
        raise StoreError(f"{models} has files already; move them away")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        number = _copy_models(source / MODELS, models) if source.is_dir() else 0
        with tempfile.TemporaryDirectory(prefix=".thumbtune-", dir=store.parent) as scratch:
            whole = Path(scratch) / STORE
            shutil.copy2(copy, whole)
            whole.rename(store)
    except OSError as error:
        raise DatabaseUnavailable(
            f"{store} can't be written ({error.strerror or error}); name another store with --db"
        ) from error
    return Backup(source, number, pictures=pictures)


def _models_beside(store: Path | None) -> Path:
    """The folder of a store's models, as in `trainer.artifacts.models_dir`, but without the training stack."""
    named = os.environ.get("THUMBTUNE_MODELS")
    return Path(named).expanduser() if named else (Path() if store is None else store.parent) / MODELS


def _path_of(url: str) -> Path:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is not a number
        raise StoreError(f"{shown_url(url)!r} is not a database URL; write sqlite:///FILE") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise StoreError("a PostgreSQL store is restored by PostgreSQL's own tools; run pg_restore")
    return Path(parsed.database)


def _copy_models(source: Path, target: Path) -> int:
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else []
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy2(file, target / file.name)
    return len(files)


def _new_name(place: Path) -> Path:
    name = f"thumbtune-{utc_now():%Y%m%dT%H%M%SZ}"
    names = [name, *(f"{name}-{number}" for number in range(2, 100))]
    return next(place / one for one in names if not (place / one).exists())


def _ours(place: Path) -> list[Path]:
    """The backups in a folder, oldest first."""
    return sorted(path for path in place.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))
