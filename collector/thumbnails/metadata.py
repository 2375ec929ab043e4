"""Reads the size and other properties of an image file and bounds its metadata, without decoding.

Pillow keeps every metadata part before the pixels, joins some of them in quadratic time, and searches byte by byte for
the start of a part. This module therefore counts the parts first: JPEG segments (ITU-T T.81, annex B), PNG chunks
(W3C PNG, section 5), GIF blocks (GIF89a, appendix A) and WebP chunks (RFC 9649). It accepts truncated pixel data, which
the decoder rejects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from collector.errors import PictureError
from store.types import PICTURE_FORMATS

__all__ = ["Header", "read_header"]

MAX_PARTS = 2_048
"""Limit of segments, chunks, blocks and stray bytes. Files from cameras and editors have up to a hundred."""
MAX_METADATA_BYTES = 2 << 20
"""The largest usual part is a colour profile for print, of 0.5 to 2 MB."""
MAX_PIXEL_CHUNKS = 16_384
"""Limit of PNG chunks with pixels: 512 bytes each in the largest accepted file. Encoders write 4 KiB or more."""
MAX_SCANS = 200
"""Limit for a JPEG that is not decoded in strips: each scan is a pass over all pixels, but may have only 30 bytes."""
MAX_TAG_BYTES = 16 << 20
"""Limit for EXIF and for the list of a JPEG's further images: Pillow 11 copies each tag's value, and tags can share
bytes."""

_SCAN = b"\xff\xda"
_NOT_FRAMES = frozenset({0xC4, 0xC8, 0xCC})  # within SOF0 to SOF15: DHT, JPG, DAC
_IN_STRIPS = frozenset({0xC0, 0xC1, 0xC9})  # SOF0, SOF1, SOF9: sequential
_LOSSLESS = 0xC3
_EXIF, _MPF = b"Exif\0\0", b"MPF\0"


@dataclass(frozen=True, slots=True)
class Header:
    """The properties in a file's header.

    Attributes:
        format: one of `PICTURE_FORMATS`.
        width: the width of the image, or of an animation's canvas, in pixels.
        height: the height in pixels.
        bytes_a_pixel: the most memory that decoding takes per pixel; 0 for a JPEG that is decoded in strips. Measured
            with Pillow 13, libwebp 1.6 and libjpeg-turbo 3.2.
        scalable: whether the decoder can reduce the image while reading the whole file.
    """

    format: str
    width: int
    height: int
    bytes_a_pixel: int
    scalable: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """The width and height in pixels."""
        return self.width, self.height


def read_header(data: bytes) -> Header:
    """Read a file's parts up to the pixels; all parts of a PNG or WebP.

    Raises:
        PictureError: the format is not in `PICTURE_FORMATS`, the file ends before its size, or it has too much
            metadata.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    raise PictureError(f"not an image ({', '.join(PICTURE_FORMATS)}); the file begins with {data[:8]!r}")


class _Metadata:
    """Counts metadata parts and their bytes, and enforces the limits."""

    def __init__(self) -> None:
        self._parts = self._bytes = 0

    def add(self, size: int) -> None:
        self._parts += 1
        self._bytes += size
        if self._parts > MAX_PARTS:
            raise PictureError(f"too much metadata (at most {MAX_PARTS:,} segments, chunks or blocks)")
        if self._bytes > MAX_METADATA_BYTES:
            raise PictureError(f"too much metadata (at most {MAX_METADATA_BYTES >> 20} MiB)")


def _cut_short(what: str) -> PictureError:
    return PictureError(f"can't be decoded (the file ends before {what})")


def _jpeg(data: bytes) -> Header:
    metadata, place, frame, exif = _Metadata(), 2, b"", b""
    while place + 1 < len(data):
        marker = data[place + 1]
        # Skip fill bytes and bytes outside of a marker one at a time, as decoders do.
        if data[place] != 0xFF or marker in (0x00, 0xFF):
            metadata.add(0)
            place += 1
            continue
        if marker == 0xDA:
            _check_tags(exif)
            return _jpeg_header(data, place, frame)
        size = 0 if 0xD0 <= marker <= 0xD9 or 0xF0 <= marker <= 0xFD else max(2, _big(data, place + 2, 2))
        segment = data[place + 4 : place + 2 + size] if size else b""
        metadata.add(size)
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            frame = bytes([marker]) + segment
        elif marker == 0xE1 and segment.startswith(_EXIF):
            exif += segment[len(_EXIF) :]  # joined as in Pillow; the limits on parts and bytes keep it cheap
        elif marker == 0xE2 and segment.startswith(_MPF):
            _check_tags(segment[len(_MPF) :])
        place += 2 + size
    raise _cut_short("its first scan")


def _jpeg_header(data: bytes, scan: int, frame: bytes) -> Header:
    """`scan` is the offset of the first scan, `frame` the frame header's marker and segment (T.81, B.2.2)."""
    if len(frame) < 7:
        raise _cut_short("its size")
    kind, height, width, components = frame[0], _big(frame, 2, 2), _big(frame, 4, 2), frame[6]
    if kind == _LOSSLESS:
        return Header("JPEG", width, height, 4)
    # If the first scan has all components, libjpeg decodes only that scan; otherwise it buffers all coefficients.
    if kind in _IN_STRIPS and data[scan + 4 : scan + 5] == bytes([components]):
        return Header("JPEG", width, height, 0, scalable=True)
    # 0xFF is escaped in pixel data, so only scans match, and perhaps bytes after the end of the image.
    if data.count(_SCAN) > MAX_SCANS:
        raise PictureError(f"a JPEG with more than {MAX_SCANS} scans")
    return Header("JPEG", width, height, 2 * max(3, components), scalable=True)


def _check_tags(tiff: bytes) -> None:
    """Reject a TIFF structure if the tags of its first directory could exceed the limit (TIFF 6.0, section 2)."""
    while tiff.startswith(_EXIF):
        tiff = tiff[len(_EXIF) :]
    order: Literal["big", "little"] = "big" if tiff.startswith(b"MM") else "little"
    first = int.from_bytes(tiff[4:8], order)
    if int.from_bytes(tiff[first : first + 2], order) * len(tiff) > MAX_TAG_BYTES:
        raise PictureError(f"too much metadata (at most {MAX_TAG_BYTES >> 20} MiB of tags)")


def _png(data: bytes) -> Header:
    metadata, place, pixel_chunks, size = _Metadata(), 8, 0, None
    while place + 8 <= len(data):
        length, name = _big(data, place, 4), data[place + 4 : place + 8]
        if name in (b"IDAT", b"fdAT"):
            pixel_chunks += 1
            if pixel_chunks > MAX_PIXEL_CHUNKS:
                raise PictureError(f"a PNG with more than {MAX_PIXEL_CHUNKS:,} chunks of pixels")
        else:
            metadata.add(length)
        if name == b"IHDR" and size is None:
            size = _big(data, place + 8, 4), _big(data, place + 12, 4)
        if name == b"IEND":
            break
        place += 12 + length
    if size is None:
        raise _cut_short("its size")
    return Header("PNG", *size, 4)


def _gif(data: bytes) -> Header:
    metadata, width, height = _Metadata(), _little(data, 6, 2), _little(data, 8, 2)
    place = 13 + _colours(data, 10)
    while place < len(data):
        kind = data[place : place + 1]
        if kind == b",":
            # Pillow extends the canvas if the first frame exceeds it.
            left, top, wide, high = (_little(data, place + at, 2) for at in (1, 3, 5, 7))
            return Header("GIF", max(width, left + wide), max(height, top + high), 4)
        place += 1
        metadata.add(0)
        if kind == b"!":
            place = _after_sub_blocks(data, place + 1, metadata)
    raise _cut_short("its first frame")


def _after_sub_blocks(data: bytes, place: int, metadata: _Metadata) -> int:
    while place < len(data) and (size := data[place]):
        metadata.add(size)
        place += 1 + size
    return place + 1


def _colours(data: bytes, flags: int) -> int:
    """The size in bytes of the colour table, from the flags at offset `flags`."""
    packed = data[flags] if flags < len(data) else 0
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _webp(data: bytes) -> Header:
    metadata, place, end = _Metadata(), 12, min(len(data), 8 + _little(data, 4, 4))
    size = _webp_size(data)
    while place + 8 <= end:
        name, length = data[place : place + 4], _little(data, place + 4, 4)
        metadata.add(0 if name in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF") else length)
        place += 8 + length + (length & 1)
    return Header("WEBP", *size, 16)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first chunk (RFC 9649, 2.5 to 2.7; RFC 6386, 9.1)."""
    name = data[12:16]
    if name == b"VP8X" and len(data) >= 30:
        return 1 + _little(data, 24, 3), 1 + _little(data, 27, 3)
    if name == b"VP8L" and len(data) >= 25:
        packed = _little(data, 21, 4)
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if name == b"VP8 " and len(data) >= 30:
        return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    raise _cut_short("its size")


def _big(data: bytes, place: int, size: int) -> int:
    return int.from_bytes(data[place : place + size])


def _little(data: bytes, place: int, size: int) -> int:
    return int.from_bytes(data[place : place + size], "little")
