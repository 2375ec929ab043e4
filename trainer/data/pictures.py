"""Decoding stored thumbnails, a batch at a time: memory does not grow with the channel."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image, UnidentifiedImageError

from store.db import Database
from store.errors import NotFound, PictureDamaged
from store.training import read_pictures
from trainer.errors import BadPicture

__all__ = ["PictureSource", "StoredPictures", "decoded"]


class PictureSource(Protocol):
    """Where pictures come from, by digest."""

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        """Decode these pictures, in this order, as RGB."""


@dataclass(frozen=True)
class StoredPictures:
    """The pictures in the store."""

    database: Database

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        """Decode these pictures, in this order, as RGB; each distinct one is read and decoded once.

        Raises:
            BadPicture: a file is damaged, or not in the store.
        """
        try:
            with self.database.read() as session:
                files = read_pictures(session, digests)
        except (NotFound, PictureDamaged) as error:
            raise BadPicture(str(error)) from error
        images = {digest: decoded(file, digest) for digest, file in files.items()}
        return [images[digest] for digest in digests]


def decoded(file: bytes, name: str) -> Image.Image:
    """Decode an image file to RGB, fully read. An EXIF orientation is ignored: YouTube serves pictures upright.

    Raises:
        BadPicture: the file can't be decoded; the message has `name`.
    """
    try:
        with Image.open(io.BytesIO(file)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow names the object in memory that it read from.
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else error
        raise BadPicture(
            f"picture {name} can't be decoded ({reason}); run 'thumbtune db check', with --repair to fetch it again"
        ) from error


def batches(digests: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a list into batches of `size`."""
    return (digests[start : start + size] for start in range(0, len(digests), size))
