"""The stand-in's channels: kept in memory, and read from a folder."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from
from thumbtune.standin.errors import FolderError
from thumbtune.standin.folder import load_folder
from thumbtune.standin.quota import Quota

SHARED = Path(__file__).parents[3] / "shared" / "channel"
START = datetime(2020, 1, 1, tzinfo=UTC)


def _video(number: int, **fields: Any) -> StandInVideo:
    return StandInVideo(f"video{number:06d}", f"T{number}", START + timedelta(days=number), 300, bytes, **fields)


def _listed(catalogue: Catalogue) -> list[str]:
    return [video.id for video in catalogue.listed()]


def test_the_listing_reflects_every_change_and_is_sorted_once() -> None:
    catalogue = Catalogue("UCx", "@x", "X")
    catalogue.publish(_video(1), _video(3), _video(2))
    assert _listed(catalogue) == ["video000003", "video000002", "video000001"]
    assert catalogue.listed() is catalogue.listed()
    catalogue.change("video000001", published_at=START + timedelta(days=9))
    assert _listed(catalogue)[0] == "video000001"
    catalogue.delete("video000002")
    assert "video000002" in _listed(catalogue)
    assert catalogue.details("video000002") is None
    assert [v.id for v in catalogue.public()] == ["video000001", "video000003"]
    catalogue.remove("video000002")
    assert "video000002" not in _listed(catalogue)
    catalogue.publish(_video(2))
    assert catalogue.details("video000002") is not None
    catalogue.change("video000002", privacy="unlisted")
    assert "video000002" not in _listed(catalogue)
    assert catalogue.details("video000002") is not None


def test_two_changes_within_a_second_get_different_times() -> None:
    catalogue = Catalogue("UCx", "@x", "X")
    catalogue.publish(_video(1))
    times = []
    for _ in range(3):
        catalogue.change("video000001", picture=bytes)
        times.append(catalogue.videos["video000001"].picture_updated_at)
    assert len(set(times)) == 3
    catalogue.change("video000001", title="new")
    assert catalogue.videos["video000001"].picture_updated_at == times[-1]


@pytest.mark.parametrize(
    "call", [lambda c: c.change("no", title=""), lambda c: c.delete("no"), lambda c: c.remove("no")]
)
def test_an_unknown_video_cannot_be_changed(call: Callable[[Catalogue], None]) -> None:
    with pytest.raises(KeyError):
        call(Catalogue("UCx", "@x", "X"))


def test_times_need_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        StandInVideo("video000001", "T", datetime(2020, 1, 1), 300, bytes)  # noqa: DTZ001


def test_channel_ids_have_the_form_of_youtube() -> None:
    ids = {channel_id_from(name) for name in ("a", "b", "", "\udcff")}
    assert len(ids) == 4
    assert all(re.fullmatch(r"UC[A-Za-z0-9_-]{22}", i) for i in ids)


def test_quota_refuses_calls_above_the_limit() -> None:
    quota = Quota(101)
    assert quota.charge("a", 100)
    assert not quota.charge("a", 100)
    assert quota.charge("a", 1)
    assert not quota.charge("a", 1)
    assert quota.charge("b", 1)
    assert (quota.used("a"), quota.total) == (101, 102)
    quota.reset()
    assert quota.charge("a", 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    channel = tmp_path / "My Channel!"
    (channel / "thumbnails").mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (480, 360), "navy").save(buffer, "JPEG")
    (channel / "thumbnails" / "abcdefghijk.jpg").write_bytes(buffer.getvalue())
    _write(channel, [_ENTRY])
    return channel


_ENTRY: dict[str, Any] = {
    "id": "abcdefghijk",
    "title": "A title",
    "description": "text",
    "tags": ["t"],
    "published": "2017-04-10 13:06:04-07:00",
}


def _write(folder: Path, entries: Any) -> None:
    (folder / "videos.json").write_text(json.dumps(entries), encoding="utf-8")


def test_a_folder_is_loaded_as_a_channel(folder: Path) -> None:
    catalogue = load_folder(folder)
    [video] = catalogue.listed()
    assert video.published_at == datetime(2017, 4, 10, 20, 6, 4, tzinfo=UTC)
    assert (video.title, video.description, video.tags) == ("A title", "text", ("t",))
    assert video.duration_s is not None
    assert 180 <= video.duration_s <= 1200
    assert video.picture() == (folder / "thumbnails" / "abcdefghijk.jpg").read_bytes()
    assert (catalogue.handle, catalogue.title) == ("@my-channel", "My Channel!")
    assert catalogue.channel_id == load_folder(folder / ".." / folder.name).channel_id
    assert load_folder(folder).listed()[0].duration_s == video.duration_s


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "videos.json is not a list"),
        ([], "videos.json is not a list"),
        (["x"], "entry 0 is not an object"),
        ([{**_ENTRY, "id": "../../x"}], "'../../x'"),
        ([{**_ENTRY, "id": "aaaaaaaaaaa"}], "aaaaaaaaaaa.jpg is missing"),
        ([{**_ENTRY, "title": None}], "entry 0: title is missing"),
        ([{**_ENTRY, "published": "yesterday"}], "published is 'yesterday'"),
        ([{**_ENTRY, "tags": "t"}], "tags is not a list"),
        ([_ENTRY, _ENTRY], "two entries with the id 'abcdefghijk'"),
    ],
)
def test_an_invalid_folder_is_named(folder: Path, entries: Any, message: str) -> None:
    _write(folder, entries)
    with pytest.raises(FolderError, match=re.escape(message)):
        load_folder(folder)


def test_a_missing_or_broken_file_is_named(folder: Path) -> None:
    with pytest.raises(FolderError, match="nowhere is not a folder"):
        load_folder(folder / "nowhere")
    (folder / "videos.json").write_bytes(b"\xff{")
    with pytest.raises(FolderError, match=r"videos\.json is not valid JSON"):
        load_folder(folder)
    (folder / "videos.json").unlink()
    with pytest.raises(FolderError, match=r"videos\.json is missing"):
        load_folder(folder)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared channel is not available")
def test_the_shared_channel_loads() -> None:
    catalogue = load_folder(SHARED)
    assert len(catalogue.listed()) == 120
    assert all((video.duration_s or 0) >= 180 for video in catalogue.listed())
