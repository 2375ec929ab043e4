"""The settings that a user stores in `thumbtune.toml`, and the source of each value in effect."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from store.urls import shown_file, sqlite_url

__all__ = ["CONFIG_FILE", "BadConfig", "Config", "read_config", "store_url"]

CONFIG_FILE = "thumbtune.toml"
DEFAULT_STORE = "sqlite:///thumbtune.db"
STORE_FILE = "thumbtune.db"
_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_URL = re.compile(r".*://|(?:sqlite|file|postgres\w*)(?:\+\w+)?:", re.DOTALL)
"""A URL, also one that lacks slashes: as a path, it would create a file with that name."""

# {key: type of its value}.
KEYS: Mapping[str, type] = {
    "store": str,
    "channels": list,
    "model": str,
    "thumbnail": str,
    "min_duration": int,
    "listen": str,
    "pictures": str,
}


class BadConfig(Exception):
    """A settings file can't be used; the message names the file and the reason."""

    exit_code = 2


@dataclass(frozen=True)
class Config:
    """The settings in effect.

    Args:
        store: the store's URL.
        values: {key: value} from the settings files; the keys are those of `KEYS` except `store`. THUMBTUNE_PICTURES
            takes precedence for `pictures`.
        sources: {key: source of the value}, including `store`.
    """

    store: str = DEFAULT_STORE
    values: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def defaults(self) -> dict[str, dict[str, Any]]:
        """{command: {parameter: value}}, as click's `default_map`."""
        given = self.values
        of_model = {"model": given["model"]} if "model" in given else {}
        of_sync = {name: given[name] for name in ("thumbnail", "min_duration") if name in given}
        of_watch = {"listen": given["listen"]} if "listen" in given else {}
        return {"train": of_model, "sweep": of_model, "encode": of_model, "sync": of_sync, "watch": of_watch}


def read_config(given: str | None, environment: Mapping[str, str], folder: Path) -> Config:
    """Find the store, and read the settings files in the working folder and beside an SQLite store.

    The store is that of the option or of THUMBTUNE_DB, else that in the file named by THUMBTUNE_DB_FILE, else that in
    the working folder's settings file. If both files set a key, the working folder's value is used.

    Args:
        given: the value of `--db` or THUMBTUNE_DB, or None.
        environment: the environment variables.
        folder: the working folder.

    Raises:
        BadConfig: a file can't be read, or has an unknown key or a value of the wrong type.
    """
    in_folder = _read(folder / CONFIG_FILE)
    if given is not None:
        store, source = store_url(given), "--db or THUMBTUNE_DB"
    elif environment.get("THUMBTUNE_DB_FILE"):
        store, source = store_url(_secret(Path(environment["THUMBTUNE_DB_FILE"]))), "THUMBTUNE_DB_FILE"
    elif "store" in in_folder:
        store, source = store_url(in_folder["store"], folder), str(folder / CONFIG_FILE)
    else:
        store, source = DEFAULT_STORE, "default"
    beside = _beside(store, folder)
    beside_store = {} if beside is None else _read(beside)
    values = {**_placed(beside_store, folder if beside is None else beside.parent), **_placed(in_folder, folder)}
    sources = {**{key: str(beside) for key in beside_store}, **{key: str(folder / CONFIG_FILE) for key in in_folder}}
    if environment.get("THUMBTUNE_PICTURES"):
        values["pictures"], sources["pictures"] = environment["THUMBTUNE_PICTURES"], "THUMBTUNE_PICTURES"
    return Config(store, {key: value for key, value in values.items() if key != "store"}, {**sources, "store": source})


def store_url(text: str, folder: Path | None = None) -> str:
    """Convert `text` to a URL: it is a URL, an SQLite file, or a folder that contains or will contain `thumbtune.db`.

    Args:
        text: the value that the user gave; any other text is returned unchanged. The shell does not replace the `~` of
            `--db=~/FILE` and of settings files, so that is done here.
        folder: the base of a relative path; None for the working folder.
    """
    if text.startswith("sqlite:///~/"):
        return sqlite_url(_at_home(text.removeprefix("sqlite:///")))
    if _URL.match(text) or not text.strip():
        return text
    path = _at_home(text) if folder is None else folder / _at_home(text)
    is_folder = text.endswith(("/", os.sep)) or _is(path, folder=True)
    if is_folder:
        return sqlite_url(path / STORE_FILE)
    return sqlite_url(path) if path.suffix.lower() in _SUFFIXES or _is(path, folder=False) else text


def _at_home(text: str) -> Path:
    return Path.home() / text[2:] if text.startswith("~/") else Path(text)


def _is(path: Path, *, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):
        return False


def _beside(store: str, folder: Path) -> Path | None:
    prefix = "sqlite:///"
    if not store.startswith(prefix):
        return None
    place = (folder / unquote(store.removeprefix(prefix).partition("?")[0])).parent
    return None if _is_same(place, folder) else place / CONFIG_FILE


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, ValueError, RuntimeError):
        return False


def _secret(file: Path) -> str:
    try:
        value = file.read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadConfig(
            f"THUMBTUNE_DB_FILE: {shown_file(str(file))} can't be read ({reason}); check the file"
        ) from error
    if not value:
        raise BadConfig(f"THUMBTUNE_DB_FILE: {file} is empty; write the store's URL to it")
    return value


def _placed(values: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """The values of a settings file in the folder `place`, with the path of a model that is a folder there."""
    if "model" not in values:
        return {**values}
    name = _at_home(values["model"])
    is_there = bool(name.parts) and place != Path() and _is(place / name, folder=True)
    return {**values, "model": str(place / name) if is_there else values["model"] and str(name)}


def _read(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            return {}
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and a path with a NUL
        raise BadConfig(f"{file} is not valid TOML ({error}); repair it") from error
    except OSError as error:
        raise BadConfig(f"{file} can't be read ({error.strerror}); check its permissions") from error
    for key, value in found.items():
        if key not in KEYS:
            raise BadConfig(f"{file} has the unknown setting {key!r}; it takes {', '.join(KEYS)}")
        names = value if isinstance(value, list) else []
        if type(value) is not KEYS[key] or not all(isinstance(name, str) for name in names):
            kind = {str: "a string", int: "a whole number", list: "a list of strings"}[KEYS[key]]
            raise BadConfig(f"{file}: {key} is {value!r}; write {kind}")
    return found
