"""Files that are not thumbnails: each is rejected with its reason, and the others are fetched."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zlib
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from collector.errors import PictureError
from collector.thumbnails.check import LargeDecoder, check_picture
from collector.thumbnails.decode import set_up_pillow
from store.db import Database
from store.types import MAX_PICTURE_PIXELS
from tests.collector.channels import channel, failures, jpeg, sync, video
from tests.standin import Fault, Faults, StandIn


def png(width: int, height: int, mode: int = 2) -> bytes:
    """A PNG that announces any size and contains no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


WHOLE = jpeg("whole", (480, 360))
SMALL = [
    saved(Image.effect_noise((24, 18), 60).convert(mode), form, **options)
    for mode, form, options in (
        ("RGB", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGBA", "PNG", {}),
        ("P", "GIF", {}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"lossless": True}),
    )
]
BAD = {
    "empty": (b"", "empty"),
    "text": (b"<html>not found</html>", "not an image"),
    "cut": (WHOLE[: len(WHOLE) // 2], "can't be decoded"),
    "a header alone": (WHOLE[:30], "can't be decoded"),
    "a bomb": (png(30_000, 30_000), "too many"),
    "a small bomb": (png(8_000, 6_000), "too many"),
    "between Pillow's two bounds": (png(10_000, 10_000), "too many"),
    "a format that no thumbnail has": (saved(Image.new("RGB", (8, 8)), "BMP"), "not an image"),
    "a PNG without pixels": (png(64, 64), "can't be decoded"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_not_images_are_refused(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(PictureError, match=reason):
        check_picture(data)


@pytest.mark.parametrize(
    ("data", "mime", "size"),
    [
        (WHOLE, "image/jpeg", (480, 360)),
        (saved(Image.new("CMYK", (40, 30)), "JPEG"), "image/jpeg", (40, 30)),
        (saved(Image.new("I;16", (40, 30)), "PNG"), "image/png", (40, 30)),
        (saved(Image.new("P", (1, 1)), "PNG"), "image/png", (1, 1)),
        (saved(Image.new("RGBA", (40, 30)), "WEBP"), "image/webp", (40, 30)),
        (
            saved(Image.new("RGB", (9, 9)), "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")]),
            "image/gif",
            (9, 9),
        ),
        (saved(Image.new("L", (3000, 2000)), "JPEG"), "image/jpeg", (3000, 2000)),
    ],
    ids=["jpeg", "cmyk", "16 bit", "1x1", "webp", "animated", "large"],
)
def test_unusual_images_are_accepted(data: bytes, mime: str, size: tuple[int, int]) -> None:
    checked = check_picture(data)
    assert (checked.mime, (checked.width, checked.height)) == (mime, size)


def lossless_jpeg(width: int, height: int) -> bytes:
    """A grey JPEG without differences between pixels: each is one bit, by a table of two codes."""

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    codes = bytes([0, 1, 1, *[0] * 14, 0, 1])
    frame = struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0])
    scan = bytes([1, 1, 0, 1, 0, 0])
    pixels = bytes(width * height // 8)
    return b"\xff\xd8" + segment(0xC4, codes) + segment(0xC3, frame) + segment(0xDA, scan) + pixels + b"\xff\xd9"


def test_a_lossless_jpeg_is_accepted() -> None:
    data = lossless_jpeg(480, 360)
    found = check_picture(data)
    assert (found.mime, found.width, found.height) == ("image/jpeg", 480, 360)
    with pytest.raises(PictureError, match="can't be decoded"):
        check_picture(data[: len(data) // 2])


def test_a_lossless_jpeg_with_a_misleading_comment_is_accepted() -> None:
    plain = lossless_jpeg(48, 36)
    found = check_picture(plain[:2] + b"\xff\xfe\x00\x06\xff\xda\x00\x0c" + plain[2:])
    assert (found.mime, found.width, found.height) == ("image/jpeg", 48, 36)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_small_jpeg_is_refused_if_and_only_if_decoding_fails(mode: str, options: dict[str, object]) -> None:
    data = saved(Image.effect_noise((75, 53), 60).convert(mode), "JPEG", **options)
    for length in [*range(100, len(data), 97), *range(len(data) - 24, len(data) + 1)]:
        try:
            with Image.open(io.BytesIO(data[:length])) as picture:
                picture.load()
        except OSError:
            with pytest.raises(PictureError):
                check_picture(data[:length])
        else:
            check_picture(data[:length])


def test_a_truncated_large_jpeg_is_refused() -> None:
    noise = Image.effect_noise((3000, 2000), 50)
    data = saved(noise, "JPEG")
    check_picture(data)
    with pytest.raises(PictureError):
        check_picture(data[:-2000])


def test_the_limit_on_pixels_is_exact() -> None:
    assert MAX_PICTURE_PIXELS == 8000 * 5000
    most = check_picture(saved(Image.new("L", (8000, 5000)), "JPEG"))
    assert (most.width, most.height) == (8000, 5000)
    with pytest.raises(PictureError, match="too many"):
        check_picture(saved(Image.new("L", (8000, 5001)), "JPEG"))


@pytest.mark.processes
@pytest.mark.parametrize(
    ("form", "options", "most"),
    [
        ("PNG", {}, (4000, 2500)),
        ("GIF", {}, (4000, 2500)),
        ("WEBP", {"lossless": True}, (4000, 2500)),
        ("JPEG", {"progressive": True}, (4000, 2500)),
    ],
    ids=["png", "gif", "webp", "progressive"],
)
def test_formats_that_are_decoded_as_a_whole_are_limited_by_memory(
    form: str, options: dict[str, object], most: tuple[int, int]
) -> None:
    check_picture(saved(Image.new("L", most), form, **options))
    with pytest.raises(PictureError, match="too many pixels"):
        check_picture(saved(Image.new("L", (most[0], most[1] + 1)), form, **options))


FOUR_K = (3840, 2160)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "I;16", {}),
        ("GIF", "P", {}),
        ("WEBP", "RGB", {"method": 0}),
        ("WEBP", "RGBA", {"lossless": True, "method": 0}),
    ],
)
def test_4k_images_of_common_formats_are_accepted_unless_truncated(
    form: str, mode: str, options: dict[str, object]
) -> None:
    data = saved(Image.linear_gradient("L").resize(FOUR_K).convert(mode), form, **options)
    found = check_picture(data)
    assert (found.mime, (found.width, found.height)) == (f"image/{form.lower()}", FOUR_K)
    with pytest.raises(PictureError, match="can't be decoded"):
        check_picture(data[: len(data) * 9 // 10])


@pytest.mark.processes
def test_close_aborts_a_large_image() -> None:
    data = saved(Image.new("RGB", FOUR_K), "PNG")
    decoder = LargeDecoder()
    assert check_picture(data, decoder).width == FOUR_K[0]
    decoder.close()
    with pytest.raises(PictureError, match="SIGKILL"):
        check_picture(data, decoder)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_header_with_a_smaller_size_than_the_pixels_is_damage(form: str) -> None:
    """The limits are checked against the first announced size, but a file may announce a second size."""
    small, large = (saved(Image.new("L", size), form) for size in ((16, 16), (200, 100)))
    if form == "JPEG":
        at = large.index(b"\xff\xc0")
        data = large[:at] + small[small.index(b"\xff\xc0") :][:13] + large[at:]
    elif form == "PNG":
        data = large[:8] + small[8:33] + large[8:]
    elif form == "GIF":
        data = large[:6] + struct.pack("<HH", 16, 16) + large[10:]
        assert check_picture(data).width == 200  # Pillow makes the picture as large as its first frame
        return
    else:
        data = large[:12] + b"VP8X" + struct.pack("<II", 10, 0) + b"\x0f\0\0\x0f\0\0" + large[12:]
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    with pytest.raises(PictureError, match="can't be decoded"):
        check_picture(data)


def test_a_jpeg_scan_without_all_components_counts_as_decoded_as_a_whole() -> None:
    data = bytearray(saved(Image.new("RGB", (4000, 2501)), "JPEG"))
    check_picture(bytes(data))
    scan = data.index(b"\xff\xda")
    data[scan + 4] = 1
    with pytest.raises(PictureError, match="too many pixels"):
        check_picture(bytes(data))


def test_a_jpeg_with_too_many_scans_is_refused_before_decoding() -> None:
    whole = saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    check_picture(whole)
    with pytest.raises(PictureError, match="more than 200 scans"):
        check_picture(whole[:-2] + scan * 200 + whole[-2:])


FACTORS = (0x11, 0x12, 0x21, 0x22, 0x31, 0x13, 0x41)


def sampled(factors: tuple[int, int, int]) -> bytes:
    """A JPEG whose frame has these sampling factors (`0xHV`) for each component, regardless of its scan."""
    data = bytearray(saved(Image.effect_noise((120, 90), 60).convert("RGB"), "JPEG"))
    frame = data.index(b"\xff\xc0")
    for number, factor in enumerate(factors):
        data[frame + 11 + 3 * number] = factor
    return bytes(data)


@pytest.mark.parametrize("of_light", FACTORS)
def test_a_jpeg_of_any_sampling_is_accepted_if_and_only_if_it_can_be_decoded(of_light: int) -> None:
    """Decoding at a smaller size must not accept a file that training can't decode."""
    for factors in product([of_light], FACTORS, FACTORS):
        data = sampled(factors)
        try:
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
        except OSError:
            with pytest.raises(PictureError):
                check_picture(data)
        else:
            check_picture(data)


@pytest.mark.parametrize("scans", [2, 40])
def test_scans_after_a_complete_scan_are_damage(scans: int) -> None:
    flat = saved(Image.new("RGB", (64, 64), "teal"), "JPEG")
    begin, end = flat.index(b"\xff\xda"), len(flat) - 2
    with pytest.raises(PictureError, match="broken data stream"):
        check_picture(flat[:begin] + flat[begin:end] * scans + flat[end:])


def test_an_image_with_an_exif_rotation_is_kept_unchanged() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    data = saved(Image.new("RGB", (40, 30)), "JPEG", exif=turned)
    checked = check_picture(data)
    assert (checked.width, checked.height) == (40, 30)
    assert checked.sha256 == hashlib.sha256(data).hexdigest()


def test_a_png_full_of_compressed_text_is_refused() -> None:
    set_up_pillow()
    text = PngImagePlugin.PngInfo()
    for _ in range(8):
        text.add_text("Comment", "x" * 1_000_000, zip=True)
    data = saved(Image.new("RGB", (8, 8)), "PNG", pnginfo=text)
    assert len(data) < 20_000
    with pytest.raises(PictureError, match="can't be decoded"):
        check_picture(data)


# Invalid chunks after the pixels of a PNG: Pillow raises their errors unchanged.
ODD_PARTS = {
    "gamma": (b"gAMA", 0, b""),  # ValueError; struct.error in Pillow 11, the oldest allowed version
    "transparency": (b"tRNS", 1, b"\0"),  # the same
    "primaries": (b"cHRM", 5, bytes(5)),  # the same
    "colour profile": (b"iCCP", 0, b""),  # IndexError
    "packed colour profile": (b"iCCP", 6, b"name\0\1"),  # SyntaxError
    "frame": (b"fcTL", 26, b"\xff" * 26),  # SyntaxError
    "header": (b"IHDR", 0, b""),  # ValueError
    "resolution": (b"pHYs", 0, b""),  # ValueError
    "longer than the file": (b"zTXt", 65536, b""),  # OSError
}


@pytest.mark.parametrize("name", ODD_PARTS)
def test_every_decoder_error_becomes_a_reason(name: str) -> None:
    kind, size, body = ODD_PARTS[name]
    part = struct.pack(">I", size) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    whole = saved(Image.new("L", (1, 1)), "PNG")
    end = whole.index(b"IEND") - 4
    with pytest.raises(PictureError, match="can't be decoded"):
        check_picture(whole[:end] + part + whole[end:])


@pytest.mark.slow
@given(st.data())
@settings(max_examples=200, derandomize=True, deadline=None)
def test_damaged_bytes_raise_no_other_error(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(SMALL)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(PictureError):
        checked = check_picture(bytes(body))
        assert checked.width * checked.height <= MAX_PICTURE_PIXELS


async def test_harmless_damage_gives_no_warning(sqlite_database: Database, recwarn: pytest.WarningsRecorder) -> None:
    whole = saved(Image.new("RGB", (24, 18)), "JPEG")
    list_of_others = b"\xff\xe2" + struct.pack(">H", 10) + b"MPF\0junk"
    catalogue = channel(0)
    catalogue.publish(video(0, picture=lambda: whole[:2] + list_of_others + whole[2:]))
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched) == ("complete", 1)
    assert not [warning for warning in recwarn if "MPO" in str(warning.message)]


async def test_a_bad_thumbnail_does_not_stop_the_others(sqlite_database: Database) -> None:
    names = list(BAD)
    rules = [
        Fault("body", path=f"/vi/video{number:06d}/", body=BAD[name][0], content_type="image/jpeg")
        for number, name in enumerate(names)
    ]
    rules += [
        Fault("body", path=f"/vi/video{len(names):06d}/", body=b"\xff" * (9 << 20)),
        Fault("status", path=f"/vi/video{len(names) + 1:06d}/", status=403),
        Fault("status", path=f"/vi/video{len(names) + 2:06d}/", status=404),
        Fault("reset", path=f"/vi/video{len(names) + 3:06d}/"),
    ]
    async with StandIn(channel(30), faults=Faults(rules, most_in_a_row=None)) as server:
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched, report.pictures_failed) == ("partial", 16, 14)
    reasons = failures(sqlite_database)
    for number, name in enumerate(names):
        assert BAD[name][1] in reasons[f"video{number:06d}"], name
    assert "8 MiB" in reasons["video000010"]
    assert "403" in reasons["video000011"]
    assert "404" in reasons["video000012"]
    assert "5 attempts" in reasons["video000013"]


@pytest.mark.slow
async def test_an_unreachable_thumbnail_host_ends_the_sync_without_failures_of_thumbnails(
    sqlite_database: Database,
) -> None:
    faults = Faults([Fault("reset", path="/vi/")], most_in_a_row=None)
    async with StandIn(channel(120), faults=faults) as server:
        report = await sync(sqlite_database, server)
        assert (report.status, report.exit_code) == ("failed", 1)
        assert "check the network" in str(report.error)
        assert report.pictures_failed < 20
        server.faults = Faults()
        report = await sync(sqlite_database, server)
        assert report.pictures_fetched >= 100
