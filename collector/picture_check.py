"""Whether bytes are a picture: decided by decoding them, never by a header or a name. Blocking; call it in a thread."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from threading import Lock

from PIL import Image, UnidentifiedImageError

from collector.errors import PictureError

__all__ = ["FORMATS", "MAX_PIXELS", "CheckedPicture", "check_picture"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 40_000_000
LARGE_PIXELS = 4_000_000

_one_large_at_a_time = Lock()


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """What decoding found."""

    sha256: str
    mime: str
    width: int
    height: int


def check_picture(data: bytes) -> CheckedPicture:
    """Decode a picture to its last pixel and say what it is. Of an animation, the first frame counts.

    Pictures of more than `LARGE_PIXELS` are decoded one after another, so that a few of them don't fill the memory.

    Raises:
        PictureError: empty, no picture, of a format not in `FORMATS`, cut short, or of more than `MAX_PIXELS`.
    """
    if not data:
        raise PictureError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise PictureError(
                    f"{width} x {height} pixels are too many (at most {MAX_PIXELS // 1_000_000} million)"
                )
            if width * height > LARGE_PIXELS:
                with _one_large_at_a_time:
                    _decode(picture)
            else:
                _decode(picture)
            mime = picture.get_format_mimetype() or f"image/{(picture.format or '').lower()}"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"too many pixels (at most {MAX_PIXELS // 1_000_000} million)") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"not a picture ({', '.join(FORMATS)}); it begins with {data[:8]!r}") from error
    # A decoder that meets hostile bytes raises whatever its parser stumbles over.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise PictureError(f"can't be decoded ({error})") from error
    except (struct.error, zlib.error, MemoryError, RuntimeError) as error:
        raise PictureError(f"can't be decoded ({error})") from error
    return CheckedPicture(hashlib.sha256(data).hexdigest(), mime, width, height)


def _decode(picture: Image.Image) -> None:
    if picture.format == "JPEG" and picture.width * picture.height > LARGE_PIXELS:
        # The whole stream is read all the same, at an eighth of the size: 1/64 of the memory.
        picture.draft("RGB", (picture.width // 8, picture.height // 8))
    picture.load()


def refuse_bombs() -> None:
    """Make Pillow's warning about huge pictures an error, which `check_picture` turns into a reason. Once a process."""
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
