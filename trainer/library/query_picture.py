"""The query picture: an image file, or the thumbnail of a video in the store."""

from __future__ import annotations

import errno
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from store.db import Database
from store.training import find_video
from store.types import DECODER_ERRORS, MAX_PICTURE_PIXELS, PICTURE_FORMATS, storable
from store.video_links import video_id_in
from trainer.data import StoredPictures, displayed, shortened
from trainer.errors import BadSetting

__all__ = ["QueryPicture", "open_picture", "read_picture", "stored_picture"]

_MAX_BYTES = 200_000_000
_FORMATS = (*PICTURE_FORMATS, "BMP")
_MILLIONS = MAX_PICTURE_PIXELS // 1_000_000
_KINDS = "JPEG, PNG, WebP, GIF or BMP"


@dataclass(frozen=True)
class QueryPicture:
    """A decoded picture, which also serves as the embedder's `PictureSource`.

    Args:
        name: the name that the user gave.
        digest: SHA-256 of the file, in hex.
        image: RGB; for a file, as an image viewer shows it (`trainer.data.viewer`).
        video_id: the id of the named video, or None for a file.
        title: the video's title.
    """

    name: str
    digest: str
    image: Image.Image
    video_id: str | None = None
    title: str | None = None

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        """Return the picture once for each digest; there is only this picture."""
        return [self.image for _ in digests]


def open_picture(database: Database, name: str) -> QueryPicture:
    """Read and decode the picture that `name` refers to: an existing file, else the current thumbnail of a video.

    Args:
        database: the store.
        name: a path, a video id or a YouTube URL.

    Raises:
        BadSetting: `name` is not a file or a video in the store, or is a folder; the video has no thumbnail; or the
            file can't be read or decoded, or is larger than `MAX_PICTURE_PIXELS`.
        BadPicture: the stored thumbnail can't be decoded.
    """
    path = Path(name)
    video_id = video_id_in(name) or name
    try:
        # An empty path would mean the current folder.
        is_there = bool(name) and path.exists()
        is_folder = is_there and path.is_dir()
    except (OSError, ValueError):
        # An invalid file name: too long, or with a NUL.
        is_folder = is_there = False
    if is_there and not is_folder:
        return _from_file(path, name)
    found = stored_picture(database, video_id)
    if found is not None:
        return found
    if is_folder:
        raise BadSetting(f"{name} is a folder; use an image file, or the id of a video in the store")
    raise BadSetting(f"{name!r} is neither a file nor a video in the store; check the path or the video id")


def stored_picture(database: Database, video_id: str) -> QueryPicture | None:
    """Read and decode the current thumbnail of a video; None if the store has no such video.

    Raises:
        BadSetting: the video has no thumbnail yet.
        BadPicture: the thumbnail can't be decoded.
    """
    with database.read() as session:
        video = find_video(session, video_id) if storable(video_id) == video_id else None
    if video is None:
        return None
    title, digest = video
    if digest is None:
        raise BadSetting(f"video {video_id} has no thumbnail in the store yet; run 'thumbtune sync', or use a file")
    return QueryPicture(video_id, digest, StoredPictures(database).load([digest])[0], video_id, title)


def _from_file(path: Path, name: str) -> QueryPicture:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = "permission denied" if error.errno in (errno.EACCES, errno.EPERM) else str(error.strerror or error)
        raise BadSetting(f"{name} can't be read ({reason}); check the file, or use another") from error
    if len(content) > _MAX_BYTES:
        raise BadSetting(f"{name} is larger than {_MAX_BYTES // 1_000_000} MB; use a smaller file")
    return read_picture(content, name)


def read_picture(content: bytes, name: str) -> QueryPicture:
    """Decode a file's content.

    Args:
        content: the file's bytes.
        name: the file's name in error messages.

    Raises:
        BadSetting: the file can't be decoded, or is larger than `MAX_PICTURE_PIXELS`.
    """
    with warnings.catch_warnings():
        # Problems with the file are reported as errors. Pillow's warnings also concern files that we accept.
        warnings.simplefilter("ignore")
        width, height = _size(content, name)
        if width * height > MAX_PICTURE_PIXELS:
            raise BadSetting(f"{name} has {width} x {height} pixels; the limit is {_MILLIONS} million")
        image = _decoded(content, name)
    return QueryPicture(name, hashlib.sha256(content).hexdigest(), image)


def _size(content: bytes, name: str) -> tuple[int, int]:
    """Width and height from the file's header. Only formats that Pillow decodes by itself are opened."""
    if not content:
        raise BadSetting(f"{name} is empty; use a {_KINDS} file")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise BadSetting(f"{name} has more than {_MILLIONS} million pixels, which is the limit") from error
    except DECODER_ERRORS as error:
        raise BadSetting(f"{name} is not a supported image; use a {_KINDS} file") from error


def _decoded(content: bytes, name: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return shortened(displayed(image))
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise BadSetting(f"{name} can't be decoded ({error}); save it again, or use another file") from error
