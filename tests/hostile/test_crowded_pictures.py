"""Files with too many parts, or two sizes, are refused before decoding; metadata of image editors is accepted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from collector.errors import PictureError
from collector.thumbnails.check import check_picture
from collector.thumbnails.metadata import read_header
from tests.hostile.pictures import MOST_BYTES, chunk, crowded, directory, saved, segment

MOST_MIB = 30

# Checks each file of a folder, and prints by how many KiB the peak memory grew.
CHECK_ALL = """
import pathlib, re, sys
from PIL import Image
from collector.errors import PictureError
from collector.thumbnails.check import check_picture
from collector.thumbnails.decode import set_up_pillow

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

set_up_pillow()
Image.preinit()
before = peak()
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        check_picture(path.read_bytes())
    except PictureError:
        pass
print(peak() - before)
"""


@pytest.mark.parametrize("data", crowded().values(), ids=crowded())
def test_too_much_metadata_is_refused_by_the_header(data: bytes) -> None:
    assert len(data) <= MOST_BYTES
    with pytest.raises(PictureError, match=r"too much metadata|more than \S+ (chunks|scans)"):
        read_header(data)


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from /proc")
def test_refused_metadata_takes_no_memory(tmp_path: Path) -> None:
    for number, data in enumerate(crowded().values()):
        (tmp_path / str(number)).write_bytes(data)
    command = [sys.executable, "-c", CHECK_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < MOST_MIB << 10


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from /proc")
def test_a_png_with_a_second_header_takes_no_memory(tmp_path: Path) -> None:
    """The limits are checked against the first size; Pillow uses the last one, of 324 MB here."""
    large = saved("PNG", "RGBA", (9000, 9000))
    (tmp_path / "png").write_bytes(large[:8] + saved("PNG")[8:33] + large[8:])
    command = [sys.executable, "-c", CHECK_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < MOST_MIB << 10


def after_the_start(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.mark.parametrize(
    "data",
    [
        after_the_start(saved("JPEG"), segment(0xE1, b"Exif\0\0" + directory(60, shared=False))),
        after_the_start(saved("JPEG"), *[segment(0xE1, b"Exif\0\0" + directory(30, shared=False))] * 4),
        after_the_start(saved("JPEG"), *[segment(0xFE, b"a comment")] * 500),
        after_the_start(saved("JPEG"), b"\xff" * 100),
        saved("JPEG", icc_profile=bytes(1_900_000)),
        saved("PNG", icc_profile=bytes(500_000)),
        saved("PNG").replace(chunk(b"IEND"), chunk(b"tEXt", b"key\0" + b"text" * 10_000) * 20 + chunk(b"IEND")),
        saved("WEBP", icc_profile=bytes(500_000), exif=b"Exif\0\0" + directory(30, shared=False)),
        saved("GIF", "L", comment=b"text" * 60_000),
    ],
    ids=["EXIF", "EXIF in parts", "comments", "fill bytes", "profile", "PNG profile", "PNG text", "WebP", "GIF"],
)
def test_metadata_of_image_editors_is_accepted(data: bytes) -> None:
    found = check_picture(data)
    assert (found.width, found.height) == (64, 48)
