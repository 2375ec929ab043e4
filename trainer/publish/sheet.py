"""Search results as an image: a grid of thumbnails, each with its rank, id, score and title."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from trainer.artifacts import can_save
from trainer.data import PictureSource
from trainer.errors import BadPicture, BadSetting
from trainer.publish.sheet_fonts import BOLD, REGULAR, Fonts, clean, fonts_for, sized

__all__ = ["MAX_TILES", "Tile", "check_sheet_path", "draw_sheet", "write_sheet"]

MAX_TILES = 200
"""The maximum number of tiles per sheet; many programs can't open larger images."""

_COLUMNS = 5
_WIDTH, _HEIGHT = 320, 180
_CAPTION = 74
_GAP, _MARGIN, _HEADER = 20, 28, 40
_RADIUS = 10
_TITLE_SIZE, _HEADER_SIZE = 15, 20
_LINE = 21

_PAPER, _INK, _PALE, _EMPTY = "#fafaf8", "#1c1c1e", "#6e6e73", "#dededb"


@dataclass(frozen=True, slots=True)
class Tile:
    """One search result to show.

    Args:
        digest: SHA-256 (hex) of the thumbnail.
        video_id: the video's id.
        rank: 1 is best.
        score: cosine similarity.
        title: the video's title; any text.
    """

    digest: str
    video_id: str
    rank: int
    score: float
    title: str


def check_sheet_path(path: Path) -> None:
    """Refuse a path that a sheet can't be written to, before work is spent on it.

    Raises:
        BadSetting: its name does not end in `.png`, it is a folder, its parent folder does not exist, or it can't be
            written.
    """
    if path.suffix.lower() != ".png":
        raise BadSetting(f"--out {path} does not end in .png")
    if path.is_dir():
        raise BadSetting(f"--out {path} is a folder; use a file name")
    if not path.absolute().parent.is_dir():
        raise BadSetting(f"--out {path}: the folder {path.parent} does not exist; create it first")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise BadSetting(f"--out {path} can't be written; name another file")


def draw_sheet(
    heading: str,
    tiles: Sequence[Tile],
    source: PictureSource,
    *,
    query: Image.Image | None = None,
    installed: Callable[[], Sequence[Path]] | None = None,
) -> Image.Image:
    """Draw tiles in reading order, decoding one thumbnail at a time. A tile says so if its thumbnail can't be decoded.

    Args:
        heading: the search query.
        tiles: at most `MAX_TILES`.
        source: provides the thumbnails.
        query: the query picture, shown beside the heading.
        installed: lists font files for the characters that DejaVu Sans lacks; None: this machine's fonts.

    Raises:
        ValueError: there are no tiles, or too many.
    """
    if not 1 <= len(tiles) <= MAX_TILES:
        raise ValueError(f"a sheet holds 1 to {MAX_TILES} tiles, not {len(tiles)}")
    titles = [clean(tile.title) for tile in tiles]
    heading = clean(heading)
    fonts = fonts_for([heading, *titles], installed)
    rows = -(-len(tiles) // _COLUMNS)
    columns = -(-len(tiles) // rows)
    top = 2 * _MARGIN + (_HEIGHT // 2 if query else _HEADER)
    width = 2 * _MARGIN + columns * _WIDTH + (columns - 1) * _GAP
    height = top + rows * (_HEIGHT + _CAPTION + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    _draw_heading(sheet, heading, fonts, query)
    for at, (tile, title) in enumerate(zip(tiles, titles, strict=True)):
        x = _MARGIN + at % columns * (_WIDTH + _GAP)
        y = top + at // columns * (_HEIGHT + _CAPTION + _GAP)
        _paste_picture(sheet, _loaded(source, tile.digest), (x, y), (_WIDTH, _HEIGHT))
        sheet.paste(_caption(tile, title, fonts), (x, y + _HEIGHT))
    return sheet


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG. An existing file is replaced atomically.

    Raises:
        CantSave: the file can't be written.
    """
    with can_save(path):
        # `tempfile` would create the file with private permissions.
        scratch = path.with_name(f".thumbtune-{os.getpid()}.png")
        try:
            sheet.save(scratch, "PNG")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def _loaded(source: PictureSource, digest: str) -> Image.Image | None:
    try:
        return source.load([digest])[0]
    except BadPicture:
        return None


def _paste_picture(sheet: Image.Image, picture: Image.Image | None, at: tuple[int, int], size: tuple[int, int]) -> None:
    framed = Image.new("RGB", size, _EMPTY)
    if picture is None:
        text, font = "this thumbnail can't be decoded", sized(REGULAR, _TITLE_SIZE)
        ImageDraw.Draw(framed).text((size[0] / 2, size[1] / 2), text, _PALE, font, anchor="mm")
    else:
        framed = _framed(picture, size)
    sheet.paste(framed, at, _rounded(size))


def _framed(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crop the thumbnail to a 16:9 frame. A 4:3 thumbnail loses its top and bottom, where YouTube puts black bars."""
    ratio = picture.width / picture.height
    if 1.2 <= ratio <= 2:
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    return ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=_EMPTY)


@lru_cache(maxsize=4)
def _rounded(size: tuple[int, int]) -> Image.Image:
    # Drawn at four times the size and reduced: Pillow's own rounded corners are jagged.
    mask = Image.new("L", (4 * size[0], 4 * size[1]), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), 4 * _RADIUS, fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def _draw_heading(sheet: Image.Image, heading: str, fonts: Fonts, query: Image.Image | None) -> None:
    left, height = _MARGIN, _HEADER
    if query is not None:
        size = (_WIDTH // 2, _HEIGHT // 2)
        _paste_picture(sheet, query, (_MARGIN, _MARGIN), size)
        left, height = _MARGIN + size[0] + _GAP, size[1]
    text, font = fonts.choose(heading, _HEADER_SIZE)
    line = _wrapped(text, font, sheet.width - _MARGIN - left, 1)[0]
    ImageDraw.Draw(sheet).text((left, _MARGIN + height / 2), line, _INK, font, anchor="lm")


def _caption(tile: Tile, title: str, fonts: Fonts) -> Image.Image:
    """Draw rank, id, score and two lines of title as a separate image, so that stacked accents can't leave it."""
    caption = Image.new("RGB", (_WIDTH, _CAPTION), _PAPER)
    pen = ImageDraw.Draw(caption)
    bold, plain = sized(BOLD, _TITLE_SIZE), sized(REGULAR, _TITLE_SIZE)
    rank = str(tile.rank)
    pen.text((2, 24), rank, _INK, bold, anchor="ls")
    # The id identifies the video even if no font has the characters of its title.
    pen.text((2 + bold.getlength(rank + "  "), 24), clean(tile.video_id), _PALE, plain, anchor="ls")
    pen.text((_WIDTH - 2, 24), f"{tile.score:.3f}", _PALE, plain, anchor="rs")
    text, font = fonts.choose(title, _TITLE_SIZE)
    for number, line in enumerate(_wrapped(text, font, _WIDTH - 4, 2)):
        pen.text((2, 24 + _LINE * (number + 1)), line, _INK, font, anchor="ls")
    return caption


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """Wrap `text` to at most `lines` lines of `width` pixels; the last line is cut with an ellipsis."""
    wrapped: list[str] = []
    while font.getlength(text) > width:
        last = len(wrapped) == lines - 1
        fits = _longest(text, font, width, "…" if last else "")
        if last:
            return [*wrapped, text[:fits].rstrip() + "…"]
        space = text.rfind(" ", 0, fits + 1)
        end = space if space > 0 else fits
        wrapped.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*wrapped, text]


def _longest(text: str, font: ImageFont.FreeTypeFont, width: int, ending: str) -> int:
    """Return how many characters of `text`, at least one, fit before `ending`."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle] + ending) <= width:
            low = middle
        else:
            high = middle - 1
    while 1 < low < len(text) and unicodedata.combining(text[low]):
        low -= 1
    return low
