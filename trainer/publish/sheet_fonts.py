"""Choose a font for each title of a contact sheet: DejaVu Sans, which comes with matplotlib, or an installed font."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font, StyleFlags
from PIL import ImageFont

__all__ = ["MISSING", "Fonts", "bold_font", "clean", "fonts_for", "installed_fonts", "regular_font"]

MISSING = "\N{WHITE SQUARE}"
"""Drawn for a character that the chosen font lacks."""

_OURS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_REGULAR = _OURS / "DejaVuSans.ttf"
_BOLD = _OURS / "DejaVuSans-Bold.ttf"
# More characters than two lines of a tile can show.
_LONGEST = 300
# The zero-width non-joiner and joiner, which Persian and Indic scripts need.
_JOINERS = "\u200c\u200d"


def clean(text: str) -> str:
    """Return `text` as one line: spaces collapsed, control and bidi characters removed, cut to what a tile can show."""
    kept = "".join(_shown(char) for char in text[: 4 * _LONGEST])
    return " ".join(kept.split())[:_LONGEST]


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    return "" if category in ("Cf", "Cs") and char not in _JOINERS else char


@dataclass(frozen=True)
class Fonts:
    """Fonts for a set of texts.

    Args:
        coverage: {font file: the characters of the texts that it has}, the preferred font first.
    """

    coverage: dict[Path, frozenset[str]]

    def choose(self, text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
        """Return `text` (cleaned) as it can be drawn, and the font that has most of its characters, `size` pixels high.

        One font draws the whole text, so that scripts with shaping or right-to-left order stay intact. Characters that
        it lacks become `MISSING`; marks and joiners that it lacks are left out.
        """
        path = max(self.coverage, key=lambda path: sum(char in self.coverage[path] for char in text))
        has = self.coverage[path]
        drawable = (char if char in has or char.isspace() else _substitute(char) for char in text)
        return "".join(drawable), _font(path, size)


def _substitute(char: str) -> str:
    return "" if unicodedata.category(char) in ("Cf", "Me", "Mn") else MISSING


def regular_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, for the sheet's own text."""
    return _font(_REGULAR, size)


def bold_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Bold, for numbers."""
    return _font(_BOLD, size)


def fonts_for(texts: Iterable[str], installed: Callable[[], Iterable[Path]] | None = None) -> Fonts:
    """Return the fonts that these texts (cleaned) need.

    The installed fonts are searched only for characters that DejaVu Sans lacks (Chinese, Japanese, Korean, Thai,
    Indic scripts, most emoji).

    Args:
        texts: the texts to draw.
        installed: lists font files; None: `installed_fonts`.
    """
    wanted = frozenset("".join(texts))
    coverage = {_REGULAR: _covered(_REGULAR, wanted)}
    missing = wanted - coverage[_REGULAR]
    if missing:
        for path in (installed or installed_fonts)():
            covered = _covered(path, wanted)
            if covered & missing:
                coverage[path] = covered
    return Fonts(coverage)


def installed_fonts() -> list[Path]:
    """List this machine's font files: upright fonts of normal weight first, sans-serif before serif."""
    from matplotlib.font_manager import findSystemFonts  # noqa: PLC0415 (reads the folders of fonts when imported)

    # `findSystemFonts` searches the folders now; matplotlib's own font list may be outdated.
    found = [(order, Path(path)) for path in findSystemFonts() if (order := _order(Path(path))) is not None]
    return [path for _, path in sorted(found)]


def _order(path: Path) -> tuple[bool, bool, str] | None:
    font = _opened(path)
    if font is None:
        return None
    plain = not font.style_flags & (StyleFlags.ITALIC | StyleFlags.BOLD)
    return (not plain, "sans" not in font.family_name.casefold(), path.name)


def _covered(path: Path, wanted: frozenset[str]) -> frozenset[str]:
    font = _opened(path)
    if font is None:
        return frozenset()
    return frozenset(char for char in wanted if font.get_char_index(ord(char)))


def _opened(path: Path) -> FT2Font | None:
    try:
        font = FT2Font(path)
        # Bitmap fonts (emoji) have fixed sizes, and Pillow does not scale them. Last Resort has a box for every
        # character, which is less clear than `MISSING`.
        return font if font.scalable and "Last Resort" not in font.family_name else None
    except (OSError, RuntimeError, ValueError):
        # A damaged installed font must not prevent the sheet.
        return None


@lru_cache(maxsize=64)
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)
