"""The picture that a user names: files of all kinds, videos in the store, and invalid names."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image

from store.db import Database
from tests.store.builders import add_channel, add_video
from tests.trainer.tiny import draw
from trainer.errors import BadPicture, BadSetting
from trainer.library import open_picture
from trainer.library.query_picture import read_picture


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header says this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.fixture
def videos(database: Database) -> Database:
    with database.write() as session:
        add_channel(session)
        add_video(session, "-dash", title="A dash", picture=draw("red", "bar"))
        add_video(session, "short", title="A short", kind="short", picture=draw("blue", "bar"))
        add_video(session, "bare", picture=None)
        add_video(session, "damaged", picture=b"no picture")
    return database


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_an_image_file_is_decoded(sqlite_database: Database, tmp_path: Path, kind: str) -> None:
    content = encoded(Image.new("RGB", (32, 20), "navy"), kind)
    (tmp_path / "cover").write_bytes(content)
    picture = open_picture(sqlite_database, str(tmp_path / "cover"))
    assert (picture.digest, picture.video_id, picture.title) == (hashlib.sha256(content).hexdigest(), None, None)
    assert (picture.image.mode, picture.image.size) == ("RGB", (32, 20))
    assert picture.load(["any"]) == [picture.image]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_pixel_format_becomes_rgb(sqlite_database: Database, tmp_path: Path, mode: str) -> None:
    Image.new(mode, (9, 7)).save(tmp_path / "cover.png")
    assert open_picture(sqlite_database, str(tmp_path / "cover.png")).image.mode == "RGB"


def test_a_pipe_is_read(sqlite_database: Database, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(draw("red", "bar"),))
    writer.start()
    assert open_picture(sqlite_database, str(tmp_path / "pipe")).image.size == (48, 36)
    writer.join()


def test_a_video_is_found_by_its_id(videos: Database) -> None:
    picture = open_picture(videos, "-dash")
    assert picture.digest == hashlib.sha256(draw("red", "bar")).hexdigest()
    assert (picture.video_id, picture.title, picture.image.size) == ("-dash", "A dash", (48, 36))
    assert open_picture(videos, "short").title == "A short", "not only pairs"


def test_a_file_takes_precedence_over_a_video(
    videos: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short").write_bytes(draw("green", "circle"))
    assert open_picture(videos, "short").video_id is None
    Path("short").unlink()
    Path("short").mkdir()
    assert open_picture(videos, "short").video_id == "short", "a folder is not a valid query"


@pytest.mark.parametrize("name", ["", "none.png", "no\0name", "caf\udce9", "x" * 5_000])
def test_a_name_of_neither_a_file_nor_a_video_is_an_error(
    videos: Database, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSetting, match="neither a file nor a video"):
        open_picture(videos, name)


def test_a_folder_is_an_error(videos: Database, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="is a folder"):
        open_picture(videos, str(tmp_path))


def test_a_video_without_a_usable_thumbnail_is_an_error(videos: Database) -> None:
    with pytest.raises(BadSetting, match="video bare has no thumbnail"):
        open_picture(videos, "bare")
    with pytest.raises(BadPicture, match="can't be decoded .*thumbtune db check"):
        open_picture(videos, "damaged")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<html>", "is not a supported image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a supported image"),
        (encoded(Image.effect_noise((64, 64), 90), "PNG")[:900], "can't be decoded"),
        (claiming(9, 9), "can't be decoded"),
        (claiming(8_000, 5_001), "has 8000 x 5001 pixels"),
        (claiming(10_000, 10_000), "has 10000 x 10000 pixels"),
        (claiming(60_000, 60_000), "has more than 40 million pixels"),
    ],
    ids=["empty", "html", "postscript", "cut", "no-data", "large", "larger", "bomb"],
)
def test_unusable_image_files_are_errors(
    sqlite_database: Database, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "cover.png").write_bytes(content)
    with pytest.raises(BadSetting, match=f"cover.png {message}"):
        open_picture(sqlite_database, str(tmp_path / "cover.png"))


def test_an_endless_file_is_an_error(sqlite_database: Database) -> None:
    with pytest.raises(BadSetting, match="/dev/zero is larger than 200 MB"):
        open_picture(sqlite_database, "/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read any file")
def test_an_unreadable_file_is_an_error(sqlite_database: Database, tmp_path: Path) -> None:
    (tmp_path / "cover.png").touch(mode=0)
    with pytest.raises(BadSetting, match=r"can't be read \(permission denied\)"):
        open_picture(sqlite_database, str(tmp_path / "cover.png"))


def test_a_long_image_is_cut_to_its_middle(tmp_path: Path) -> None:
    """A model scales the shorter edge to its input: 1 x 20,000 pixels would become 10 GB."""
    file = tmp_path / "long.png"
    Image.new("RGB", (1, 20_000)).save(file)
    assert read_picture(file.read_bytes(), "long.png").image.size == (1, 8)
