"""`thumbtune search` as users and scripts run it: contact sheets, output and exit codes."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from store.db import open_database
from store.training import current_pairs, write_words
from store.types import utc_now
from tests.store.builders import add_channel, add_video
from tests.thumbtune.asking import Run, fill_store, make_clip, runner
from tests.trainer.tiny import draw
from thumbtune.demo.session import ENCODER
from trainer.data.likeness import SKETCHES


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def store(migrated_sqlite_url: str) -> str:
    return fill_store(migrated_sqlite_url)


@pytest.fixture
def thumbtune(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(store, monkeypatch, capfd)


def test_search_by_text(thumbtune: Run, clip: str) -> None:
    found = thumbtune("search", "red circle", "--model", clip, "--json").document()
    assert (found["text"], found["like"], found["model"], found["run_id"]) == ("red circle", None, clip, None)
    assert (found["searched"], found["left_out"], found["contact_sheet"]) == (15, [], None)
    results = found["results"]
    assert [answer["rank"] for answer in results] == list(range(1, 11))
    scores = [answer["score"] for answer in results]
    assert scores == sorted(scores, reverse=True)
    first = results[0]
    assert set(first) == {"rank", "video_id", "channel_id", "title", "score", "url"}
    assert first["url"] == f"https://youtu.be/{first['video_id']}"
    assert thumbtune("search", "red circle", "--model", clip, "--json").document() == found, "the same each time"
    assert len(thumbtune("search", "red circle", "-k", "99", "--model", clip, "--json").document()["results"]) == 15


def test_the_text_output_of_a_search(thumbtune: Run, clip: str) -> None:
    done = thumbtune("search", "red circle", "-k", "2", "--model", clip)
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["rank", "id", "channel", "score", "title", "url"]
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert {line.split()[0] for line in done.stderr.splitlines()} == {"Opening", "Embedding", "how"}, (
        "no library prints"
    )
    one = thumbtune("-q", "search", "red circle", "-k", "1", "--channel", "@UC2", "--model", clip)
    assert one.stdout.splitlines()[0].split() == ["rank", "id", "score", "title", "url"]
    assert one.stderr == ""


def test_search_by_an_image_file(thumbtune: Run, clip: str, store: str, tmp_path: Path) -> None:
    shell = sqlite3.connect(store.removeprefix("sqlite:///"))
    (content,) = shell.execute(
        "select bytes from picture join video on sha256 = picture_sha256 where video.id = 'UC1-004'"
    ).fetchone()
    shell.close()
    (tmp_path / "cover.png").write_bytes(content)
    found = thumbtune("search", "--like", "cover.png", "--model", clip, "--json").document()
    assert (found["text"], found["like"]) == (None, "cover.png")
    assert found["results"][0]["video_id"] == "UC1-004"
    assert found["results"][0]["score"] == pytest.approx(1.0, abs=1e-5)


def test_search_by_the_thumbnail_of_a_video(thumbtune: Run, clip: str, store: str) -> None:
    database = open_database(store)
    with database.write() as session:
        add_video(session, "-dashed", day=90, picture=draw("navy", "bar"))
    database.close()
    found = thumbtune("search", "--like", "-dashed", "-k", "99", "--model", clip, "--json").document()
    assert len(found["results"]) == 15
    assert "-dashed" not in [answer["video_id"] for answer in found["results"]]
    assert found["results"][-1]["rank"] == 15


def test_search_writes_a_contact_sheet(thumbtune: Run, clip: str, tmp_path: Path) -> None:
    done = thumbtune("search", "red circle", "-k", "7", "--model", clip, "--out", "sheet.png")
    assert done.stdout.splitlines()[-1] == "contact sheet: sheet.png"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        by_text = sheet.size
    found = thumbtune("search", "--like", "UC1-003", "-k", "7", "--model", clip, "--out", "sheet.png", "--json")
    assert found.document()["contact_sheet"] == "sheet.png"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (by_text[0], by_text[1] + 50), "with space for the query picture"


@pytest.mark.slow
def test_search_with_the_model_in_use_and_with_other_models(thumbtune: Run, clip: str) -> None:
    trained = thumbtune(
        "train", "--model", clip, "--train", "projection", "--negatives", "random", "--lr", "0.05", "--epochs", "8"
    )
    assert trained.returncode == 0, trained.stderr
    thumbtune("runs", "promote", "1")
    by_name = {
        name: thumbtune("search", "red circle", *arguments, "--json").document()
        for name, arguments in {
            "in use": (),
            "run": ("--model", "1"),
            "base": ("--model", "1:base"),
            "folder": ("--model", clip),
        }.items()
    }
    assert by_name["in use"] == by_name["run"]
    assert (by_name["run"]["model"], by_name["run"]["run_id"]) == ("run 1", 1)
    assert by_name["base"]["results"] == by_name["folder"]["results"] != by_name["run"]["results"]


def test_the_files_of_a_folder_without_a_model_are_not_read(
    thumbtune: Run, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be a home folder or a whole disk."""
    gone_through: list[Path] = []
    real = Path.rglob

    def rglob(path: Path, pattern: str) -> Iterator[Path]:
        gone_through.append(path)
        return real(path, pattern)

    monkeypatch.setattr(Path, "rglob", rglob)
    for arguments in (("search", "red", "--model", "."), ("evaluate", "--model", ".")):
        done = thumbtune(*arguments)
        assert "error: . contains no model" in done.error()
        assert done.returncode == 1
    assert gone_through == []
    assert thumbtune("search", "red", "--model", clip).returncode == 0
    assert gone_through, "as a model's is"


@pytest.mark.slow
def test_a_missing_base_model_is_an_error(thumbtune: Run, clip: str, store: str, tmp_path: Path) -> None:
    base = Path(shutil.copytree(clip, tmp_path / "base"))
    assert thumbtune("train", "--model", str(base)).returncode == 0
    thumbtune("runs", "promote", "1")
    base.rename(tmp_path / "moved")
    gone = f"error: the base model of run 1 was not found at {base}; restore it"
    for arguments in (
        ("search", "red"),
        ("search", "red", "--model", "1:base"),
        ("match", "UC1-000", "red"),
        ("evaluate", "--model", "1"),
        ("runs", "promote", "1"),
        ("export", "model", "whole"),
    ):
        done = thumbtune(*arguments)
        assert (done.error(), done.returncode) == (gone, 1)
    shutil.copytree(tmp_path / "moved", base)
    (base / "model.safetensors").unlink()
    assert thumbtune("search", "red").error() == gone.replace("was not found", "is incomplete")
    shutil.rmtree(base)
    (tmp_path / "moved").rename(base)
    assert thumbtune("search", "red").returncode == 0

    shell = sqlite3.connect(store.removeprefix("sqlite:///"))
    shell.execute("update training_run set base_model = 'someone/some-clip'")
    shell.commit()
    shell.close()
    assert "'thumbtune train --model'" in thumbtune("search", "red").error()


def kept(store: str) -> dict[str, int]:
    """{tower: number of a model's cached vectors}."""
    shell = sqlite3.connect(store.removeprefix("sqlite:///"))
    query = "select tower, count(*) from feature where fingerprint != ? group by tower"
    counts = dict(shell.execute(query, (SKETCHES,)).fetchall())
    shell.close()
    return counts


def test_the_library_is_embedded_once_and_queries_are_not_cached(
    thumbtune: Run, clip: str, store: str, tmp_path: Path
) -> None:
    (tmp_path / "cover.png").write_bytes(draw("navy", "bar"))
    first = thumbtune("search", "red circle", "--model", clip, "--json").document()
    assert kept(store) == {"vision": 15}
    assert thumbtune("search", "red circle", "--model", clip, "--json").document() == first
    assert thumbtune("search", "--like", "cover.png", "--model", clip).returncode == 0
    assert kept(store) == {"vision": 15}
    assert thumbtune("match", "cover.png", "a new idea", "--model", clip).returncode == 0
    assert kept(store) == {"vision": 15, "text": 15}


@pytest.mark.slow
def test_search_on_a_real_channel(thumbtune: Run, shared_channel: Path, store: str, tmp_path: Path) -> None:
    videos = json.loads((shared_channel / "videos.json").read_text(encoding="utf-8"))[:20]
    database = open_database(store)
    with database.write() as session:
        add_channel(session, "UC9", "@real")
        for day, video in enumerate(videos):
            picture = (shared_channel / "thumbnails" / f"{video['id']}.jpg").read_bytes()
            add_video(session, video["id"], day=day, title=video["title"], picture=picture, channel_id="UC9")
    database.close()
    options = ("--channel", "@real", "--model", str(ENCODER), "--json")
    found = thumbtune("search", "orange", "-k", "20", "--out", "sheet.png", *options).document()
    titles = {video["id"]: video["title"] for video in videos}
    assert {answer["video_id"]: answer["title"] for answer in found["results"]} == titles
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1_600
    first = videos[0]["id"]
    itself = thumbtune("search", "--like", str(shared_channel / "thumbnails" / f"{first}.jpg"), *options).document()
    assert itself["results"][0]["video_id"] == first
    matched = thumbtune("match", first, "An idea", *options).document()
    assert (matched["compared"], matched["current"][0]["title"]) == (19, titles[first])


def test_damaged_thumbnails_are_reported_and_the_others_are_found(thumbtune: Run, clip: str, store: str) -> None:
    database = open_database(store)
    with database.write() as session:
        add_video(session, "bad", day=90, picture=b"no picture")
    database.close()
    done = thumbtune("search", "red circle", "-k", "99", "--model", clip, "--out", "sheet.png")
    assert done.returncode == 0
    assert "note: 1 video left out" in done.stderr
    assert "(first: bad)" in done.stderr
    assert len(done.stdout.splitlines()) == 1 + 15 + 1
    found = thumbtune("search", "red circle", "--model", clip, "--json").document()
    assert (found["searched"], found["left_out"]) == (15, ["bad"])


def test_a_search_by_the_only_video_of_the_library(thumbtune: Run, clip: str, store: str, tmp_path: Path) -> None:
    shell = sqlite3.connect(store.removeprefix("sqlite:///"))
    shell.execute("update video set availability = 'gone' where id <> 'UC1-000'")
    shell.commit()
    shell.close()
    done = thumbtune("search", "--like", "UC1-000", "--model", clip, "--out", "sheet.png")
    assert (done.returncode, done.stdout) == (0, "the store has no other thumbnail\n")
    assert "sheet.png was not written" in done.stderr
    assert not (tmp_path / "sheet.png").exists()


def test_titles_are_escaped_in_text_and_exact_in_json(thumbtune: Run, clip: str, store: str) -> None:
    title = "red\x1b[31m circle \u202eevil 日本"
    database = open_database(store)
    with database.write() as session:
        add_video(session, "odd", day=90, title=title, picture=draw("navy", "bar"))
    database.close()
    arguments = ("search", "red circle", "-k", "99", "--model", clip)
    shown = thumbtune(*arguments, "--out", "sheet.png").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "red\\x1b[31m circle \\u202eevil 日本" in shown
    assert title in [answer["title"] for answer in thumbtune(*arguments, "--json").document()["results"]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "error: give one of TEXT, --like IMAGE and --words TEXT"),
        (("red", "--like", "UC1-001"), 2, "error: give one of TEXT, --like IMAGE and --words TEXT"),
        (("  ",), 2, "error: the TEXT to search for is empty."),
        (("red", "-k", "0"), 2, "error: Invalid value for '-k': 0 is not in the range x>=1."),
        (("caf\udce9", "--model", "CLIP"), 2, "error: 'caf\\udce9' is not valid UTF-8; use a UTF-8 terminal"),
        (("red",), 1, "error: sentence-transformers/clip-ViT-L-14 is not in the local cache"),
        (("red", "--model", "3"), 1, "error: there is no run 3; 'thumbtune runs' lists them"),
        (
            ("red", "--model", ""),
            2,
            "error: the model name is empty",
        ),
        (
            ("red", "--model", " "),
            2,
            "error: the model name is empty",
        ),
        (("red", "--model", "./none"), 1, "error: ./none is not a model folder"),
        (("red", "--model", "~no-such-user/m"), 1, "error: ~no-such-user/m is not a model folder (no such"),
        (("red", "--model", "n" * 300), 1, f"error: {'n' * 300} is not a model folder (File name too long)"),
        (
            ("red", "--model", "base"),
            1,
            "error: 'base' is not a model; --model takes N ",
        ),
        (("red", "--channel", "@who"), 2, "error: channel '@who' is not in the store; the store has @uc1, @uc2"),
        (("--like", "none.png"), 2, "error: 'none.png' is neither a file nor a video in the store; check the path"),
        (("--like", "."), 2, "error: . is a folder"),
        (("--like", "words.txt"), 2, "error: words.txt is not a supported image"),
        (("red", "--out", "sheet.jpg"), 2, "error: --out sheet.jpg "),
        (("red", "--out", "none/sheet.png"), 2, "error: --out none/sheet.png: the folder none does not exist"),
    ],
)
def test_errors_are_one_line(
    thumbtune: Run, clip: str, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "words.txt").write_text("words")
    done = thumbtune("search", *(clip if argument == "CLIP" else argument for argument in arguments))
    assert done.error().startswith(message)
    assert done.returncode == code


def test_search_in_an_empty_store_is_an_error(thumbtune: Run, clip: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    open_database(url).close()
    done = thumbtune("search", "red", "--model", clip, db=url)
    assert "'thumbtune sync'" in done.error()
    assert done.returncode == 1
    missing = thumbtune("search", "red", db=f"sqlite:///{tmp_path}/none.db")
    assert missing.error().startswith("error: there is no store at")


def test_words_are_searched_without_a_model(thumbtune: Run, store: str) -> None:
    database = open_database(store)
    with database.write() as session:
        digest = current_pairs(session)[0].picture_sha256
        newest = current_pairs(session)[0].video_id
        write_words(session, "a reader 1", {digest: "Big RED fox"}, utc_now())
    database.close()
    found = thumbtune("search", "--words", "red big", "--json").document()
    assert (found["searched"], found["unread"], found["found"]) == (15, 14, 1)
    assert [(row["video_id"], row["text"]) for row in found["results"]] == [(newest, "Big RED fox")]
    assert newest in thumbtune("search", "--words", "FOX").stdout
    assert thumbtune("search", "--words", "hen").returncode == 0
    for wrong in (("--words", " "), ("red", "--words", "fox"), ()):
        assert thumbtune("search", *wrong).returncode == 2
