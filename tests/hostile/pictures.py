"""Small images in large files whose other content costs the parser memory or time."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

__all__ = ["MOST_BYTES", "chunk", "crowded", "directory", "saved", "segment"]

MOST_BYTES = 8 << 20
"""The largest accepted file, in bytes."""


def saved(form: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def riff(name: bytes, body: bytes = b"") -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)


def directory(tags: int, *, shared: bool) -> bytes:
    """Return a TIFF directory (TIFF 6.0, section 2) of 60,000 bytes. Each tag has 100 bytes, or shares nearly all."""
    size = 60_000
    entries = b"".join(
        struct.pack(">HHII", number, 7, *((size - 8, 8) if shared else (100, size - 100 * number)))
        for number in range(1, tags + 1)
    )
    return (b"MM\0\x2a" + struct.pack(">IH", 8, tags) + entries).ljust(size, b"\0")


def crowded() -> dict[str, bytes]:
    """Return {description of the content: file} of at most `MOST_BYTES` each. Without this content, a file is valid."""
    jpeg, png, gif, webp = saved("JPEG"), saved("PNG"), saved("GIF", "L"), saved("WEBP")
    progressive = saved("JPEG", progressive=True)
    apng = saved("PNG", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")])

    def full(part: bytes, room: int) -> bytes:
        return part * ((MOST_BYTES - room) // len(part))

    def in_jpeg(part: bytes, whole: bytes = jpeg, before: bytes = b"\xff\xdb") -> bytes:
        place = whole.index(before)
        return whole[:place] + full(part, len(whole)) + whole[place:]

    def in_png(part: bytes, whole: bytes = png, before: bytes = b"IDAT") -> bytes:
        place = whole.index(before) - 4
        return whole[:place] + full(part, len(whole)) + whole[place:]

    def in_gif(part: bytes) -> bytes:
        place = 13 + (3 << (gif[10] & 7) + 1)
        return gif[:place] + part + gif[place:]

    def in_webp(parts: bytes) -> bytes:
        canvas = riff(b"VP8X", struct.pack("<I", 0) + b"\x3f\0\0\x2f\0\0")
        body = b"WEBP" + canvas + webp[12:] + parts
        return b"RIFF" + struct.pack("<I", len(body)) + body

    shared = directory(2_700, shared=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    exif = b"Exif\0\0" + b"MM\0\x2a\0\0\0\x08\0\0\0\0"
    frame = jpeg[jpeg.index(b"\xff\xc0") :][:19]
    table = jpeg[jpeg.index(b"\xff\xc4") :]
    table = table[: 2 + struct.unpack(">H", table[2:4])[0]]
    return {
        "empty APP5 segments": in_jpeg(segment(0xE5)),
        "empty comments": in_jpeg(segment(0xFE)),
        "large APP5 segments": in_jpeg(segment(0xE5, bytes(65_000))),
        "EXIF in pieces": in_jpeg(segment(0xE1, exif)),
        "EXIF in large pieces": in_jpeg(segment(0xE1, b"Exif\0\0" + bytes(60_000))),
        "EXIF of tags that share their bytes": jpeg[:2] + segment(0xE1, b"Exif\0\0" + shared) + jpeg[20:],
        "pictures' list of tags that share their bytes": jpeg[:2] + segment(0xE2, b"MPF\0" + shared) + jpeg[2:],
        "frame headers": in_jpeg(frame),
        "Huffman tables": in_jpeg(table),
        "fill bytes": in_jpeg(b"\xff"),
        "bytes that are no segment": in_jpeg(b"\0"),
        "PNG text": in_png(chunk(b"tEXt", b"a\0")),
        "PNG packed text": in_png(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 10_000))),
        "PNG chunks of no known kind": in_png(chunk(b"teSt")),
        "PNG chunks after the pixels": in_png(chunk(b"teSt"), before=b"IEND"),
        "empty chunks of pixels": in_png(chunk(b"IDAT")),
        "frames of an animated PNG": in_png(chunk(b"fcTL", bytes(26)), apng, b"IEND"),
        "GIF comments": in_gif(full(b"!\xfe\x01x\0", len(gif))),
        "blocks of one GIF comment": in_gif(b"!\xfe" + full(b"\x01x", len(gif) + 3) + b"\0"),
        "bytes that are no GIF block": in_gif(full(b"\0", len(gif))),
        "WebP chunks": in_webp(full(riff(b"teSt"), 200)),
        "a large WebP chunk": in_webp(riff(b"EXIF", bytes(7_000_000))),
        "WebP frames": in_webp(full(riff(b"ANMF", bytes(16)), 200)),
        "scans": progressive[:-2] + full(scan, len(progressive)) + b"\xff\xd9",
    }
