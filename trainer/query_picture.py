"""The picture that a user asks about: an image file, or the thumbnail of a video in the store."""

from __future__ import annotations

import errno
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from store.database import Database
from store.pairs import find_video
from trainer.errors import BadPicture, BadSetting
from trainer.pictures import StoredPictures, decoded

__all__ = ["MAX_PIXELS", "QueryPicture", "open_picture"]

MAX_PIXELS = 40_000_000
"""As for thumbnails: a larger picture is refused before it is decoded."""
_MAX_BYTES = 200_000_000
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_KINDS = "JPEG, PNG, WebP, GIF, BMP or TIFF"


@dataclass(frozen=True)
class QueryPicture:
    """A decoded picture; also the `PictureSource` that an embedder takes it from.

    Args:
        name: as the user gave it.
        digest: SHA-256 of the file, in hex.
        image: RGB.
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
        BadSetting: neither a file nor a video in the store; a folder; a video without a picture.
        BadPicture: the file can't be read or decoded, or is larger than `MAX_PIXELS`.
    """
    path = Path(name)
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError):
        # A name that no file can have: too long, or with a NUL.
        is_folder = is_there = False
    if is_there and not is_folder:
        return _from_file(path, name)
    with database.read() as session:
        video = find_video(session, name) if _can_be_asked(name) else None
    if video is not None:
        title, digest = video
        if digest is None:
            raise BadSetting(f"video {name} has no picture in the store yet; run 'thumbtune sync', or name a file")
        return QueryPicture(name, digest, StoredPictures(database).load([digest])[0], name, title)
    if is_folder:
        raise BadSetting(f"{name} is a folder; name a picture's file, or the id of a video in the store")
    raise BadSetting(f"{name!r} is neither a file nor a video in the store; check the path or the video's id")


def _can_be_asked(name: str) -> bool:
    """Whether a database takes this text: PostgreSQL refuses NUL, and both refuse what is not Unicode."""
    return "\0" not in name and not any("\ud800" <= char <= "\udfff" for char in name)


def _from_file(path: Path, name: str) -> QueryPicture:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = "permission denied" if error.errno in (errno.EACCES, errno.EPERM) else str(error.strerror or error)
        raise BadPicture(f"{name} can't be read ({reason}); check the file, or name another") from error
    if len(content) > _MAX_BYTES:
        raise BadPicture(f"{name} is larger than {_MAX_BYTES // 1_000_000} MB; name a smaller picture")
    width, height = _size(content, name)
    if width * height > MAX_PIXELS:
        raise BadPicture(
            f"{name} has {width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} million; make it smaller"
        )
    try:
        image = decoded(content, name)
    except BadPicture as error:
        # Its advice is for pictures of the store.
        raise BadPicture(f"{name} can't be decoded ({error.__cause__}); save it anew, or name another file") from error
    return QueryPicture(name, hashlib.sha256(content).hexdigest(), image)


def _size(content: bytes, name: str) -> tuple[int, int]:
    """Width and height by the file's header; only formats that Pillow decodes by itself are opened."""
    if not content:
        raise BadPicture(f"{name} is empty; name a picture ({_KINDS})")
    try:
        with warnings.catch_warnings():
            # We refuse what is too large ourselves, and less large than what Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise BadPicture(f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; make it smaller") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise BadPicture(f"{name} is not a picture that can be read; name a {_KINDS} file") from error
