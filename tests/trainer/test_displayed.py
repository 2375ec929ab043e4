"""A file is decoded as a viewer shows it: rotated by its tag, 16-bit grey scaled, transparency on white."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from trainer.data import displayed

COLOURS = np.random.default_rng(3).integers(0, 256, size=(6, 10, 3), dtype=np.uint8)
GREYS = np.arange(256, dtype=np.uint8).reshape(8, 32)
RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    return opened(encoded(image, kind, **options))


def turned(number: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif.tobytes()


@pytest.mark.parametrize(("kind", "lossless"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
@pytest.mark.parametrize("number", range(1, 9))
def test_an_orientation_is_applied(number: int, kind: str, lossless: dict[str, bool]) -> None:
    file = encoded(Image.fromarray(COLOURS), kind, exif=turned(number), **lossless)
    upright = ImageOps.exif_transpose(opened(file))
    shown = displayed(opened(file))
    assert shown.size == ((6, 10) if number >= 5 else (10, 6))
    assert shown.tobytes() == upright.convert("RGB").tobytes()


def test_a_jpegs_orientation_is_applied() -> None:
    file = encoded(Image.fromarray(COLOURS), "JPEG", exif=turned(6))
    assert displayed(opened(file)).tobytes() == opened(file).rotate(-90, expand=True).tobytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [turned(0), turned(9), turned(1)[:20], b"Exif\0\0" + bytes(40), b"Exif\0\0II*\0\xff"])
def test_a_damaged_or_unknown_orientation_is_ignored(exif: bytes) -> None:
    assert displayed(saved(Image.fromarray(COLOURS), exif=exif)).tobytes() == COLOURS.tobytes()


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_grey_of_16_bits_is_scaled(dtype: str) -> None:
    shown = np.asarray(displayed(saved(Image.fromarray((GREYS.astype(np.uint16) * 257).astype(dtype)))))
    assert (shown == GREYS[:, :, np.newaxis]).all()
    # The nearest grey of 8 bits.
    near = saved(Image.fromarray(np.array([[128, 129, 65407]], dtype=np.uint16)))
    assert np.asarray(displayed(near))[0, :, 0].tolist() == [0, 1, 255]


def test_grey_of_32_bits_that_holds_16_is_scaled() -> None:
    shown = displayed(Image.fromarray(np.array([[0, 257, 65535, 70000, -1]], dtype=np.int32)))
    assert np.asarray(shown)[0, :, 0].tolist() == [0, 1, 255, 255, 0]


def test_grey_of_16_bits_with_a_transparent_value_is_scaled() -> None:
    shown = displayed(saved(Image.fromarray(np.array([[0, 257, 514]], dtype=np.uint16)), transparency=257))
    assert np.asarray(shown)[0, :, 0].tolist() == [0, 255, 2]


def half_clear(mode: str) -> Image.Image:
    """Red, or its grey; the left column is transparent."""
    image = Image.new("RGBA", (4, 2), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 1, 2))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_becomes_white(mode: str) -> None:
    shown = displayed(saved(half_clear(mode)))
    assert shown.getpixel((0, 0)) == WHITE
    assert shown.getpixel((3, 1)) == (RED if mode == "RGBA" else (76, 76, 76))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_transparency_of_other_formats_becomes_white(kind: str) -> None:
    options = {} if kind == "GIF" else {"lossless": True}
    shown = displayed(saved(half_clear("RGBA"), kind, **options))
    assert (shown.getpixel((0, 0)), shown.getpixel((3, 1))) == (WHITE, RED)


def test_half_transparent_red_becomes_pink() -> None:
    assert displayed(saved(Image.new("RGBA", (1, 1), (*RED, 128)))).getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize(("mode", "clear"), [("L", 76), ("RGB", RED), ("P", 0), ("P", bytes([0, 255])), ("1", 0)])
def test_a_colour_declared_transparent_becomes_white(mode: str, clear: Any) -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), (0, 0, 255))
    if mode == "P":
        plain = Image.new("P", (2, 1))
        plain.putpalette([*RED, 0, 0, 255])
        plain.putpixel((1, 0), 1)
        image = plain
    elif mode == "1":
        image = Image.new("1", (2, 1), 0)
        image.putpixel((1, 0), 1)
    shown = displayed(saved(image.convert(mode), transparency=clear))
    assert shown.getpixel((0, 0)) == WHITE
    assert shown.getpixel((1, 0)) != WHITE or mode == "1"


def test_a_fully_transparent_image_keeps_its_colours() -> None:
    assert displayed(saved(Image.new("RGBA", (3, 3), (*RED, 0)))).getpixel((1, 1)) == RED


def test_cmyk_becomes_rgb() -> None:
    shown = displayed(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    assert shown.getpixel((4, 4)) == RED
