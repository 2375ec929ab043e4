"""Reads a channel from a folder with `videos.json` and `thumbnails/ID.jpg`."""

from __future__ import annotations

import json
import re
import zlib
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from
from thumbtune.standin.errors import FolderError

__all__ = ["duration_from", "handle_from", "load_folder"]

_NOT_IN_HANDLES = re.compile(r"""[\s@/\\?#&=%<>"'`:;,!*+$^~|()\[\]{}-]+""")
_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}")


def load_folder(path: str | Path) -> Catalogue:
    """Read a channel folder. Thumbnails are read only when they are requested.

    `videos.json` is a list of objects with `id` (11 characters, like YouTube's), `title` and `published` (ISO 8601;
    UTC by default), and optionally `description` and `tags`. Each video's 480x360 thumbnail is `thumbnails/ID.jpg`. The
    format has no durations, so they come from `duration_from`. The channel's id, handle and title are derived from the
    folder's name, so that a folder is always the same channel.

    Raises:
        FolderError: a file is missing, unreadable or invalid; the message names it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FolderError(f"{folder} is not a folder; give a folder with videos.json and thumbnails/ID.jpg")
    name = folder.resolve().name or "channel"
    catalogue = Catalogue(channel_id_from(name), handle_from(name), name)
    videos: dict[str, StandInVideo] = {}
    for number, entry in enumerate(_entries(folder / "videos.json")):
        video = _video(folder, f"{folder / 'videos.json'}, entry {number}", entry)
        if video.id in videos:
            raise FolderError(f"{folder / 'videos.json'} has two entries with the id {video.id!r}; remove one")
        videos[video.id] = video
    catalogue.publish(*videos.values())
    return catalogue


def duration_from(video_id: str) -> int:
    """Return a plausible duration from the CRC-32 of the video's id: 182 to 1,200 seconds.

    A video of 181 seconds could be a Short.
    """
    return max(182, 181 + zlib.crc32(video_id.encode("utf-8")) % 1020)


def _entries(file: Path) -> list[Any]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FolderError(f"{file} is missing; it lists the channel's videos, as README.md, 'Try it', shows") from None
    except OSError as error:
        raise FolderError(f"{file} can't be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError and far too deep a nesting
        raise FolderError(f"{file} is not valid JSON: {error}; repair it") from error
    if not isinstance(entries, list) or not entries:
        raise FolderError(f"{file} is not a list of one or more videos; README.md, 'Try it', shows the format")
    return entries


def _video(folder: Path, where: str, entry: Any) -> StandInVideo:
    if not isinstance(entry, dict):
        raise FolderError(f"{where} is not an object but {type(entry).__name__}; write id, title and published")
    video_id = _text(entry, "id", where)
    if not _VIDEO_ID.fullmatch(video_id):
        raise FolderError(f"{where}: {video_id!r} is not a video id; use 11 characters of A-Z, a-z, 0-9, - and _")
    picture = folder / "thumbnails" / f"{video_id}.jpg"
    if not picture.is_file():
        raise FolderError(f"{picture} is missing; every video in videos.json needs its 480x360 thumbnail")
    tags = entry.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise FolderError(f"{where}: tags is not a list of strings; correct it")
    return StandInVideo(
        id=video_id,
        title=_text(entry, "title", where),
        published_at=_time(_text(entry, "published", where), where),
        duration_s=duration_from(video_id),
        picture=partial(_read_picture, picture),
        description=_text(entry, "description", where) if entry.get("description") is not None else "",
        tags=tuple(tags),
    )


def _read_picture(file: Path) -> bytes:
    return file.read_bytes()


def _text(entry: dict[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise FolderError(f"{where}: {name} is {'missing; add it' if value is None else 'not a string; correct it'}")
    return value


def _time(text: str, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise FolderError(f"{where}: published is {text!r}; write it like 2017-04-10 13:06:04-07:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def handle_from(name: str) -> str:
    """Return a valid handle: `@` and 3 to 30 characters, letters of any script among them."""
    letters = (char if char.isprintable() else "-" for char in name.lower())
    handle = _NOT_IN_HANDLES.sub("-", "".join(letters)).strip("-._")[:30].strip("-._")
    return "@" + (handle if len(handle) >= 3 else f"{handle}-channel".strip("-"))
