"""A model's files on this machine, their digest, and what the store keeps under that digest."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from store.db import Database
from store.training import ModelFacts, read_known_model, write_known_model
from trainer.models.hub_names import cached_folder

__all__ = ["agreed", "compare_once", "files_digest", "files_folder", "local_folder", "remember"]

_READERS = ("pillow", "sentence-transformers", "tokenizers", "torchvision", "transformers")
"""Packages whose versions may change how a model's files are read."""


def files_digest(name: str) -> str | None:
    """Return the SHA-256 (hex) of the paths, sizes, times and inodes of a model's files, and the libraries' versions.

    Like git's index (https://git-scm.com/docs/racy-git), this does not read the files: reading gigabytes would take
    longer than the work that it saves.

    Returns:
        The digest; None for a model whose files are not on this machine.
    """
    folder = files_folder(name)
    if folder is None:
        return None
    digest = hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape"))
    for reader in _READERS:
        digest.update(f"{reader} {_version(reader)}\n".encode())
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                at = path.stat()
                state = (str(path.relative_to(folder)), at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino)
                digest.update(repr(state).encode())
    except OSError:
        # A file was removed in the meantime, or can't be read.
        return None
    return digest.hexdigest()


def local_folder(name: str) -> Path | None:
    """Return the folder that `name` refers to, without checking its contents; None if it does not exist."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):
        # Not a valid path. `model_folder` reports the error when the model is loaded.
        return None


def files_folder(name: str) -> Path | None:
    """Return the folder of a model's files: the folder `name`, or the model's folder in the hub's local cache."""
    folder = local_folder(name)
    if folder is not None:
        return folder
    return cached_folder(name)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _plain_key(files: str) -> str:
    return hashlib.sha256(f"{files} plain".encode()).hexdigest()


def agreed(database: Database, files: str) -> bool:
    """Whether the plain model and the libraries gave the same vectors for these files. False if not compared yet."""
    with database.read() as session:
        row = read_known_model(session, _plain_key(files))
    return row is not None and bool(row.facts.get("agrees"))


def compare_once(database: Database, files: str | None, agrees: Callable[[], bool]) -> None:
    """Save the result of a comparison with the libraries, once for each digest of the files."""
    if database.unwritable or files is None:
        return
    with database.read() as session:
        if read_known_model(session, _plain_key(files)) is not None:
            return
    remember(database, _plain_key(files), ModelFacts("", {"agrees": agrees()}, None))


def remember(database: Database, files: str, facts: ModelFacts) -> None:
    """Save facts about a model, unless the store can't be written."""
    if not database.unwritable:
        database.transact(lambda session: write_known_model(session, files, facts))
