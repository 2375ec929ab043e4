"""The picture that a user asks about: an image file, or the thumbnail of a video in the store."""

from __future__ import annotations

import errno
import hashlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from store.db import Database
from store.training import find_video
from store.types import DECODER_ERRORS, MAX_PICTURE_PIXELS, PICTURE_FORMATS
from trainer.data import StoredPictures, displayed
from trainer.errors import BadSetting

__all__ = ["QueryPicture", "open_picture", "read_picture", "stored_picture"]

_MAX_BYTES = 200_000_000
_FORMATS = (*PICTURE_FORMATS, "BMP")
_MILLIONS = MAX_PICTURE_PIXELS // 1_000_000
_KINDS = "JPEG, PNG, WebP, GIF or BMP"


@dataclass(frozen=True)
class QueryPicture:
    """A decoded picture; also the `PictureSource` that an embedder takes it from.

    Args:
        name: as the user gave it.
        digest: SHA-256 of the file, in hex.
        image: RGB; of a file, what an image viewer shows of it (`trainer.data.viewer`).
        video_id: the video that was named, or None for a file.
        title: that video's title.
    """

    name: str
    digest: str
    image: Image.Image
    video_id: str | None = None
    title: str | None = None

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        """The picture, once for each digest asked for: it is the only one here."""
        return [self.image for _ in digests]


def open_picture(database: Database, name: str) -> QueryPicture:
    """Read and decode what `name` means: a file if there is one, else the present thumbnail of the video with this id.

    Raises:
        BadSetting: neither a file nor a video in the store; a folder; a video without a picture; a file that can't be
            read or decoded, or is larger than `MAX_PICTURE_PIXELS`.
        BadPicture: the store's own picture can't be decoded.
    """
    path = Path(name)
    video_id = id_in(name)
    try:
        # The path of an empty name would be this folder.
        is_there = bool(name) and path.exists()
        is_folder = is_there and path.is_dir()
    except (OSError, ValueError):
        # A name that no file can have: too long, or with a NUL.
        is_folder = is_there = False
    if is_there and not is_folder:
        return _from_file(path, name)
    found = stored_picture(database, video_id)
    if found is not None:
        return found
    if is_folder:
        raise BadSetting(f"{name} is a folder; name a picture's file, or the id of a video in the store")
    raise BadSetting(f"{name!r} is neither a file nor a video in the store; check the path or the video's id")


_LINK = re.compile(
    r"(?:https?://)?(?:(?:www\.|m\.|music\.)?youtube(?:-nocookie)?\.com/"
    r"(?:watch\?(?:[^#]*&)?v=|(?:shorts|live|embed|v)/)|youtu\.be/)([A-Za-z0-9_-]{11})(?:[?&#/].*)?"
)


def id_in(name: str) -> str:
    """Return the id of the video that a YouTube address belongs to; any other text as it is."""
    found = _LINK.fullmatch(name.strip())
    return name if found is None else found[1]


def stored_picture(database: Database, video_id: str) -> QueryPicture | None:
    """Read and decode the present thumbnail of a video; None if the store has no such video.

    Raises:
        BadSetting: the video has no picture yet.
        BadPicture: the picture can't be decoded.
    """
    with database.read() as session:
        video = find_video(session, video_id) if _can_be_asked(video_id) else None
    if video is None:
        return None
    title, digest = video
    if digest is None:
        raise BadSetting(f"video {video_id} has no picture in the store yet; run 'thumbtune sync', or name a file")
    return QueryPicture(video_id, digest, StoredPictures(database).load([digest])[0], video_id, title)


def _can_be_asked(name: str) -> bool:
    """Whether a database takes this text: PostgreSQL refuses NUL, and both refuse what is not Unicode."""
    return "\0" not in name and not any("\ud800" <= char <= "\udfff" for char in name)


def _from_file(path: Path, name: str) -> QueryPicture:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = "permission denied" if error.errno in (errno.EACCES, errno.EPERM) else str(error.strerror or error)
        raise BadSetting(f"{name} can't be read ({reason}); check the file, or name another") from error
    if len(content) > _MAX_BYTES:
        raise BadSetting(f"{name} is larger than {_MAX_BYTES // 1_000_000} MB; name a smaller picture")
    return read_picture(content, name)


def read_picture(content: bytes, name: str) -> QueryPicture:
    """Decode a file's content.

    Args:
        content: the file.
        name: what errors call it.

    Raises:
        BadSetting: it can't be decoded, or is larger than `MAX_PICTURE_PIXELS`.
    """
    with warnings.catch_warnings():
        # What is wrong with the file is told by an error or not at all; Pillow also warns of less than we refuse.
        warnings.simplefilter("ignore")
        width, height = _size(content, name)
        if width * height > MAX_PICTURE_PIXELS:
            raise BadSetting(f"{name} has {width} x {height} pixels, more than {_MILLIONS} million; make it smaller")
        image = _decoded(content, name)
    return QueryPicture(name, hashlib.sha256(content).hexdigest(), image)


def _size(content: bytes, name: str) -> tuple[int, int]:
    """Width and height by the file's header; only formats that Pillow decodes by itself are opened."""
    if not content:
        raise BadSetting(f"{name} is empty; name a picture ({_KINDS})")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise BadSetting(f"{name} has more than {_MILLIONS} million pixels; make it smaller") from error
    except DECODER_ERRORS as error:
        raise BadSetting(f"{name} is not a picture that can be read; name a {_KINDS} file") from error


def _decoded(content: bytes, name: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return displayed(image)
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise BadSetting(f"{name} can't be decoded ({error}); save it anew, or name another file") from error
