"""Whether bytes are a picture: decided by decoding them, never by a header or a name.

`check_picture` blocks: call it in a thread, which a usual thumbnail (`check_usual`) is not worth.

What decoding may cost is bounded before it begins, by what the header announces: a WebP of 1.5 KB can take 600 MB.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from collector.errors import PictureError

__all__ = [
    "FORMATS",
    "MAX_DECODED_BYTES",
    "MAX_PIXELS",
    "CheckedPicture",
    "check_picture",
    "check_usual",
    "set_up_pillow",
]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 40_000_000
MAX_DECODED_BYTES = 32 << 20
"""What the decoder may take; a JPEG of one scan is read in strips, so only `MAX_PIXELS` bounds it."""
LARGE_BYTES = 8 << 20
MAX_SCANS = 200
"""Of a progressive JPEG: each passes over the whole picture, and costs the sender no more than 30 bytes."""

USUAL_BYTES = 64 << 10
USUAL_HEADER_BYTES = 4 << 10
USUAL_PIXELS = 1 << 20
"""Up to these a JPEG is decoded in about a millisecond."""
_START = b"\xff\xd8"
_SCAN = b"\xff\xda"
# Between a JPEG's start and its scan, only segments that say their size (ITU-T T.81, table B.1) are usual.
_WITHOUT_SIZE = frozenset([b"", b"\x00", b"\x01", b"\xff", *(bytes([marker]) for marker in range(0xD0, 0xDA))])

# Bytes that decoding takes for each pixel, at most (measured: Pillow 13, libwebp 1.6, libjpeg-turbo 3.1).
_BYTES_A_PIXEL = {"JPEG": 4, "PNG": 4, "GIF": 4, "WEBP": 16}
_WHOLE_JPEG_BYTES_A_PIXEL = 8
_TEXT_BYTES = 4 << 20

# One thread, not a lock: what an allocator keeps of freed memory, it keeps for each thread.
_for_large = ThreadPoolExecutor(1, thread_name_prefix="decode-large")


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """What decoding found."""

    sha256: str
    mime: str
    width: int
    height: int


def check_picture(data: bytes) -> CheckedPicture:
    """Decode a picture to its last pixel and say what it is. Of an animation, the first frame counts.

    Pictures that take more than `LARGE_BYTES` are decoded one after another, so that a few don't fill the memory.

    Raises:
        PictureError: empty, no picture, of a format not in `FORMATS`, cut short, of more than `MAX_PIXELS`, or one that
            would take more than `MAX_DECODED_BYTES`.
    """
    if not data:
        raise PictureError("the file is empty")
    if data[8:12] == b"WEBP":  # whose decoder is large as soon as the file is opened
        return _for_large.submit(_check, data, alone=True).result()
    return _check(data, alone=False)


def check_usual(data: bytes) -> CheckedPicture | None:
    """`check_picture` for a thumbnail as YouTube makes them: a small JPEG of one scan and few headers.

    It takes less than a millisecond, with headers made for harm a hundredth of a second. To hand it to a thread and
    back costs as much: an event loop had better wait for it.

    Returns:
        None: it is another kind of picture, or none; ask `check_picture`. What follows the picture's end doesn't count.

    Raises:
        PictureError: cut short, or damaged.
    """
    scan = _first_scan(data) if len(data) <= USUAL_BYTES else None
    if scan is None:
        return None
    with _decoding(data), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        # After a scan of all components libjpeg decodes no other: what looks like one may follow.
        if picture.format != "JPEG" or not _comes_in_strips(picture, data, scan):
            return None
        if picture.width * picture.height > USUAL_PIXELS:
            return None
        checked = _checked(picture, data)
        _load(picture, data)
        return checked


def _check(data: bytes, *, alone: bool) -> CheckedPicture:
    """`check_picture`; `alone`: in the thread for large ones."""
    with _decoding(data):
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            large = _cost(picture, data) > LARGE_BYTES
            checked = _checked(picture, data)
            if alone or not large:
                _load(picture, data)
        if large and not alone:
            _for_large.submit(_decode, data).result()
        return checked


@contextmanager
def _decoding(data: bytes) -> Iterator[None]:
    """The one place where Pillow's errors end."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"too many pixels (at most {MAX_PIXELS // 1_000_000} million)") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"not a picture ({', '.join(FORMATS)}); it begins with {data[:8]!r}") from error
    # A decoder that meets hostile bytes raises whatever its parser stumbles over.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise PictureError(f"can't be decoded ({error})") from error
    except (struct.error, zlib.error, MemoryError, RuntimeError) as error:
        raise PictureError(f"can't be decoded ({error})") from error


def _checked(picture: ImageFile.ImageFile, data: bytes) -> CheckedPicture:
    """What there is to say of a picture that is not yet decoded: that may make it smaller."""
    mime = picture.get_format_mimetype() or f"image/{(picture.format or '').lower()}"
    return CheckedPicture(hashlib.sha256(data).hexdigest(), mime, picture.width, picture.height)


def _cost(picture: Image.Image, data: bytes) -> int:
    """Bytes that decoding takes.

    Raises:
        PictureError: too many, or too many pixels, or too many passes over them.
    """
    width, height = picture.size
    pixels, each = width * height, _BYTES_A_PIXEL.get(picture.format or "", 16)
    if pixels > MAX_PIXELS:
        raise PictureError(f"{width} x {height} pixels are too many (at most {MAX_PIXELS // 1_000_000} million)")
    if _is_jpeg(picture):
        # 0xFF is escaped within the picture's own data, so this finds its scans, and at worst bytes of an attachment.
        scans = data.count(_SCAN)
        if scans > MAX_SCANS:
            raise PictureError(f"a JPEG of more than {MAX_SCANS} scans")
        if scans == 1 and _comes_in_strips(picture, data, data.find(_SCAN)):
            return pixels * each
        each = _WHOLE_JPEG_BYTES_A_PIXEL
    if pixels * each > MAX_DECODED_BYTES:
        raise PictureError(
            f"{width} x {height} pixels are too many for its kind ({picture.format}; "
            f"at most {MAX_DECODED_BYTES // each / 1e6:.1f} million)"
        )
    return pixels * each


def _first_scan(data: bytes) -> int | None:
    """Where a JPEG's first scan begins, if that is within `USUAL_HEADER_BYTES` and nothing strange comes before."""
    if not data.startswith(_START):
        return None
    place = len(_START)
    while place <= USUAL_HEADER_BYTES - len(_SCAN) and data[place : place + 1] == b"\xff":
        marker, size = data[place : place + 2], data[place + 2 : place + 4]
        if marker == _SCAN:
            return place
        if marker[1:] in _WITHOUT_SIZE:
            return None
        place += 2 + int.from_bytes(size)
    return None


def _comes_in_strips(picture: Image.Image, data: bytes, scan: int) -> bool:
    """Whether the first scan of a JPEG has all components: any other is gathered whole before a pixel comes out."""
    components = data[scan + 4 : scan + 5]
    return "progressive" not in picture.info and components == bytes([len(picture.getbands())])


def _is_jpeg(picture: Image.Image) -> bool:
    return picture.format in ("JPEG", "MPO")  # several JPEGs in one file, which opens as the first


def _is_lossless(data: bytes) -> bool:
    """Whether a JPEG may be of the lossless kind (ITU-T T.81, SOF3), which libjpeg can't make smaller."""
    return data.find(b"\xff\xc3", 0, _first_scan(data) or data.find(_SCAN)) >= 0


def _decode(data: bytes) -> None:
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        _load(picture, data)


def _load(picture: Image.Image, data: bytes) -> None:
    """Decode, and keep none of the pixels."""
    large = picture.width * picture.height * 4 > LARGE_BYTES
    if _is_jpeg(picture) and (large or not _is_lossless(data)):
        # The whole stream is read all the same, at an eighth of the size: half the time, 1/64 of the memory. In grey,
        # libjpeg would pass over the colours, and over what is wrong with their sampling.
        picture.draft("RGB", (max(1, picture.width // 8), max(1, picture.height // 8)))
    try:
        picture.load()
    finally:
        picture.close()


def set_up_pillow() -> None:
    """Make Pillow refuse huge pictures and PNGs full of compressed text, and keep quiet; once a process.

    It warns of damage that a picture can be read in spite of, such as a broken list of a JPEG's further pictures: on
    the terminal, and without a word of which file it is.
    """
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    PngImagePlugin.MAX_TEXT_MEMORY = _TEXT_BYTES
