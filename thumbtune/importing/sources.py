"""The sources of an import, read row by row: folders of thumbnails with a list, tables, and Hugging Face datasets."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from store.types import storable
from store.video_links import video_id_in
from thumbtune.importing.reading import BadRow, ImportFailed, read_entries

__all__ = ["Row", "Source", "open_source"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_NESTED_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Tables anywhere in a folder; its JSON files may be settings."""
LISTS = ("videos.json", "metadata.csv", "metadata.jsonl", "metadata.parquet")
"""The file names that may list the thumbnails of a folder."""

# {field: the names of its column; the first that exists is used}.
COLUMNS = {
    "id": ("id", "video_id"),
    "title": ("title", "positive", "text", "caption"),
    "picture": (
        "picture",
        "image",
        "thumbnail",
        "anchor",
        "file_name",
        "file",
        "path",
        "image_path",
        "thumbnail_url",
        "image_url",
        "url",
    ),
    "published": ("published", "published_at", "upload_date", "date"),
    "duration": ("duration_s", "duration"),
    "channel": ("channel_id", "channel", "channel_handle", "handle", "channel_name"),
    "channel_title": ("channel_handle", "handle", "channel", "channel_name"),
    "tags": ("tags",),
}

_MEANT = {"title": "title", "picture": "thumbnail"}
"""{required field: its name in messages}."""

_OF_YOUTUBE = re.compile(
    r"/vi(?:_webp)?/([A-Za-z0-9_-]{11})/|(?:youtu\.be/|[?&]v=)([A-Za-z0-9_-]{11})(?![A-Za-z0-9_-])"
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Row:
    """A pair to import.

    Args:
        where: the file and the row, for messages.
        title: the title to store.
        picture: a file, its bytes, or a URL.
        id: the video's id, or None.
        published_at: UTC, or None.
        channel: the channel's id, handle or name, or None for the source's own channel.
        channel_title: a handle or title of a channel that is named by its id, or None.
        duration_s: the video's duration in seconds, or None.
        tags: the video's tags.
        key: identifies the thumbnail of a row without an id.
    """

    where: str
    title: str
    picture: Path | bytes | str
    id: str | None = None
    published_at: datetime | None = None
    channel: str | None = None
    channel_title: str | None = None
    duration_s: int | None = None
    tags: tuple[str, ...] = ()
    key: bytes = b""


@dataclass(frozen=True)
class Source:
    """A source: its name, from which the channel's name is derived, and its rows, or the error of a row."""

    name: str
    rows: Iterable[Row | tuple[str, BadRow]]


def open_source(source: str) -> Source:
    """Detect the kind of `source`; its rows are read lazily.

    Args:
        source: a folder with `videos.json`, `metadata.csv`, `metadata.jsonl` or tables; a `datasets` folder; a CSV,
            JSON, JSON-lines or Parquet file; or the name of a dataset on the Hugging Face Hub.

    Raises:
        ImportFailed: the source is of another kind, can't be read, or has no title or picture column.
    """
    if not source.strip():
        raise ImportFailed("SOURCE is empty; name a file or a folder, or '.' for the current folder")
    path = Path(source)
    if path.is_dir():
        name = path.resolve().name
        return Source(name, _checked(_Place(name, path, path), _of_folder(path)))
    if path.is_file():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise ImportFailed(
                f"{source} can't be imported; name a file ending in {', '.join(TABLE_SUFFIXES)}, a folder, or a dataset"
            )
        return Source(path.stem, _checked(_Place(path.stem, path.parent, path.parent), [path]))
    if _HUB_NAME.fullmatch(source):
        folder, name = _downloaded(source), source.replace("/", "-")
        # In the hub's cache, the files are links to another folder beside it.
        return Source(name, _checked(_Place(name, folder, folder.parents[1]), _of_folder(folder)))
    raise ImportFailed(
        f"there is no file or folder {source}, and it is not the name of a dataset (OWNER/NAME); check the path"
    )


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (slow to import)
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    patterns = [f"*{suffix}" for suffix in (*TABLE_SUFFIXES, *IMAGE_SUFFIXES, ".arrow")]
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:  # ValueError: the hub has no such names
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportFailed(f"there is no folder {name}, and the dataset can't be downloaded ({reason})") from error


def _of_folder(folder: Path) -> list[Path]:
    """The files in a folder that list its pairs."""
    listed = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    if listed is not None:
        return [listed]
    if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
        return [folder]
    # As in a dataset on the hub: in the folder itself, in `data`, or in a folder for each split.
    nested = sorted(path for name in LISTS[1:] for path in folder.glob(f"*/{name}"))
    tables = nested or sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in _NESTED_SUFFIXES and path.is_file()
    )
    if not tables:
        raise ImportFailed(
            f"{folder} contains no {', '.join(LISTS)}, no other table and no saved dataset; name another folder"
        )
    return tables


@dataclass(frozen=True)
class _Place:
    """The location of a source's files: its name, its folder, and the folder that must contain all files."""

    name: str
    folder: Path
    root: Path


def _checked(place: _Place, files: list[Path]) -> Iterator[Row | tuple[str, BadRow]]:
    """Yield all rows. The first row's columns are checked now, so that a table without titles fails before any work."""
    rows = (row for file in files for row in _rows_of(place.folder, file))
    first: list[tuple[str, Any, Path]] = []  # up to the first row that can be read
    for row in rows:
        first.append(row)
        if not isinstance(row[1], BadRow):
            break
    if not first:
        raise ImportFailed(f"{files[0]} has no rows; name another file")
    entry = first[-1][1]
    if isinstance(entry, BadRow):
        raise ImportFailed(f"{files[0]} has no row that can be read ({first[0][0]}: {first[0][1]}); repair the file")
    if not isinstance(entry, Mapping):
        raise ImportFailed(f"{files[0]} must be a list of objects, each with a title and a thumbnail")
    from_list = files[0].name == "videos.json"
    for what in ("title",) if from_list else ("title", "picture"):
        if _column(entry, what) is None:
            raise ImportFailed(
                f"{files[0]} has no column with the {_MEANT[what]}, only {', '.join(map(str, entry))}; rename one to "
                f"{COLUMNS[what][0]}"
            )

    def each() -> Iterator[Row | tuple[str, BadRow]]:
        for where, entry, base in itertools.chain(first, rows):
            try:
                yield _row(where, entry, base, place)
            except BadRow as bad:
                yield where, bad

    return each()


def _rows_of(folder: Path, file: Path) -> Iterator[tuple[str, Any, Path]]:
    """Yield (where, entry, folder of the pictures) for each row of a file."""
    if file.is_dir():
        yield from _saved_dataset(file)
        return
    name = str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name
    for number, entry in enumerate(read_entries(file, lambda entry: _column(entry, "title") is not None), start=1):
        yield f"{name}, row {number}", entry, file.parent


def _saved_dataset(folder: Path) -> Iterator[tuple[str, Any, Path]]:
    from datasets import DatasetDict, Image, load_from_disk  # noqa: PLC0415 (slow to import)

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise ImportFailed(f"{folder} can't be read as a saved dataset ({error})") from error
    parts = loaded if isinstance(loaded, DatasetDict) else {"dataset": loaded}
    for split, part in parts.items():
        for name, feature in part.features.items():
            if isinstance(feature, Image):
                part = part.cast_column(name, Image(decode=False))  # noqa: PLW2901
        for number, entry in enumerate(part, start=1):
            yield f"{split}, row {number}", entry, folder


def _column(entry: Mapping[str, Any], what: str) -> str | None:
    by_name = {str(name).strip().lower(): name for name in entry}
    return next((by_name[name] for name in COLUMNS[what] if name in by_name), None)


def _row(where: str, entry: Any, base: Path, place: _Place) -> Row:
    if isinstance(entry, BadRow):
        raise entry
    if not isinstance(entry, Mapping):
        raise BadRow(f"it must be an object, not {type(entry).__name__}")
    values = {what: None if (name := _column(entry, what)) is None else _given(entry[name]) for what in COLUMNS}
    title = values["title"]
    if not isinstance(title, str) or not title.strip():
        raise BadRow("it has no title")
    id_ = _id(values["id"])
    picture = _picture(values["picture"], id_, base, place.root)
    if id_ is None and isinstance(picture, str) and (found := _OF_YOUTUBE.search(picture)):
        id_ = found[1] or found[2]
    return Row(
        where,
        storable(title.strip()),
        picture,
        id_,
        _time(values["published"]),
        _text(values["channel"]),
        _text(values["channel_title"]),
        _seconds(values["duration"]),
        _tags(values["tags"]),
        _key(picture, place),
    )


def _key(picture: Path | bytes | str, place: _Place) -> bytes:
    """Return what identifies a thumbnail: the source's name and the path in its folder, the URL, or the bytes."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).digest()
    if isinstance(picture, Path):
        picture = f"{place.name}/{Path(os.path.relpath(picture, place.folder)).as_posix()}"
    return picture.encode("utf-8", "surrogateescape")


def _given(value: Any) -> Any:
    """Return a cell's value; None for NaN, which pandas writes for a missing value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _id(value: Any) -> str | None:
    text = _text(value)
    id_ = text and (video_id_in(text) or text)
    if id_ is not None and (len(id_) > 64 or not id_.isprintable() or re.search(r"[\s/\\]", id_)):
        raise BadRow(f"the id {id_[:70]!r} has spaces or slashes, or is too long")
    return id_


def _text(value: Any) -> str | None:
    return storable(str(value)).strip() or None if value is not None else None


def _picture(value: Any, id_: str | None, base: Path, root: Path) -> Path | bytes | str:
    if isinstance(value, Mapping):  # an Image of the datasets library
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    text = None if value is None else str(value).strip()  # a file name may be any bytes, as surrogates
    if not text and id_ is not None:
        found = _beside(base, id_)
        if found is None:
            raise BadRow(f"thumbnails/{id_}.jpg is missing")
        return found
    if not text:
        raise BadRow("it has no thumbnail")
    if text.lower().startswith(("http://", "https://")):
        return storable(text)
    file = base / text
    try:
        # The list may come from an untrusted source, so only files in the source's folder are read.
        if not file.resolve().is_relative_to(root.resolve()):
            raise BadRow(f"{text[:70]} is outside {root}")
        is_there = file.is_file()
    except (OSError, RuntimeError, ValueError):  # no file name: too long, or with a NUL; or a loop of links
        is_there = False
    if not is_there:
        raise BadRow(f"{text[:70]} is missing")
    return file


def _beside(base: Path, id_: str) -> Path | None:
    if "/" in id_ or "\\" in id_:
        return None
    places = (folder / f"{id_}{suffix}" for folder in (base / "thumbnails", base) for suffix in IMAGE_SUFFIXES)
    return next((place for place in places if place.is_file()), None)


def _time(value: Any) -> datetime | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value is None or value == "":
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRow(f"its date is {str(value)[:70]!r}; write it like 2024-05-01T17:00:00Z") from None


def _seconds(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        seconds = int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise BadRow(f"its duration is {value!r}; write it in seconds") from None
    if not 0 <= seconds < 10_000_000:
        raise BadRow(f"its duration is {value!r}; write it in seconds")
    return seconds


def _tags(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [tag.strip() for tag in value.split(",")]
    return tuple(storable(tag) for tag in value if isinstance(tag, str) and tag) if isinstance(value, Iterable) else ()
