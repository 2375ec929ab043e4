"""Equal pictures are found in any size and compression; different pictures of one template stay separate."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from store.db import Database
from store.training import cached_digests
from tests.store.builders import add_channel, add_video
from thumbtune.demo.channel import drawn_channel
from trainer.data import alike_pictures, showing, sketched, without_bars
from trainer.data.likeness import SKETCHES, _close, _fine_sketch, _same_writing, _sketch, remember_sketches


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Both comparisons of two pictures, as for stored thumbnails."""
    return _close(_sketch(one), _sketch(other)) and _same_writing(_fine_sketch(one), _fine_sketch(other))


def jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def drawn(count: int) -> list[Image.Image]:
    return [opened(video.picture()) for video in list(drawn_channel().videos.values())[:count]]


def template(words: str, size: int = 40, place: tuple[int, int] = (30, 100)) -> Image.Image:
    """A letterboxed thumbnail of a fixed design with the given words."""
    noise = np.random.default_rng(5).integers(0, 256, size=(9, 16, 3), dtype=np.uint8)
    image = Image.new("RGB", (480, 360))
    image.paste(Image.fromarray(noise).resize((480, 270), Image.Resampling.BICUBIC), (0, 45))
    ImageDraw.Draw(image).text(place, words, fill="white", font_size=size, stroke_width=2, stroke_fill="black")
    return image


@pytest.mark.parametrize("quality", [95, 80, 60, 40])
@pytest.mark.parametrize("size", [None, (1280, 720), (640, 360), (320, 180)])
def test_the_same_thumbnail_in_any_size_and_quality_is_a_near_duplicate(
    quality: int, size: tuple[int, int] | None
) -> None:
    for image in [*drawn(5), template("Part 7")]:
        other = image if size is None else without_bars(image).resize(size)
        assert alike(image, opened(jpeg(other, quality)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (template("Part 7"), template("Part 8")),
        (template("7", 16, (440, 60)), template("8", 16, (440, 60))),
        (template("11", 16, (440, 60)), template("12", 16, (440, 60))),
        (template("I tried it"), template("Never again")),
        (Image.new("RGB", (480, 270), "black"), Image.new("RGB", (480, 270), (12, 12, 12))),
        (Image.new("RGB", (480, 270), "red"), Image.new("RGB", (480, 270), "maroon")),
    ],
    ids=["number", "small number", "second digit", "words", "nearly black", "plain"],
)
def test_thumbnails_from_one_template_stay_apart(one: Image.Image, other: Image.Image) -> None:
    assert not alike(one, other)
    assert not alike(opened(jpeg(one, 80)), opened(jpeg(other, 80)))


def test_different_dark_thumbnails_stay_apart() -> None:
    nights = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 20, size=(9, 16, 3), dtype=np.uint8)).resize((480, 270))
        for seed in (1, 2)
    ]
    assert not alike(*nights)
    assert alike(nights[0], opened(jpeg(nights[0], 85)))


def test_plain_thumbnails_of_one_colour_are_near_duplicates() -> None:
    assert alike(Image.new("RGB", (480, 270), "teal"), opened(jpeg(Image.new("RGB", (1280, 720), "teal"), 80)))


def store_all(database: Database, pictures: dict[str, bytes]) -> dict[str, str]:
    """Add videos; return {video id: digest}."""
    with database.write() as session:
        add_channel(session)
        for day, (name, picture) in enumerate(pictures.items()):
            add_video(session, name, day=day, title=name, picture=picture)
    from store.training import current_pairs  # noqa: PLC0415

    with database.read() as session:
        return {pair.video_id: pair.picture_sha256 for pair in current_pairs(session)}


def test_stored_near_duplicates_are_grouped_and_sketches_are_saved(database: Database) -> None:
    first, second, third = drawn(3)
    pictures = {
        "first": jpeg(first, 90),
        "again": jpeg(first, 80),
        "large": jpeg(without_bars(first).resize((1280, 720)), 80),
        "second": jpeg(second, 90),
        "third": jpeg(third, 90),
        "broken": b"no picture",
    }
    digests = store_all(database, pictures)
    with database.read() as session:
        assert alike_pictures(session, sketched(session, digests.values())) == {}, "they have no sketches yet"
    remember_sketches(database, digests.values())
    with database.read() as session:
        kept = cached_digests(session, SKETCHES, "vision", list(digests.values()), 432)
        assert kept == set(digests.values()) - {digests["broken"]}
        joined = alike_pictures(session, sketched(session, digests.values()))
    same = {digests[name] for name in ("first", "again", "large")}
    assert joined == dict.fromkeys(same, min(same))
    assert showing(database, without_bars(first).resize((1920, 1080)), digests.values()) == same
    assert showing(database, Image.new("RGB", (9, 9)), digests.values()) == frozenset()


def test_many_near_duplicates_are_one_group(sqlite_database: Database) -> None:
    plain = jpeg(Image.new("RGB", (120, 90), "navy"), 90)
    digests = store_all(sqlite_database, {f"v{n}": plain + bytes([n]) for n in range(40)})
    remember_sketches(sqlite_database, digests.values())
    with sqlite_database.read() as session:
        assert set(alike_pictures(session, sketched(session, digests.values())).values()) == {min(digests.values())}


@pytest.mark.slow
def test_a_real_channels_thumbnails_are_all_different(shared_channel: Path, sqlite_database: Database) -> None:
    files = {file.stem: file.read_bytes() for file in sorted((shared_channel / "thumbnails").glob("*.jpg"))}
    again = {f"{name} again": jpeg(opened(content), 80) for name, content in list(files.items())[:20]}
    digests = store_all(sqlite_database, {**files, **again})
    remember_sketches(sqlite_database, digests.values())
    with sqlite_database.read() as session:
        joined = alike_pictures(session, sketched(session, digests.values()))
    expected = {frozenset((digests[name.removesuffix(" again")], digests[name])) for name in again}
    assert {frozenset(one for one in joined if joined[one] == root) for root in joined.values()} == expected
