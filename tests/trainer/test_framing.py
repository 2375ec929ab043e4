"""Crop modes: bars are found where YouTube puts them and nowhere else, and no content is lost."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from thumbtune.demo.channel import drawn_channel
from thumbtune.standin.pictures import FILES, thumbnail
from trainer.data import framed, without_bars
from trainer.settings import CROP_MODES, CropMode

SIZES = [(480, 360), (640, 480), (120, 90)]
GREY = (122, 116, 104)


def noise(width: int, height: int, low: int, high: int, seed: int = 0) -> Image.Image:
    """A smooth picture with grain, RGB values from low to high."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(low, high + 1, size=(6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = generator.integers(-3, 4, size=(height, width, 3))
    return Image.fromarray(np.clip(smooth + grain, low, high).astype(np.uint8))


def barred(size: tuple[int, int], content: Image.Image, bar: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """A 16:9 picture scaled to the middle of a 4:3 picture; a row shared with a bar is mixed."""
    width, height = size
    scale = 4
    tall = Image.new("RGB", (width, height * scale), bar)
    inner = width * 9 * scale // 16
    tall.paste(content.resize((width, inner)), (0, (height * scale - inner) // 2))
    return tall.resize(size, Image.Resampling.BOX)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def rows(image: Image.Image, first: int, last: int) -> bytes:
    return image.crop((0, first, image.width, last)).tobytes()


@pytest.mark.parametrize("quality", [95, 75, 30, 10])
@pytest.mark.parametrize(("size", "left"), [((480, 360), (480, 270)), ((640, 480), (640, 360)), ((120, 90), (120, 68))])
def test_bars_are_removed_at_the_16_9_frame(size: tuple[int, int], left: tuple[int, int], quality: int) -> None:
    """Also with the brightest picture beside them, whose light JPEG spreads into the bars' last rows."""
    for content in (noise(640, 360, 0, 255), Image.new("RGB", (640, 360), "white")):
        image = as_jpeg(barred(size, content), quality)
        bare = without_bars(image)
        assert bare.size == left
        top = (size[1] - left[1]) // 2
        assert bare.tobytes() == rows(image, top, top + left[1])


@pytest.mark.parametrize("size", SIZES)
def test_bars_with_noise_are_removed(size: tuple[int, int]) -> None:
    """An image that was compressed several times has such bars, or an image whose black is not exactly black."""
    grain = np.random.default_rng(1).normal(4, 4, size=(size[1], size[0], 3))
    image = np.asarray(barred(size, noise(640, 360, 60, 255)), dtype=np.float64) + grain
    noisy = as_jpeg(Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)), 60)
    assert without_bars(noisy).size != size


@pytest.mark.parametrize("size", SIZES)
def test_a_dark_image_between_bars_keeps_all_rows(size: tuple[int, int]) -> None:
    night = as_jpeg(barred(size, noise(640, 360, 0, 6)), 90)
    assert without_bars(night).size == (size[0], -(-size[0] * 9 // 16 // 2) * 2)
    black = Image.new("RGB", size)
    assert without_bars(black).size == without_bars(night).size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("quality", [95, 30])
def test_a_4_3_image_without_bars_is_unchanged(size: tuple[int, int], quality: int) -> None:
    for low, high in ((0, 255), (10, 40), (12, 28), (200, 255)):
        image = as_jpeg(noise(*size, low, high), quality)
        assert without_bars(image) is image


@pytest.mark.parametrize("size", SIZES)
def test_a_single_bar_is_kept(size: tuple[int, int]) -> None:
    """A night sky above a lit street, and a street above a black stage."""
    image = barred(size, noise(640, 360, 80, 255))
    for top in (0, size[1] * 7 // 8):
        lit = image.copy()
        lit.paste(noise(size[0], size[1] // 8, 80, 255), (0, top))
        assert without_bars(lit) is lit


@pytest.mark.parametrize("size", SIZES)
def test_a_bar_with_text_is_kept(size: tuple[int, int]) -> None:
    image = barred(size, noise(640, 360, 80, 255))
    image.paste((200, 200, 200), (size[0] // 2, 3, size[0] // 2 + 8, 6))
    assert without_bars(image) is image


@pytest.mark.parametrize("size", [(320, 180), (1280, 720), (270, 480), (480, 358), (480, 362), (84, 63)])
def test_other_shapes_and_tiny_pictures_have_no_bars(size: tuple[int, int]) -> None:
    black = Image.new("RGB", size)
    assert without_bars(black) is black


@pytest.mark.parametrize(("size", "left"), [((480, 361), 271), ((480, 359), 271), ((1024, 768), 576), ((85, 64), 48)])
def test_the_4_3_shape_is_recognised_to_within_a_pixel(size: tuple[int, int], left: int) -> None:
    assert without_bars(Image.new("RGB", size)).size == (size[0], left)


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
def test_no_image_loses_more_than_its_bars(width: int, height: int, level: int) -> None:
    image = Image.new("RGB", (width, height), (level,) * 3)
    bare = without_bars(image)
    assert bare.width == width
    if bare is not image:
        assert level <= 8
        assert height >= 64
        assert 0 <= bare.height - width * 9 / 16 < 2


def drawn() -> Iterator[bytes]:
    for video in islice(drawn_channel().videos.values(), 20):
        yield video.picture()


@pytest.mark.slow
@pytest.mark.parametrize("file", list(FILES))
def test_drawn_thumbnails_lose_their_bars(file: str) -> None:
    """The 4:3 files have bars; the 16:9 and square files do not."""
    width, height = FILES[file]
    for high in drawn():
        with Image.open(io.BytesIO(thumbnail(high, file))) as opened:
            image = opened.convert("RGB")
        bare = without_bars(image)
        assert (bare is not image) == (width * 3 == height * 4)
        assert abs(bare.height - width * 9 / 16) < 1 or bare is image


def test_real_thumbnails_lose_their_bars(shared_channel: Path) -> None:
    """All are 16:9 pictures in the `high` size, and the rest of each picture fills the frame."""
    files = sorted((shared_channel / "thumbnails").glob("*.jpg"))
    assert files
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        bare = without_bars(image)
        assert (image.size, bare.size) == ((480, 360), (480, 270))
        # Within a JPEG block of the frame there is content: the picture's edge.
        edges = np.asarray(bare.convert("L"))[[*range(8), *range(-8, 0)]]
        assert edges.max() > 32


@pytest.mark.parametrize("size", [(480, 360), (1280, 720), (90, 160), (1, 1)])
def test_crop_only_removes_bars(size: tuple[int, int]) -> None:
    image = noise(*size, 0, 255)
    assert framed(image, "crop", side=224, fill=GREY) is image
    letterboxed = barred((480, 360), image)
    assert framed(letterboxed, "crop", side=224, fill=GREY).tobytes() == without_bars(letterboxed).tobytes()


def columns_and_rows(image: Image.Image, fill: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part that is not `fill`."""
    seen = (np.asarray(image) != np.asarray(fill)).any(axis=2)
    across, down = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((480, 270), (0, 49, 224, 175)),
        ((270, 480), (49, 0, 175, 224)),
        ((300, 300), (0, 0, 224, 224)),
        ((3, 1), (0, 74, 224, 149)),
        ((5000, 1), (0, 111, 224, 112)),
        ((1, 5000), (111, 0, 112, 224)),
        ((1, 1), (0, 0, 224, 224)),
    ],
)
def test_pad_keeps_the_aspect_ratio_and_centres(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    square = framed(Image.new("RGB", size, "white"), "pad", side=224, fill=GREY)
    assert square.size == (224, 224)
    assert columns_and_rows(square, GREY) == box
    assert square.crop(box).getcolors() == [((box[2] - box[0]) * (box[3] - box[1]), (255, 255, 255))]


@pytest.mark.parametrize("size", [(480, 270), (270, 480), (16, 16), (1, 1), (5000, 1), (1, 5000)])
def test_squash_fills_the_square(size: tuple[int, int]) -> None:
    square = framed(Image.new("RGB", size, "white"), "squash", side=96, fill=GREY)
    assert square.size == (96, 96)
    assert square.getcolors() == [(96 * 96, (255, 255, 255))]


def marked(width: int, height: int) -> Image.Image:
    """White, with a colour in each corner, over a fifth of each edge."""
    image = Image.new("RGB", (width, height), "white")
    w, h = width // 5, height // 5
    for colour, at in zip(
        ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 255)),
        ((0, 0), (width - w, 0), (0, height - h), (width - w, height - h)),
        strict=True,
    ):
        image.paste(colour, (*at, at[0] + w, at[1] + h))
    return image


def seen_by_model(image: Image.Image) -> Image.Image:
    """The result of CLIP's own preprocessing, before normalisation."""
    processor = CLIPImageProcessorPil(do_normalize=False, do_rescale=False)
    pixels = processor(image, return_tensors="np")["pixel_values"][0]
    return Image.fromarray(np.moveaxis(pixels, 0, -1).round().astype(np.uint8))


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("image", [barred((480, 360), marked(640, 360)), marked(1280, 720), marked(90, 160)])
def test_the_model_gets_every_corner_and_does_not_resample(fit: CropMode, image: Image.Image) -> None:
    square = framed(image, fit, side=224, fill=GREY)
    assert seen_by_model(square).tobytes() == square.tobytes()
    left, top, right, bottom = columns_and_rows(square, GREY)
    inner = square.crop((left, top, right, bottom))
    w, h = inner.size
    assert [inner.getpixel(at) for at in ((4, 4), (w - 5, 4), (4, h - 5), (w - 5, h - 5), (w // 2, h // 2))] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 0, 255),
        (255, 255, 255),
    ]
    assert (0, 0, 0) not in {colour for _, colour in square.getcolors(224 * 224) or ()}


def test_with_crop_the_model_gets_no_corner() -> None:
    """The reason for the other crop modes: only the middle 56 % of a wide picture is left."""
    image = marked(1280, 720)
    middle = seen_by_model(framed(image, "crop", side=224, fill=GREY))
    corners = np.asarray(middle)[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()
    assert middle.tobytes() == seen_by_model(image).tobytes()


def test_padding_is_normalised_to_about_zero() -> None:
    """Filled with CLIP's mean colour, it is within half a level of 0 once normalised."""
    processor = CLIPImageProcessorPil()
    mean, std = processor.image_mean, processor.image_std
    fill = tuple(round(255 * channel) for channel in mean)
    square = framed(noise(480, 270, 0, 255), "pad", side=224, fill=(fill[0], fill[1], fill[2]))
    pixels = processor(square, return_tensors="np")["pixel_values"][0]
    assert np.abs(pixels[:, :49]).max() <= 0.51 / 255 / min(std)
    assert np.abs(pixels[:, 60:160]).max() > 1


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(CROP_MODES), st.integers(1, 64))
def test_every_size_becomes_a_square(width: int, height: int, fit: CropMode, side: int) -> None:
    image = Image.new("RGB", (width, height), "white")
    square = framed(image, fit, side=side, fill=GREY)
    assert square.mode == "RGB"
    if fit == "crop":
        assert square is image
        return
    assert square.size == (side, side)
    left, top, right, bottom = columns_and_rows(square, GREY)
    longer = max(width, height)
    wanted = (side, side) if fit == "squash" else (width * side / longer, height * side / longer)
    assert abs(right - left - max(1, wanted[0])) <= 0.5
    assert abs(bottom - top - max(1, wanted[1])) <= 0.5
    assert 0 <= (side - right) - left <= 1
    assert 0 <= (side - bottom) - top <= 1
