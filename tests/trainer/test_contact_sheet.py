"""Contact sheets: grid and pixels, titles in any script, installed fonts, files that can't be written."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pytest
from PIL import Image, ImageChops

from trainer.errors import BadPicture, BadSetting, CantSave
from trainer.publish import MAX_TILES, Tile, check_sheet_path, draw_sheet, write_sheet
from trainer.publish.sheet_fonts import MISSING, clean, fonts_for, installed_fonts

BUNDLED = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
PAPER = (250, 250, 248)
SCRIPT = "\N{MATHEMATICAL BOLD SCRIPT CAPITAL A}\N{MATHEMATICAL BOLD SCRIPT SMALL N}"


class Plain:
    """Pictures of one colour, by its name, except for `damaged`; in YouTube's size `high`, with bars."""

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        pictures = []
        for digest in digests:
            if digest == "damaged":
                raise BadPicture("it is")
            picture = Image.new("RGB", (480, 360), "black")
            picture.paste(digest, (0, 45, 480, 315))
            pictures.append(picture)
        return pictures


def tiles(n: int, title: str = "A title", colour: str = "navy") -> list[Tile]:
    return [Tile(colour, f"video{at:06}", at, 1 / at, title) for at in range(1, n + 1)]


def bundled() -> list[Path]:
    return sorted(path for path in BUNDLED.glob("*.ttf") if "LastResort" not in path.name)


def nothing() -> list[Path]:
    return []


def sheet(rows: Sequence[Tile], heading: str = "asked", query: Image.Image | None = None) -> Image.Image:
    return draw_sheet(heading, rows, Plain(), query=query, installed=nothing)


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    found = picture.getcolors(1 << 24)
    assert found is not None
    return {colour for _, colour in found if isinstance(colour, tuple)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "columns", "rows"), [(1, 1, 1), (5, 5, 1), (6, 3, 2), (7, 4, 2), (10, 5, 2), (11, 4, 3), (200, 5, 40)]
)
def test_tiles_are_drawn_in_a_grid(n: int, columns: int, rows: int) -> None:
    drawn = sheet(tiles(n))
    assert drawn.size == (56 + columns * 340 - 20, 96 + rows * 274 - 20 + 28)
    in_the_middle = [
        drawn.getpixel((28 + 340 * column + 160, 96 + 274 * row + 90))
        for row in range(rows)
        for column in range(columns)
    ]
    assert in_the_middle == [(0, 0, 128)] * n + [PAPER] * (columns * rows - n)


def test_tiles_have_no_black_bars_and_rounded_corners() -> None:
    drawn = sheet(tiles(1))
    tile = drawn.crop((28, 96, 348, 276))
    # Resampling takes a little of the bar into the outermost row.
    assert all(colour[2] > 110 for colour in colours(tile.crop((20, 0, 300, 180))))
    assert tile.getpixel((0, 90)) == (0, 0, 128)
    assert tile.getpixel((0, 0)) == PAPER


@pytest.mark.parametrize("size", [(90, 160), (1_000, 100), (1, 1), (160, 1)])
def test_thumbnails_of_other_shapes_are_shown_whole(size: tuple[int, int]) -> None:
    class Odd(Plain):
        def load(self, digests: Sequence[str]) -> list[Image.Image]:
            return [Image.new("RGB", size, "red") for _ in digests]

    tile = draw_sheet("asked", tiles(1), Odd(), installed=nothing).crop((28, 96, 348, 276))
    assert tile.getpixel((160, 90)) == (255, 0, 0)
    assert (222, 222, 219) in colours(tile), "the crop excludes the margins"


def test_a_thumbnail_that_cannot_be_decoded_is_marked() -> None:
    drawn = sheet([*tiles(1), Tile("damaged", "video", 2, 0.5, "Damaged"), *tiles(1)])
    tile = drawn.crop((28 + 340, 96, 28 + 340 + 320, 276))
    assert (0, 0, 128) not in colours(tile)
    assert len(colours(tile)) > 3, "the error is written on the tile"
    assert drawn.getpixel((28 + 680 + 160, 186)) == (0, 0, 128)


def test_the_query_is_shown_beside_the_heading() -> None:
    drawn = sheet(tiles(2), query=Image.new("RGB", (640, 360), "lime"))
    assert drawn.getpixel((28 + 80, 28 + 45)) == (0, 255, 0)
    assert drawn.getpixel((28 + 160, 56 + 90 + 90)) == (0, 0, 128)


@pytest.mark.parametrize(
    "title",
    [
        "",
        " \n ",
        "word " * 400,
        "A" * 5_000,
        "Z" + "\N{COMBINING ACUTE ACCENT}" * 400 + "algo",
        "日本語の題名",
        "مرحبا بالعالم",
        "हिन्दी สวัสดี",
        "👩‍👩‍👧 🎈 ❤️",
        "\x1b[31mred\x00\u202eevil",
        "\ud800 alone",
        "\U0010ffff\ue000",
    ],
)
def test_any_title_stays_within_its_tile(title: str) -> None:
    rows = [*tiles(1, "One"), Tile("navy", "video", 2, 0.5, title), *tiles(1, "Three")]
    drawn = sheet(rows, heading=title)
    plain = sheet([*tiles(1, "One"), Tile("navy", "video", 2, 0.5, "x"), *tiles(1, "Three")], heading=title)
    changed = ImageChops.difference(drawn, plain).getbbox()
    # Only the caption of the tile with another title differs.
    left, top = 28 + 340, 96 + 180
    assert changed is not None
    assert changed[0] >= left
    assert changed[1] >= top
    assert changed[2] <= left + 320
    assert changed[3] <= top + 74
    header = drawn.crop((drawn.width - 28, 0, drawn.width, 96))
    assert colours(header) == {PAPER}, "the heading is cut before the margin"


def test_clean_titles() -> None:
    assert clean("  a\n\tb\N{NO-BREAK SPACE} c ") == "a b c"
    assert clean("\x1b[1m\u202eabc\u2066\x7f") == "[1mabc"
    assert clean("می\u200cخواهم") == "می\u200cخواهم", "Persian spells with the non-joiner"
    assert len(clean("x" * 10_000_000)) == 300


def test_characters_without_a_font_become_squares_and_marks_are_omitted() -> None:
    fonts = fonts_for(["ok 日本 か\u3099"], nothing)
    assert fonts.choose("ok 日本 か\u3099", 15)[0] == f"ok {MISSING * 2} {MISSING}"
    assert fonts_for(["हिन्दी"], nothing).choose("हिन्दी", 15)[0].count(MISSING) >= 3


def test_an_installed_font_is_used_for_titles_that_need_it() -> None:
    fonts = fonts_for(["plain", SCRIPT, f"{SCRIPT} 日"], bundled)
    plain, default = fonts.choose("plain", 15)
    assert (plain, default.getname()[0]) == ("plain", "DejaVu Sans")
    text, font = fonts.choose(SCRIPT, 15)
    assert (text, font.getname()[0]) == (SCRIPT, "STIXGeneral")
    text, font = fonts.choose(f"{SCRIPT} 日", 15)
    assert (text, font.getname()[0]) == (f"{SCRIPT} {MISSING}", "STIXGeneral")


def test_fonts_are_searched_only_when_needed() -> None:
    fonts_for(["Grüße, Жизнь, Ελλάδα, مرحبا, ★"], lambda: pytest.fail("DejaVu Sans has them all"))


def test_the_installed_fonts_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newly installed font is found, and a damaged font is left out."""
    folder = tmp_path / "fonts"
    folder.mkdir()
    shutil.copy(BUNDLED / "STIXGeneral.ttf", folder / "new.ttf")
    (folder / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr("matplotlib.font_manager.X11FontDirectories", [str(folder)])
    found = installed_fonts()
    assert all(path.is_file() for path in found)
    assert len(found) == len(set(found))
    assert not {"broken.ttf", "LastResortHE-Regular.ttf"} & {path.name for path in found}
    if sys.platform == "linux":
        assert folder / "new.ttf" in found


@pytest.mark.parametrize("n", [0, MAX_TILES + 1])
def test_the_number_of_tiles_is_limited(n: int) -> None:
    with pytest.raises(ValueError, match=f"a sheet holds 1 to 200 tiles, not {n}"):
        sheet(tiles(n))


def test_a_sheet_replaces_a_file_atomically(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")
    before = os.umask(0o027)
    try:
        write_sheet(sheet(tiles(1)), path)
    finally:
        os.umask(before)
    with Image.open(path) as written:
        assert (written.format, written.size) == ("PNG", (376, 378))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [item.name for item in tmp_path.iterdir()] == ["sheet.png"]


def test_invalid_paths_of_sheets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("sheet.jpg", ".png"),
        ("sheet", ".png"),
        ("folder.png", "is a folder"),
        ("none/sheet.png", "the folder .*none does not exist"),
    ):
        with pytest.raises(BadSetting, match=message):
            check_sheet_path(tmp_path / name)
    check_sheet_path(tmp_path / "SHEET.PNG")
    with pytest.raises(CantSave, match="sheet.png can't be written"):
        write_sheet(sheet(tiles(1)), tmp_path / "none" / "sheet.png")
    with pytest.raises(CantSave, match="folder.png can't be written"):
        write_sheet(sheet(tiles(1)), tmp_path / "folder.png")
    assert [item.name for item in tmp_path.iterdir()] == ["folder.png"], "no temporary files left"
