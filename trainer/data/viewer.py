"""What an image viewer shows of a file, pure: turned by its orientation, 16-bit grey scaled, transparency on white."""

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
"""EXIF's orientations (CIPA DC-008, tag 0x0112); 1 and unknown values leave a picture as it is."""
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_PAGE = (255, 255, 255)
# As for pixels, a damaged block of metadata raises whatever its parser stumbles over.
_PARSER_ERRORS = (ArithmeticError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)


def displayed(image: Image.Image) -> Image.Image:
    """Decode an opened image to what a viewer shows: RGB, 8 bits, upright.

    - The EXIF orientation (or XMP's, where Pillow reads it) is applied; a damaged one is ignored.
    - 16-bit grey is divided by 257, so that 65535 is white. Pillow's own conversion would clip at 255.
    - Transparent parts show white, as on a page. Where everything is transparent, as in bitmaps whose writers leave the
      fourth byte 0, transparency is ignored.

    Args:
        image: as `Image.open` gives it, of any mode; the first frame is taken.

    Raises:
        OSError, ValueError, SyntaxError, and whatever else Pillow raises for pixels that can't be decoded.
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
    """16-bit grey as 8-bit grey, with alpha where one grey is declared transparent."""
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
    layered = image.convert("RGBA")
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (0, 0):
        return layered.convert("RGB")
    page = Image.new("RGB", layered.size, _PAGE)
    page.paste(layered, mask=alpha)
    return page
