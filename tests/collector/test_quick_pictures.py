"""Thumbnails in YouTube's usual form are checked on the event loop, a few at a time; all others in threads."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from PIL import Image

from collector.errors import PictureError
from collector.thumbnails.check import CheckedPicture, LargeDecoder, check_picture, is_quick
from collector.thumbnails.fetch import QUICK_A_STEP
from store.db import Database
from tests.collector.channels import channel, failures, sync, video
from tests.collector.test_bad_pictures import lossless_jpeg, saved
from tests.standin import StandIn

FLAT = Image.new("RGB", (1024, 1024), "teal")
SMALL = saved(FLAT.resize((480, 360)), "JPEG")


@pytest.mark.parametrize(
    ("data", "quick"),
    [
        (SMALL, True),
        (saved(FLAT, "JPEG"), True),
        (SMALL.ljust(64 << 10, b"\0"), True),
        (SMALL.ljust((64 << 10) + 1, b"\0"), False),
        (saved(FLAT.resize((1024, 1025)), "JPEG"), False),
        (saved(FLAT.resize((480, 360)), "JPEG", progressive=True), False),
        (lossless_jpeg(48, 36), False),
        (saved(FLAT.resize((480, 360)), "PNG"), False),
        (b"", False),
    ],
    ids=["small", "most pixels", "most bytes", "bytes", "pixels", "progressive", "lossless", "png", "empty"],
)
def test_only_small_jpegs_with_one_scan_are_quick(data: bytes, quick: bool) -> None:
    assert is_quick(data) is quick


def test_a_file_without_a_readable_header_is_refused_at_once() -> None:
    with pytest.raises(PictureError, match="not an image"):
        is_quick(b"<html>")


@pytest.mark.slow
async def test_each_step_of_the_event_loop_checks_few_thumbnails(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checking all of them at once would block everything else."""
    loop, step, checks = asyncio.get_running_loop(), 0, Counter[int]()

    def count() -> None:
        nonlocal step
        step += 1
        loop.call_soon(count)

    def counted(data: bytes, large: LargeDecoder | None = None) -> CheckedPicture:
        checks[step] += 1
        return check_picture(data, large)

    monkeypatch.setattr("collector.thumbnails.fetch.check_picture", counted)
    count()
    async with StandIn(channel(60)) as server:
        report = await sync(sqlite_database, server)
    assert report.pictures_fetched == sum(checks.values()) == 60
    assert max(checks.values()) <= QUICK_A_STEP


@pytest.mark.processes
async def test_all_kinds_of_thumbnails_arrive(sqlite_database: Database) -> None:
    bodies = [
        SMALL,
        saved(FLAT, "JPEG", progressive=True),
        saved(FLAT.resize((3840, 2160)), "WEBP"),
        SMALL[: len(SMALL) // 2],
        b"<svg/>",
    ]
    catalogue = channel(0)
    catalogue.publish(*(video(number, picture=lambda data=data: data) for number, data in enumerate(bodies)))
    async with StandIn(catalogue) as server:
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched, report.pictures_failed) == ("partial", 3, 2)
    reasons = failures(sqlite_database)
    assert "can't be decoded" in reasons["video000003"]
    assert "not an image" in reasons["video000004"]
