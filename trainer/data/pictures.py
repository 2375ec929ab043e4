"""Decode stored thumbnails in batches, so that memory use does not grow with the channel."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image, UnidentifiedImageError

from store.db import Database
from store.errors import NotFound, PictureDamaged
from store.training import read_pictures
from store.types import DECODER_ERRORS, MAX_PICTURE_PIXELS, PICTURE_FORMATS
from trainer.data.viewer import displayed
from trainer.errors import BadPicture

__all__ = ["FULL_SIZE_PIXELS", "PictureSource", "StoredPictures", "batches", "decoded", "shortened"]

FULL_SIZE_PIXELS = 1920 * 1080
_REDUCED_PIXELS = 1_000_000
_MOST_ELONGATED = 8
"""The longest edge in shorter edges; YouTube's sizes have at most 1.8."""


class PictureSource(Protocol):
    """Loads thumbnails by digest."""

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        """Return these thumbnails as RGB pictures, in the same order."""


@dataclass(frozen=True)
class StoredPictures:
    """Loads thumbnails from the store."""

    database: Database

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        """Return these thumbnails as RGB pictures, in the same order. Each distinct thumbnail is decoded once.

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
    """Decode an image file to RGB, as an image viewer shows it: `import` stores users' own files.

    A picture of more than `FULL_SIZE_PIXELS` is reduced by an integer factor to about a million pixels: no model uses
    more than a quarter of them, and a batch of the largest pictures would take gigabytes. Of a picture longer than
    `_MOST_ELONGATED` times its shorter edge, the middle is returned: models scale the shorter edge to 224 pixels or
    more, which would make 10 GB of 1 x 20,000 pixels.

    Raises:
        BadPicture: the file can't be decoded. The message contains `name`.
    """
    try:
        with Image.open(io.BytesIO(file), formats=PICTURE_FORMATS) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            factor = _reduction(image.size)
            if factor > 1:
                # Lets the JPEG decoder scale to a half, a quarter or an eighth.
                image.draft("RGB", (max(1, image.width // factor), max(1, image.height // factor)))
            picture = displayed(image)
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        # Pillow's message for an unknown format contains the address of the BytesIO object.
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise BadPicture(
            f"thumbnail {name} can't be decoded ({reason}); run 'thumbtune db check --repair' to fetch it again"
        ) from error
    factor = _reduction(picture.size)
    return shortened(picture if factor == 1 else picture.reduce(factor))


def shortened(picture: Image.Image) -> Image.Image:
    """Return the middle of a picture that is longer than `_MOST_ELONGATED` times its shorter edge; else the picture."""
    most = _MOST_ELONGATED * min(picture.size)
    if max(picture.size) <= most:
        return picture
    width, height = (min(edge, most) for edge in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _reduction(size: tuple[int, int]) -> int:
    """The factor by which width and height are divided."""
    pixels = size[0] * size[1]
    return 1 if pixels <= FULL_SIZE_PIXELS else math.ceil(math.sqrt(pixels / _REDUCED_PIXELS))


def batches(digests: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Split a list into batches of `size`."""
    return (digests[start : start + size] for start in range(0, len(digests), size))
