"""Choose a font for each title of a contact sheet: DejaVu Sans, which comes with matplotlib, or an installed font."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

__all__ = ["BOLD", "MISSING", "REGULAR", "Fonts", "clean", "fonts_for", "installed_fonts", "sized"]

MISSING = "\N{WHITE SQUARE}"
"""Drawn instead of a character that the chosen font lacks."""

_OURS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
REGULAR = _OURS / "DejaVuSans.ttf"
BOLD = _OURS / "DejaVuSans-Bold.ttf"
# More characters than fit into the two lines of a tile.
_LONGEST = 300
# The zero-width non-joiner and joiner, which Persian and Indic scripts need.
_JOINERS = "\u200c\u200d"


def clean(text: str) -> str:
    """Return `text` as one line: spaces collapsed, control and bidi characters removed, cut to a tile's limit."""
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
        """Return the drawable form of `text` (cleaned), and the font with most of its characters, `size` pixels high.

        One font draws the whole text, so that scripts with shaping or right-to-left order stay intact. Characters that
        it lacks become `MISSING`; marks and joiners that it lacks are left out.
        """
        path = max(self.coverage, key=lambda path: sum(char in self.coverage[path] for char in text))
        has = self.coverage[path]
        drawable = (char if char in has or char.isspace() else _substitute(char) for char in text)
        return "".join(drawable), sized(path, size)


def _substitute(char: str) -> str:
    return "" if unicodedata.category(char) in ("Cf", "Me", "Mn") else MISSING


def fonts_for(texts: Iterable[str], installed: Callable[[], Iterable[Path]] | None = None) -> Fonts:
    """Return the fonts that these texts (cleaned) need.

    The installed fonts are searched only for characters that DejaVu Sans lacks (Chinese, Japanese, Korean, Thai,
    Indic scripts, most emoji).

    Args:
        texts: the texts to draw.
        installed: lists font files; None: `installed_fonts`.
    """
    characters = frozenset("".join(texts))
    coverage = {REGULAR: _covered(REGULAR, characters)}
    missing = characters - coverage[REGULAR]
    if missing:
        for path in (installed or installed_fonts)():
            covered = _covered(path, characters)
            if covered & missing:
                coverage[path] = covered
    return Fonts(coverage)


def installed_fonts() -> list[Path]:
    """List this machine's font files: upright fonts of normal weight first, sans-serif before serif."""
    from matplotlib.font_manager import FontManager  # noqa: PLC0415 (reads the folders of fonts when imported)

    # A new manager reads the folders now; matplotlib's list on disk may be outdated. It leaves out damaged fonts and
    # bitmap fonts (emoji), which Pillow does not scale.
    fonts = sorted(
        FontManager().ttflist,
        key=lambda font: (font.style != "normal" or font.weight != 400, "sans" not in font.name.casefold(), font.fname),
    )
    return list(dict.fromkeys(Path(font.fname) for font in fonts if "Last Resort" not in font.name))


def _covered(path: Path, characters: frozenset[str]) -> frozenset[str]:
    font = FT2Font(path)
    return frozenset(char for char in characters if font.get_char_index(ord(char)))


@lru_cache(maxsize=64)
def sized(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """The font of a file, `size` pixels high."""
    return ImageFont.truetype(str(path), size)
