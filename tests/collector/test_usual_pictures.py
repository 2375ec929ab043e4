"""Thumbnails as YouTube makes them are checked on the event loop: no less strictly, and nothing else is."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from sqlalchemy import select

from collector.errors import PictureError
from collector.thumbnails.check import CheckedPicture, check_picture, check_usual
from collector.thumbnails.fetch import USUAL_A_STEP
from store.db import Database
from store.tables import Picture, Video
from tests.collector.channels import channel, failures, sync, video
from tests.collector.test_bad_pictures import lossless_jpeg, saved
from tests.standin import StandIn

MOST_BYTES = 64 << 10
MOST_HEADER_BYTES = 4 << 10
SCAN = b"\xff\xda"


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.effect_noise((width, height), 60).convert(mode)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    return exif


def filled(data: bytes, size: int) -> bytes:
    """The same picture in a file of so many bytes: what follows its end is nobody's business."""
    return data + bytes(size - len(data))


def announced(place: int) -> bytes:
    """A JPEG whose scan begins right there, after a comment as long as that takes."""
    plain = saved(noise(48, 36), "JPEG")
    comment = place - plain.index(SCAN) - 4
    data = saved(noise(48, 36), "JPEG", comment=b"x" * comment)
    assert data.index(SCAN) == place
    return data


FLAT = Image.new("RGB", (1024, 1024), "teal")
USUAL = {
    "as YouTube's": saved(noise(60, 45).resize((480, 360)), "JPEG"),
    "wide": saved(Image.new("RGB", (1280, 720), "teal"), "JPEG"),
    "full colour": saved(noise(120, 90), "JPEG", subsampling=0),
    "not separated into light and colour": saved(noise(120, 90), "JPEG", keep_rgb=True),
    "grey": saved(noise(120, 90, "L"), "JPEG"),
    "cmyk": saved(noise(120, 90, "CMYK"), "JPEG"),
    "restarts": saved(noise(120, 90), "JPEG", restart_marker_blocks=3),
    "on its side": saved(noise(120, 90), "JPEG", exif=turned()),
    "lossless": lossless_jpeg(48, 36),
    "one pixel": saved(Image.new("RGB", (1, 1)), "JPEG"),
    "most bytes": filled(saved(noise(120, 90), "JPEG"), MOST_BYTES),
    "most pixels": saved(FLAT, "JPEG"),
    "most headers": announced(MOST_HEADER_BYTES - len(SCAN)),
    "with what looks like a scan behind it": saved(noise(120, 90), "JPEG") + SCAN,
    "with what looks like a scan before it": saved(noise(120, 90), "JPEG", comment=SCAN + b"\x00\x0c\x01"),
}


def lacking_a_component(jpeg: bytes) -> bytes:
    """Its scan, the last that looks like one, is one of several to come, of which each is gathered whole."""
    data = bytearray(jpeg)
    data[data.rindex(SCAN) + 4] = 1
    return bytes(data)


def like_a_scan(bands: int) -> bytes:
    """What the scan of a JPEG with so many components begins with."""
    return SCAN + b"\x00\x0c" + bytes([bands])


def png_with_a_scan() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", like_a_scan(3).decode("latin-1"))
    return saved(noise(24, 18), "PNG", pnginfo=text)


UNUSUAL = {
    "progressive": saved(noise(60, 45).resize((480, 360)), "JPEG", progressive=True),
    "a byte too many": filled(USUAL["most bytes"], MOST_BYTES + 1),
    "too many pixels": saved(FLAT.resize((1024, 1025)), "JPEG"),
    "too many headers": announced(MOST_HEADER_BYTES - 1),
    "a component less": lacking_a_component(saved(noise(120, 90), "JPEG")),
    "a component less, a comment says otherwise": lacking_a_component(
        saved(noise(120, 90), "JPEG", comment=like_a_scan(3))
    ),
    "a segment without a size": USUAL["grey"][:2] + b"\xff\x01" + USUAL["grey"][2:],
    "a filled-up marker": USUAL["grey"][:2] + b"\xff" + USUAL["grey"][2:],
    "several in one": saved(noise(24, 18), "MPO", save_all=True, append_images=[noise(24, 18)]),
    "png": saved(noise(24, 18), "PNG"),
    "png with what looks like a scan": png_with_a_scan(),
    "gif": saved(noise(24, 18, "P"), "GIF"),
    "gif with what looks like a scan": saved(noise(24, 18, "P"), "GIF", comment=like_a_scan(1)),
    "webp": saved(noise(24, 18), "WEBP"),
    "webp with what looks like a scan": saved(noise(24, 18), "WEBP", xmp=like_a_scan(3)),
    "empty": b"",
    "text": b"<html>not found</html>",
}


@pytest.mark.parametrize("name", USUAL)
def test_a_usual_thumbnail_is_found_to_be_what_it_is(name: str) -> None:
    checked = check_usual(USUAL[name])
    assert checked is not None
    assert checked == check_picture(USUAL[name])


@pytest.mark.parametrize("name", UNUSUAL)
def test_anything_else_is_left_to_a_thread(name: str) -> None:
    assert check_usual(UNUSUAL[name]) is None


@pytest.mark.parametrize(
    "whole",
    [
        UNUSUAL["progressive"],
        UNUSUAL["too many pixels"],
        UNUSUAL["too many headers"],
        saved(noise(480, 360), "JPEG", quality=95),  # of too many bytes
    ],
    ids=["progressive", "pixels", "headers", "bytes"],
)
def test_what_is_left_to_a_thread_is_not_decoded_before(whole: bytes) -> None:
    """Or it would be found out that the end is missing."""
    cut = whole[:-1000] if len(whole) > MOST_BYTES + 1000 else whole[: whole.index(SCAN) + 100]
    with pytest.raises(PictureError, match="can't be decoded"):
        check_picture(cut)
    assert check_usual(cut) is None


def outcome(check: Callable[[bytes], CheckedPicture | None], data: bytes) -> CheckedPicture | str | None:
    try:
        return check(data)
    except PictureError as error:
        return str(error)


@pytest.mark.parametrize(
    "name", ["full colour", "not separated into light and colour", "grey", "cmyk", "restarts", "lossless"]
)
def test_a_usual_thumbnail_that_is_cut_short_is_refused_just_where_any_is(name: str) -> None:
    data = USUAL[name]
    outcomes = []
    for length in [*range(data.index(SCAN) + 2, len(data), 97), *range(len(data) - 24, len(data) + 1)]:
        outcomes.append(outcome(check_usual, data[:length]))
        assert outcomes[-1] == outcome(check_picture, data[:length])
    assert "can't be decoded" in str(outcomes[1])
    assert isinstance(outcomes[-1], CheckedPicture)


@pytest.mark.parametrize("scans", [2, 40])
def test_further_scans_are_refused_as_everywhere(scans: int) -> None:
    flat = saved(FLAT.resize((64, 64)), "JPEG")
    begin, end = flat.index(SCAN), len(flat) - 2
    several = flat[:begin] + flat[begin:end] * scans + flat[end:]
    assert outcome(check_usual, several) == outcome(check_picture, several)
    assert "broken data stream" in str(outcome(check_usual, several))


def sampled(factors: tuple[int, int, int]) -> bytes:
    """A JPEG whose frame says how much finer each component is sampled, as `0xHV`, whatever its scan holds."""
    data = bytearray(saved(noise(120, 90), "JPEG"))
    frame = data.index(b"\xff\xc0")
    for number, factor in enumerate(factors):
        data[frame + 11 + 3 * number] = factor
    return bytes(data)


FACTORS = (0x11, 0x12, 0x21, 0x22, 0x31, 0x13, 0x41)


@pytest.mark.parametrize("of_light", FACTORS)
def test_a_jpeg_of_any_sampling_is_a_picture_just_where_it_can_be_decoded_whole(of_light: int) -> None:
    """Decoded smaller, nothing may be passed over that training would stumble upon."""
    for factors in product([of_light], FACTORS, FACTORS):
        data = sampled(factors)
        try:
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
            whole = True
        except OSError:
            whole = False
        assert isinstance(outcome(check_usual, data), CheckedPicture) is whole, factors
        assert isinstance(outcome(check_picture, data), CheckedPicture) is whole, factors


SMALL_JPEGS = [
    saved(noise(24, 18), "JPEG", exif=turned(), comment=b"a comment"),
    saved(noise(24, 18), "JPEG", restart_marker_blocks=2),
    saved(noise(24, 18, "L"), "JPEG", progressive=True),
    saved(noise(24, 18, "CMYK"), "JPEG"),
    lossless_jpeg(16, 16),
    UNUSUAL["several in one"],
]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=400, derandomize=True, deadline=None)
# Pillow tells of damage that it lives with.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_however_a_jpeg_is_damaged_both_checks_agree(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(SMALL_JPEGS)))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    damaged = bytes(body[: data.draw(st.integers(0, len(body)) | st.just(len(body)))])
    found = outcome(check_usual, damaged)
    assert found is None or found == outcome(check_picture, damaged)


async def test_no_step_of_the_event_loop_checks_many(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that have come at once would keep everything else waiting."""
    loop, step, checks = asyncio.get_running_loop(), 0, Counter[int]()

    def count() -> None:
        nonlocal step
        step += 1
        loop.call_soon(count)

    def counted(data: bytes) -> CheckedPicture | None:
        checks[step] += 1
        return check_usual(data)

    monkeypatch.setattr("collector.thumbnails.fetch.check_usual", counted)
    count()
    async with StandIn(channel(60)) as server:
        report = await sync(sqlite_database, server)
    assert report.pictures_fetched == sum(checks.values()) == 60
    assert max(checks.values()) <= USUAL_A_STEP


async def test_both_kinds_of_thumbnails_arrive_as_they_are(sqlite_database: Database) -> None:
    cut = USUAL["grey"][: len(USUAL["grey"]) // 2]
    catalogue = channel(0)
    bodies = USUAL["as YouTube's"], UNUSUAL["progressive"], saved(FLAT.resize((480, 360)), "PNG"), cut
    catalogue.publish(*(video(number, picture=lambda data=data: data) for number, data in enumerate(bodies)))
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched, report.pictures_failed) == ("partial", 3, 1)
    with sqlite_database.read() as session:
        query = select(Picture.bytes, Picture.mime, Picture.width, Picture.height).join(
            Video, Video.picture_sha256 == Picture.sha256
        )
        kept = [tuple(row) for row in session.execute(query.order_by(Video.id))]
    assert kept == [
        (bodies[0], "image/jpeg", 480, 360),
        (bodies[1], "image/jpeg", 480, 360),
        (bodies[2], "image/png", 480, 360),
    ]
    ((video_id, reason),) = failures(sqlite_database).items()
    assert video_id == "video000003"
    assert "can't be decoded" in reason
