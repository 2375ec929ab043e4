"""A font for each title of a contact sheet: DejaVu Sans, which matplotlib brings along, else the best one installed."""

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
"""Stands for a character that the chosen font does not have."""

_OURS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_REGULAR = _OURS / "DejaVuSans.ttf"
_BOLD = _OURS / "DejaVuSans-Bold.ttf"
# More than two lines of a tile can show.
_LONGEST = 300
# The zero-width non-joiner and joiner, which Persian and the scripts of India spell with.
_JOINERS = "\u200c\u200d"


def clean(text: str) -> str:
    """`text` as one line: spaces collapsed, without characters that control or reorder, cut to what a tile may show."""
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
        coverage: {font file: which of the texts' characters it has}, the preferred one first.
    """

    coverage: dict[Path, frozenset[str]]

    def choose(self, text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
        """`text` (cleaned) as it can be drawn, and the font that has most of it, `size` pixels high.

        One font for a whole text: so scripts that are shaped, or read from right to left, stay whole. What it lacks
        becomes `MISSING`; a mark or joiner that it lacks is left out.
        """
        path = max(self.coverage, key=lambda path: sum(char in self.coverage[path] for char in text))
        has = self.coverage[path]
        drawable = (char if char in has or char.isspace() else _substitute(char) for char in text)
        return "".join(drawable), _font(path, size)


def _substitute(char: str) -> str:
    return "" if unicodedata.category(char) in ("Cf", "Me", "Mn") else MISSING


def regular_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, for text of our own."""
    return _font(_REGULAR, size)


def bold_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Bold, for figures."""
    return _font(_BOLD, size)


def fonts_for(texts: Iterable[str], installed: Callable[[], Iterable[Path]] | None = None) -> Fonts:
    """The fonts that these texts (cleaned) need.

    The fonts of this machine are looked through only for what DejaVu Sans lacks (Chinese, Japanese, Korean, Thai,
    the scripts of India, most emoji).

    Args:
        texts: what will be drawn.
        installed: lists font files; None for `installed_fonts`.
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
    """The font files of this machine: upright ones of normal weight first, those without serifs before others."""
    from matplotlib.font_manager import findSystemFonts  # noqa: PLC0415 (reads the folders of fonts when imported)

    # `findSystemFonts` looks at the folders now; the module's own list is from when matplotlib first ran here.
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
        # The sizes of a bitmap font (of emoji) are its own: Pillow does not scale it. And Last Resort has a box for
        # every character there is, which is worse than our own.
        return font if font.scalable and "Last Resort" not in font.family_name else None
    except (OSError, RuntimeError, ValueError):
        # A damaged font of this machine is no reason to draw nothing.
        return None


@lru_cache(maxsize=64)
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)
