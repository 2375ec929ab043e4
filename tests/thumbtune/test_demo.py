"""The demo: the videos that it holds back and changes, where it writes, and its server."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from tests import forked
from tests.standin import StandIn
from thumbtune.demo.session import (
    ENCODER,
    DemoError,
    Session,
    hold_back,
    new_folder,
    retitle_and_repaint,
    training_options,
)
from thumbtune.standin.catalogue import Catalogue, StandInVideo
from thumbtune.standin.folder import load_folder

pytestmark = pytest.mark.processes


def a_picture() -> bytes:
    picture = Image.new("RGB", (480, 360), "white")
    picture.paste("navy", (0, 0, 100, 360))
    content = io.BytesIO()
    picture.save(content, "JPEG")
    return content.getvalue()


@pytest.fixture
def catalogue() -> Catalogue:
    channel = Catalogue("UC" + "d" * 22, "@demo", "Demo")
    first = datetime(2020, 1, 1, tzinfo=UTC)
    for n in range(20):
        channel.publish(StandInVideo(f"video{n:06d}", f"Title {n}", first + timedelta(days=n), 300, a_picture))
    return channel


def test_the_newest_tenth_is_held_back(catalogue: Catalogue) -> None:
    newest = hold_back(catalogue)
    assert [video.id for video in newest] == ["video000018", "video000019"]
    assert [video.id for video in catalogue.listed()][:2] == ["video000017", "video000016"]


def test_the_oldest_video_gets_another_title_and_thumbnail(catalogue: Catalogue) -> None:
    catalogue.delete("video000000")
    before = catalogue.videos["video000001"].picture()
    assert retitle_and_repaint(catalogue) == "video000001"
    after = catalogue.videos["video000001"]
    assert after.title == "Title 1 (revisited)"
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after.picture())) as new:
        assert old.getpixel((10, 180)) != new.getpixel((10, 180))
        assert new.size == old.size == (480, 360)


def test_an_earlier_demo_is_never_overwritten(tmp_path: Path) -> None:
    assert [new_folder(tmp_path).name for _ in range(3)] == ["thumbtune-demo", "thumbtune-demo-2", "thumbtune-demo-3"]


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="--dir"):
        new_folder(tmp_path / "missing")


def test_each_step_runs_the_real_command_and_a_failure_stops_the_demo(catalogue: Catalogue, tmp_path: Path) -> None:
    shown: list[str] = []
    with StandIn(catalogue) as server:
        session = Session(tmp_path, server, shown.append, as_json=True)
        session.run("sync", catalogue.handle)
        with pytest.raises(DemoError, match="'thumbtune runs show 99' ended with code 1"):
            session.run("runs", "show", "99")
    assert session.results[0]["result"]["channels"][0]["new"] == 20
    assert "$ thumbtune sync @demo" in shown
    assert "(the server counted 3 quota units)" in shown


def test_serve_prints_the_variables_to_export_and_runs_until_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "thumbtune", "-q", "demo", "--serve"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline().strip() for _ in range(6)]
        exports = dict(line.removeprefix("export ").split("=", 1) for line in lines[:5])
        address = f"{exports['THUMBTUNE_API_URL']}/channels?part=id&forHandle={lines[5].split()[-1]}"
        request = urllib.request.Request(address, headers={"X-Goog-Api-Key": exports["YOUTUBE_API_KEY"]})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["items"][0]["id"].startswith("UC")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert set(exports) == {
        "YOUTUBE_API_KEY",
        "THUMBTUNE_API_URL",
        "THUMBTUNE_FEED_URL",
        "THUMBTUNE_THUMBNAIL_HOSTS",
        "THUMBTUNE_DB",
    }
    assert exports["THUMBTUNE_DB"] == "sqlite:///thumbtune-stand-in.db", "never the default store"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [["--dir", "place"], ["--json"]])
def test_serve_refuses_options_without_effect(tmp_path: Path, other: list[str]) -> None:
    command = [sys.executable, "-m", "thumbtune", "demo", "--serve", *other]
    result = forked.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"error: --serve and {other[0]} exclude each other" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "README.md, 'Try it'"),
        ("[]", "README.md, 'Try it'"),
        ("not json", "videos.json"),
        ('[{"id": "abcdefghijk"}]', "videos.json"),
    ],
)
def test_a_folder_that_is_not_a_channel_is_an_error(tmp_path: Path, content: str | None, says: str) -> None:
    folder = tmp_path / "channel"
    folder.mkdir()
    if content is not None:
        (folder / "videos.json").write_text(content)
    command = [sys.executable, "-m", "thumbtune", "demo", "--channel", str(folder)]
    result = forked.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["channel"]


def test_the_videos_json_of_the_readme_is_a_valid_channel(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    told = readme.partition("```json\n")[2].partition("```")[0]
    (tmp_path / "videos.json").write_text(told)
    (entry,) = json.loads(told)
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / f"{entry['id']}.jpg").write_bytes(a_picture())
    (video,) = load_folder(tmp_path).listed()
    assert (video.id, video.title, video.tags) == (entry["id"], entry["title"], tuple(entry.get("tags", ())))


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    command = [sys.executable, "-m", "thumbtune", "demo", "--dir", str(tmp_path)]
    result = forked.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "is not empty; " in result.stderr


def test_words_are_read_on_thumbnails_of_a_folder_but_not_on_drawn_thumbnails(tmp_path: Path) -> None:
    assert "--with-reader" in training_options(tmp_path)
    assert "--with-reader" not in training_options(None)
    assert str(ENCODER) in training_options(None)
