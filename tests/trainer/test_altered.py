"""Altered copies of a thumbnail are found; different thumbnails of one template stay separate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from store.db import Database
from tests.trainer.test_likeness import drawn, jpeg, opened, store_all, template
from trainer.data import alike_pictures, sketched, without_bars
from trainer.data.altered import altered_candidates, coarse, is_altered_copy
from trainer.data.likeness import remember_sketches

Change = Callable[[Image.Image], Image.Image]
SIZE = (480, 270)


def cropped(left: float, top: float, right: float, bottom: float) -> Change:
    def crop(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
        return image.crop(box).resize(SIZE)

    return crop


def copy(image: Image.Image, change: Change, quality: int = 85) -> Image.Image:
    return opened(jpeg(change(without_bars(image).resize(SIZE)), quality))


ALTERED: dict[str, Change] = {
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.85),
    "stronger colours": lambda image: ImageEnhance.Color(image).enhance(1.3),
    "weaker colours": lambda image: ImageEnhance.Color(image).enhance(0.6),
    "cropped": cropped(0.03, 0.03, 0.03, 0.03),
    "cropped unevenly": cropped(0.05, 0.0, 0.01, 0.04),
    "framed": lambda image: ImageOps.expand(image.resize((400, 270)), (40, 0), "black"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
def test_an_altered_copy_of_a_picture(change: Change) -> None:
    for image in (*drawn(3), template("Part 7")):
        assert is_altered_copy(image, copy(image, change))
        assert is_altered_copy(copy(image, change), image)


@pytest.mark.parametrize("change", [*ALTERED.values(), lambda image: image], ids=[*ALTERED, "unchanged"])
def test_altered_pictures_of_one_template_stay_apart(change: Change) -> None:
    for one, other, size, place in (
        ("Part 7", "Part 8", 40, (30, 100)),
        ("7", "8", 16, (420, 70)),
        ("I tried it", "Never again", 40, (30, 100)),
    ):
        assert not is_altered_copy(template(one, size, place), copy(template(other, size, place), change))


def test_pictures_with_little_contrast_stay_apart() -> None:
    nights = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 20, size=(9, 16, 3), dtype=np.uint8)).resize(SIZE)
        for seed in (1, 2)
    ]
    assert not is_altered_copy(*nights)
    assert not is_altered_copy(Image.new("RGB", SIZE, "red"), Image.new("RGB", SIZE, "maroon"))


def test_candidates_are_the_most_similar_first_and_never_the_picture_itself() -> None:
    pictures = [np.asarray(image.resize((32, 18))) for image in (*drawn(4), drawn(1)[0])]
    found = altered_candidates(coarse(np.stack(pictures)))
    assert found[0] == (0, 4)
    assert all(one < other for one, other in found)
    assert altered_candidates(coarse(np.stack(pictures[:1]))) == []


def test_stored_copies_are_joined(database: Database) -> None:
    first, second = drawn(2)
    pictures = {
        "first": jpeg(first, 90),
        "brighter": jpeg(copy(first, ALTERED["brighter"]), 80),
        "cropped": jpeg(copy(first, ALTERED["cropped"]), 80),
        "framed": jpeg(copy(first, ALTERED["framed"]), 80),
        "second": jpeg(second, 90),
    }
    digests = store_all(database, pictures)
    remember_sketches(database, digests.values())
    with database.read() as session:
        joined = alike_pictures(session, sketched(session, digests.values()))
    same = {digests[name] for name in ("first", "brighter", "cropped", "framed")}
    assert joined == dict.fromkeys(same, min(same))


@pytest.mark.slow
def test_no_drawn_pictures_are_copies_of_each_other() -> None:
    pictures = drawn(60)
    crops = coarse(np.stack([np.asarray(without_bars(image).resize((32, 18))) for image in pictures]))
    assert not [pair for pair in altered_candidates(crops) if is_altered_copy(*(pictures[at] for at in pair))]
