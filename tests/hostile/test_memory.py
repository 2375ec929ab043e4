"""Bodies and images that are far larger than announced are refused with a reason, in bounded memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from store.db import open_database
from tests import forked
from tests.collector.channels import HIGH, channel, contents, failures, jpeg
from tests.collector.test_bad_pictures import png
from tests.collector.test_scale import MEASURED
from tests.hostile.pictures import crowded
from tests.hostile.servers import endless_server
from tests.standin import Fault, Faults, StandIn

pytestmark = pytest.mark.processes

EACH = 17
"""Of each kind, and more than are fetched at a time: all that are under way at some moment are of one kind."""
MOST_MIB = 100


def saved(mode: str, size: tuple[int, int], form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


def hostile(server: str) -> list[tuple[str, Fault, str | None]]:
    """(what, the fault, what the reason says; None: it is accepted)."""

    def body(data: bytes) -> Fault:
        return Fault("body", body=data, content_type="image/jpeg")

    def elsewhere(path: str) -> Fault:
        return Fault("redirect", location=f"http://{server}/{path}")

    many = crowded()
    return [
        *((what, body(many[what]), "too much metadata") for what in ("empty APP5 segments", "GIF comments")),
        ("a 64 MB body", body(bytes(64 << 20)), "8 MiB"),
        ("64 MB announced, never ending", elsewhere("announced"), "8 MiB"),
        ("no end announced", elsewhere("endless"), "8 MiB"),
        ("chunks without end", elsewhere("chunked"), "8 MiB"),
        ("64 MB packed into 64 KB", elsewhere("bomb"), "8 MiB"),
        ("a bomb of 30,000 x 30,000", body(png(30_000, 30_000)), "too many"),
        ("a WebP of 40 megapixels", body(saved("RGBA", (8000, 5000), "WEBP", lossless=True)), "too many"),
        ("a progressive JPEG of 40 megapixels", body(saved("L", (8000, 5000), "JPEG", progressive=True)), "too many"),
        ("the largest PNG that passes", body(saved("RGB", (4000, 2500), "PNG")), None),
        ("the largest PNG that is decoded in a thread", body(saved("RGB", (2048, 2048), "PNG")), None),
        ("the largest WebP that passes", body(saved("RGB", (4000, 2500), "WEBP")), None),
        ("the largest WebP that is decoded in a thread", body(saved("RGB", (1024, 1024), "WEBP")), None),
        ("the largest JPEG that passes", body(saved("RGB", (8000, 5000), "JPEG")), None),
    ]


def peak_mib(url: str, server: StandIn, hosts: str) -> tuple[int, dict[str, object]]:
    """Sync in a separate process; return its peak memory in MiB and its report."""
    environment = server.environment()
    environment["THUMBTUNE_THUMBNAIL_HOSTS"] += "," + hosts
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "-q", "--db", url, "sync", "@tests", "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    (report,) = json.loads(done.stdout)["channels"]
    return int(done.stderr.split()[-1]) // 1024, report


def test_a_sync_refuses_a_png_full_of_compressed_text(sqlite_url: str) -> None:
    """Run in a fork, because the first sync sets Pillow's limit for the whole process."""
    text = PngImagePlugin.PngInfo()
    for _ in range(8):
        text.add_text("Comment", "x" * 1_000_000, zip=True)
    packed = saved("RGB", (8, 8), "PNG", pnginfo=text)
    fault = Fault("body", path="/vi/video000001/", body=packed, content_type="image/png")
    with StandIn(channel(3), faults=Faults([fault], most_in_a_row=None)) as server:
        done = forked.run(
            [*forked.THUMBTUNE, "--db", sqlite_url, "sync", "@tests"],
            env={**os.environ, **server.environment()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3, done.stderr
    database = open_database(sqlite_url)
    (video_id, reason), *others = failures(database).items()
    database.close()
    assert (video_id, others) == ("video000001", [])
    assert "can't be decoded" in reason


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from /proc")
def test_only_a_few_large_thumbnails_are_in_memory_at_once(tmp_path: Path) -> None:
    files = [
        Fault("body", path=f"/vi/video{number:06d}/", body=large_file(number), content_type="image/jpeg")
        for number in range(EACH)
    ]
    with StandIn(channel(EACH + 20)) as server:
        clean, _ = peak_mib(f"sqlite:///{tmp_path / 'clean.db'}", server, "")
        server.faults = Faults(files, most_in_a_row=None)
        url = f"sqlite:///{tmp_path / 'large.db'}"
        peak, report = peak_mib(url, server, "")
    assert (report["status"], report["thumbnails"]["fetched"]) == ("complete", EACH + 20)  # type: ignore[index]
    assert peak - clean < MOST_MIB, (peak, clean)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from /proc")
def test_the_largest_files_and_images_at_the_same_time_fit_in_memory(tmp_path: Path) -> None:
    pictures = [
        saved("RGB", (3840, 2160), "PNG"),
        saved("RGB", (2048, 2048), "PNG"),
        saved("RGB", (3840, 2160), "WEBP"),
        saved("RGB", (1024, 1024), "WEBP"),
        saved("RGB", (8000, 5000), "JPEG"),
        saved("RGB", (3840, 2160), "JPEG", progressive=True, subsampling=0),
        saved("RGB", (1600, 1600), "JPEG", progressive=True, subsampling=0),
    ]
    count = EACH * len(pictures)
    files = [
        Fault("body", path=f"/vi/video{number:06d}/", body=body, content_type="image/jpeg")
        for number in range(count)
        for picture in [pictures[number // 2 % len(pictures)]]
        for body in [large_file(number, picture) if number % 2 else picture]
    ]
    with StandIn(channel(count)) as server:
        clean, _ = peak_mib(f"sqlite:///{tmp_path / 'clean.db'}", server, "")
        server.faults = Faults(files, most_in_a_row=None)
        peak, report = peak_mib(f"sqlite:///{tmp_path / 'mixed.db'}", server, "")
    assert (report["status"], report["thumbnails"]["fetched"]) == ("complete", count)  # type: ignore[index]
    assert peak - clean < MOST_MIB, (peak, clean)


def large_file(number: int, picture: bytes | None = None) -> bytes:
    """A picture of 8 MiB: decoders ignore what follows its end."""
    return (picture or jpeg("large", HIGH)).ljust((8 << 20) - 1, b"\0") + bytes([number])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from /proc")
def test_no_image_exhausts_memory_or_stops_the_others(tmp_path: Path) -> None:
    with endless_server() as elsewhere:
        kinds = hostile(elsewhere)
        count = EACH * len(kinds) + 20
        rules = [
            Fault(fault.kind, path=f"/vi/video{number:06d}/", body=fault.body, location=fault.location)
            for place, (_, fault, _) in enumerate(kinds)
            for number in range(place * EACH, (place + 1) * EACH)
        ]
        with StandIn(channel(count)) as server:
            clean, report = peak_mib(f"sqlite:///{tmp_path / 'clean.db'}", server, elsewhere)
            assert report["status"] == "complete"
            server.faults = Faults(rules, most_in_a_row=None)
            url = f"sqlite:///{tmp_path / 'hostile.db'}"
            peak, report = peak_mib(url, server, elsewhere)
    assert report["status"] == "partial"
    database = open_database(url)
    reasons, stored = failures(database), contents(database)
    database.close()
    assert len(stored) == count
    for place, (what, _, said) in enumerate(kinds):
        for number in range(place * EACH, (place + 1) * EACH):
            video_id = f"video{number:06d}"
            if said is None:
                assert video_id not in reasons, (what, reasons[video_id])
            else:
                assert said in reasons[video_id], (what, reasons[video_id])
    assert sum(row[4] is not None for row in stored.values()) == count - len(reasons)
    assert peak - clean < MOST_MIB, (peak, clean)
