"""Reading the words on thumbnails: their order, hostile pictures, and reading each thumbnail once."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from store.db import Database, rows_as_dicts
from store.training import read_words_of
from trainer.errors import ReaderMissing
from trainer.models import reading
from trainer.models.reading import LONGEST_SIDE, LONGEST_TEXT, Found, RapidReader, joined, read_words


def piece(text: str, left: float, top: float, *, height: float = 20, confidence: float = 0.9) -> Found:
    return Found(text, confidence, left, top, left + 10 * len(text), top + height)


def test_words_are_joined_line_by_line_from_left_to_right() -> None:
    pieces = [piece("below", 0, 60), piece("right", 200, 3), piece("left", 0, 0), piece("too", 90, 62)]
    assert joined(pieces) == "left right below too"
    assert joined(pieces[::-1]) == "left right below too"


def test_a_small_word_beside_a_tall_word_joins_its_line_only_if_their_centres_agree() -> None:
    tall = piece("TALL", 0, 0, height=100)
    assert joined([tall, piece("top", 60, 0, height=10)]) == "top TALL"
    assert joined([piece("mid", 60, 44, height=12), tall]) == "TALL mid"


def test_text_with_low_confidence_is_left_out() -> None:
    assert joined([piece("sure", 0, 0), piece("noise", 0, 50, confidence=0.69)]) == "sure"
    assert joined([piece("noise", 0, 50, confidence=0.69)]) == ""
    assert joined([]) == ""


@given(st.lists(st.builds(piece, st.text(), st.integers(0, 500), st.integers(0, 500))))
def test_any_text_becomes_one_bounded_line_that_both_databases_accept(pieces: list[Found]) -> None:
    text = joined(pieces)
    assert len(text) <= LONGEST_TEXT
    assert text == " ".join(text.split())
    text.encode()
    assert "\0" not in text
    assert joined(pieces[::-1], least=0.95) == ""


@pytest.fixture(scope="module")
def reader() -> RapidReader:
    return RapidReader()


def poster(*lines: str, size: tuple[int, int] = (480, 360)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((30, 30 + 90 * number), line, fill="black", font=ImageFont.load_default(48))
    return image


def test_the_ocr_reads_words(reader: RapidReader) -> None:
    assert reader.read(poster("RED BICYCLE", "IN THE RAIN")).upper().replace(" ", "") == "REDBICYCLEINTHERAIN"


@pytest.mark.slow
def test_a_large_image_is_reduced_before_reading(reader: RapidReader) -> None:
    large = poster("RED BICYCLE").resize((1920, 1440), Image.Resampling.BICUBIC)
    assert reader.read(large).upper().replace(" ", "") == "REDBICYCLE"


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (20_000, 20), (31, 640), (97, 96)])
def test_an_image_of_any_shape_is_read_in_bounded_memory(reader: RapidReader, size: tuple[int, int]) -> None:
    assert max(reading._bounded(Image.new("RGB", size, "white")).size) <= LONGEST_SIDE
    assert reader.read(Image.new("RGB", size, "white")) == ""


@pytest.mark.slow
def test_an_image_full_of_text_is_read_in_bounded_time(reader: RapidReader) -> None:
    image = Image.new("RGB", (1280, 1280), "white")
    draw = ImageDraw.Draw(image)
    for y in range(0, 1280, 14):
        for x in range(0, 1280, 60):
            draw.text((x, y), f"a{x + y}", fill="black", font=ImageFont.load_default(12))
    assert len(reader.read(image)) <= LONGEST_TEXT


class Letters:
    """A reader and a source of thumbnails that record their calls."""

    name = "letters 1"

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        self.loaded += digests
        return [Image.new("RGB", (8, 8), (int(digest[0], 16), 0, 0)) for digest in digests]

    def read(self, image: Image.Image) -> str:
        pixel = image.getpixel((0, 0))
        assert isinstance(pixel, tuple)
        return "" if pixel[0] == 0 else f"word {pixel[0]}"


DIGESTS = [f"{n % 16:x}{n:063x}" for n in range(20)]


def test_a_thumbnail_is_read_only_once(database: Database) -> None:
    letters, counted = Letters(), list[int]()
    first = read_words(database, letters, [*DIGESTS, DIGESTS[0]], letters, counted.append)
    assert [first[DIGESTS[n]] for n in (0, 1, 16)] == ["", "word 1", ""]
    assert (letters.loaded, sum(counted)) == (DIGESTS, 20)
    assert read_words(database, letters, DIGESTS[::-1], letters, counted.append) == first
    assert (letters.loaded, sum(counted)) == (DIGESTS, 40)
    letters.name = "letters 2"
    read_words(database, letters, DIGESTS[:1], letters, counted.append)
    assert letters.loaded[20:] == DIGESTS[:1], "another version reads it again"


def test_words_are_not_stored_if_not_requested(database: Database) -> None:
    letters = Letters()
    read_words(database, letters, DIGESTS, letters, lambda _n: None, keep=False)
    with database.read() as session:
        assert rows_as_dicts(session, "SELECT * FROM thumbnail_words") == []


def test_words_that_are_not_stored_are_read_once_per_process(database: Database) -> None:
    letters = Letters()
    letters.name = "letters, in memory"
    first = read_words(database, letters, DIGESTS[:3], letters, lambda _n: None, keep=False)
    counted: list[int] = []
    assert read_words(database, letters, DIGESTS[:4], letters, counted.append) == {**first, DIGESTS[3]: "word 3"}
    assert (letters.loaded, sum(counted)) == (DIGESTS[:4], 4)
    with database.read() as session:
        assert read_words_of(session, letters.name, DIGESTS) == {**first, DIGESTS[3]: "word 3"}


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_name: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", gone)
    with pytest.raises(ReaderMissing, match="reader"):
        RapidReader()
