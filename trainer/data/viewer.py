"""Convert an image file to the picture that an image viewer shows: upright, 8-bit RGB, transparency on white."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

__all__ = ["displayed"]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""{EXIF orientation: operation} (CIPA DC-008, tag 0x0112). 1 and unknown values do not change a picture."""
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_PAGE = (255, 255, 255)
# A parser of damaged metadata can raise any of these.
_PARSER_ERRORS = (ArithmeticError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)


def displayed(image: Image.Image) -> Image.Image:
    """Decode an opened image to an upright 8-bit RGB picture, as a viewer shows it.

    - The EXIF orientation (or the XMP orientation, if Pillow reads it) is applied. Damaged metadata is ignored.
    - 16-bit greyscale is divided by 257, so that 65535 is white. Pillow's own conversion would clip at 255.
    - Transparent parts become white. If the whole image is transparent, as in bitmaps whose writers set the fourth byte
      to 0, transparency is ignored.

    Args:
        image: the result of `Image.open`, of any mode. The first frame is used.

    Raises:
        OSError, ValueError, SyntaxError, or another error of Pillow: the pixels can't be decoded.
    """
    image.load()
    turn = _TURNS.get(_orientation(image))
    opaque = _on_page(_scaled(image) if image.mode in _DEEP else image)
    return opaque if turn is None else opaque.transpose(turn)


def _orientation(image: Image.Image) -> Any:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
        return value if isinstance(value, int) else None
    except _PARSER_ERRORS:
        return None


def _scaled(image: Image.Image) -> Image.Image:
    """Convert 16-bit to 8-bit greyscale, with an alpha channel if the file declares one grey value transparent."""
    deep: NDArray[Any] = np.asarray(image)
    table = np.round(np.arange(1 << 16) / 257).astype(np.uint8)
    values = deep if deep.dtype == np.uint16 else np.clip(deep, 0, (1 << 16) - 1).astype(np.uint16)
    grey = Image.fromarray(table[values])
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, np.uint8(0), np.uint8(255))))
    return grey


def _on_page(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (0, 0):
        return layered.convert("RGB")
    page = Image.new("RGB", layered.size, _PAGE)
    page.paste(layered, mask=alpha)
    return page
