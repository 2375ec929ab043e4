"""The largest thumbnails that a sync accepts are read at a smaller size to save memory; usual sizes are not changed."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.pictures import FULL_SIZE_PIXELS, decoded
from trainer.errors import BadPicture

MANY = 24
MOST_MIB = 250

# Holds many copies of one decoded file, like a batch, and prints by how many KiB the peak memory grew.
DECODE_MANY = """
import pathlib, re, sys
from trainer.data.pictures import decoded

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

file = pathlib.Path(sys.argv[1]).read_bytes()
before = peak()
held = [decoded(file, "a") for _ in range(int(sys.argv[2]))]
print(peak() - before)
"""


def saved(form: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).rotate(30).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("size", [(120, 90), (480, 360), (1280, 720), (1920, 1080)])
def test_an_ordinary_thumbnail_is_not_reduced(form: str, size: tuple[int, int]) -> None:
    data = saved(form, size)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(np.asarray(decoded(data, "a")), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "mode", "size"),
    [
        ("JPEG", "RGB", (3840, 2160)),
        ("JPEG", "L", (3840, 2160)),
        ("JPEG", "CMYK", (3000, 2000)),
        ("JPEG", "RGB", (8000, 5000)),
        ("PNG", "RGBA", (3840, 2160)),
        ("WEBP", "RGB", (2560, 1440)),
        ("GIF", "P", (3840, 2160)),
    ],
)
def test_a_large_image_is_reduced(form: str, mode: str, size: tuple[int, int]) -> None:
    data = saved(form, size, mode)
    found = decoded(data, "a")
    assert (found.mode, found.width * found.height <= FULL_SIZE_PIXELS) == ("RGB", True)
    assert found.width / found.height == pytest.approx(size[0] / size[1], rel=0.01)
    with Image.open(io.BytesIO(data)) as picture:
        whole = picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    small = found.resize((224, 224), Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(whole).astype(int) - np.asarray(small).astype(int))
    assert difference.mean() < 2


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40_000, 900), (60_000, 60), (3, 1_600_000)])
def test_a_very_long_image_is_reduced(size: tuple[int, int]) -> None:
    found = decoded(saved("PNG", size, "L"), "a")
    assert 0 < found.width * found.height <= FULL_SIZE_PIXELS


@pytest.mark.parametrize("form", ["EPS", "BMP", "TIFF", "PPM", "ICO"])
def test_formats_that_are_never_stored_are_not_opened(form: str) -> None:
    """For an EPS file, Pillow would start Ghostscript."""
    with pytest.raises(BadPicture, match="not an image"):
        decoded(saved(form, (64, 48)), "a")


@pytest.mark.slow
def test_images_above_the_limit_on_pixels_are_not_decoded() -> None:
    with pytest.raises(BadPicture, match="8000 x 5001"):
        decoded(saved("PNG", (8000, 5001), "L"), "a")


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from /proc")
def test_many_of_the_largest_images_fit_in_memory(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(saved("JPEG", (7700, 5150)))
    command = [sys.executable, "-c", DECODE_MANY, str(tmp_path / "large.jpg"), str(MANY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < MOST_MIB << 10


@pytest.mark.parametrize("size", [(1, 20_000), (65_000, 1), (2, 4_000), (3_000_000, 1)])
def test_a_long_image_is_cut_to_its_middle(size: tuple[int, int]) -> None:
    """A model scales the shorter edge to its input: 1 x 20,000 pixels would become 10 GB."""
    data = saved("JPEG" if max(size) < 65_536 else "PNG", size)
    picture = decoded(data, "a")
    assert max(picture.size) == 8 * min(picture.size)


def test_a_banner_is_not_cut() -> None:
    assert decoded(saved("PNG", (1600, 200)), "a").size == (1600, 200)
