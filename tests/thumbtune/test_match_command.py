"""`thumbtune match` as users and scripts run it: titles from all sources, output and exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.db import open_database
from tests.store.builders import add_video
from tests.thumbtune.asking import Run, fill_store, make_clip, runner
from tests.trainer.tiny import draw

IDEAS = ("red circle", "navy bar", "a pink square")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def store(migrated_sqlite_url: str) -> str:
    return fill_store(migrated_sqlite_url)


@pytest.fixture
def thumbtune(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("cover.png").write_bytes(draw("purple", "circle", 3))
    return runner(store, monkeypatch, capfd)


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def titles(document: dict[str, list[dict[str, str]]]) -> set[str]:
    return {title["title"] for title in document["titles"]}


def test_match_an_image_file(thumbtune: Run, clip: str) -> None:
    found = thumbtune("match", "cover.png", *IDEAS, "--model", clip, "--json").document()
    assert (found["image"], found["model"], found["run_id"]) == ("cover.png", clip, None)
    assert (found["compared"], found["current"]) == (15, [])
    assert titles(found) == set(IDEAS)
    assert [title["rank"] for title in found["titles"]] == [1, 2, 3]
    for title in found["titles"]:
        assert {"rank", "title", "score", "position", "of", "times", "probability"} <= set(title)
        assert 1 <= title["position"] <= title["of"] == 16
        assert title["stands"] == title["position"]
    positions = [title["position"] for title in found["titles"]]
    assert positions == sorted(positions), "of two titles, the better title never has a lower position"
    own = thumbtune("match", "cover.png", *IDEAS, "--channel", "@UC2", "--model", clip, "--json").document()
    assert (own["compared"], own["titles"][0]["of"]) == (3, 4)


def test_match_a_video_shows_its_current_title(thumbtune: Run, clip: str) -> None:
    found = thumbtune("match", "UC1-004", *IDEAS, "--model", clip, "--json").document()
    (current,) = found["current"]
    assert (current["title"], current["video_ids"], current["of"]) == ("purple circle 4 UC1", ["UC1-004"], 15)
    done = thumbtune("match", "UC1-004", *IDEAS, "--model", clip)
    head, *lines = done.stdout.splitlines()[:5]
    assert head.split() == ["rank", "score", "position", "title"]
    marked = [line for line in lines if line.startswith("current")]
    assert len(marked) == 1
    assert marked[0].endswith("purple circle 4 UC1")
    assert f"{current['position']} of 15" in marked[0]
    shown = [float(line.split()[1]) for line in lines]
    assert shown == sorted(shown, reverse=True)
    assert {line.split()[0] for line in done.stderr.splitlines()} == {"Opening", "Embedding", "note:", "how"}, (
        "no library prints"
    )


def test_match_a_video_whose_id_begins_with_a_dash(thumbtune: Run, clip: str, store: str) -> None:
    database = open_database(store)
    with database.write() as session:
        add_video(session, "-dashed", title="A dash", picture=draw("navy", "bar"))
    database.close()
    found = thumbtune("match", "--model", clip, "--json", "--", "-dashed", *IDEAS).document()
    assert [current["title"] for current in found["current"]] == ["A dash"]
    assert titles(found) == set(IDEAS)


@pytest.mark.slow
def test_titles_are_read_from_a_file_and_from_standard_input(
    thumbtune: Run, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ideas.txt").write_bytes("\ufeffvoilà\r\n\r\n日本\r\n".encode())

    def asked(*arguments: str) -> set[str]:
        pipe(monkeypatch, "piped 🎈\n\n".encode())
        return titles(thumbtune("match", "cover.png", *arguments, "--model", clip, "--json").document())

    assert asked("--titles", "ideas.txt") == {"voilà", "日本"}
    assert asked("--titles", "ideas.txt", "mine") == {"voilà", "日本", "mine"}
    assert asked() == asked("-") == asked("--titles", "-") == {"piped 🎈"}
    assert asked("mine", "-") == asked("mine", "--titles", "-") == {"mine", "piped 🎈"}
    assert asked("mine") == {"mine"}, "words that were not requested are not read"


@pytest.mark.slow
def test_duplicates_are_listed_once(thumbtune: Run, clip: str) -> None:
    found = thumbtune("match", "cover.png", "zebra", "apple", " zebra ", "", "--model", clip, "--json").document()
    assert sorted((title["title"], title["times"]) for title in found["titles"]) == [("apple", 1), ("zebra", 2)]


def test_truncated_titles_are_named(thumbtune: Run, clip: str) -> None:
    """The tiny CLIP reads 24 tokens."""
    long = "red circle " * 12
    done = thumbtune("match", "cover.png", "blue bar", long, "--model", clip)
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert [long.strip() in note for note in notes].count(True) == 1


def test_without_pairs_the_ranking_has_a_note(thumbtune: Run, clip: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    open_database(url).close()
    done = thumbtune("match", "cover.png", *IDEAS, "--model", clip, db=url)
    assert done.returncode == 0
    assert [line.split()[:3:2] for line in done.stdout.splitlines()[1:4]] == [["1", "-"], ["2", "-"], ["3", "-"]]
    assert done.stderr.splitlines()[-2].startswith("note: the store has no other pair")
    found = thumbtune("match", "cover.png", *IDEAS, "--model", clip, "--json", db=url).document()
    assert [(title["position"], title["of"]) for title in found["titles"]] == [(None, None)] * 3


@pytest.mark.slow
def test_several_thumbnails_give_a_matrix_of_probabilities(thumbtune: Run, clip: str, store: str) -> None:
    assert thumbtune("train", "--model", clip, "--negatives", "random").returncode == 0
    found = thumbtune("match", "cover.png", *IDEAS, "--model", "1", "--json").document()
    assert found["calibration"]["n"] == 11
    assert found["calibration"]["folds"] == 5
    assert 0 <= found["calibration"]["expected_calibration_error"] <= 1
    for title in found["titles"]:
        assert 0 <= title["probability_low"] <= title["probability"] <= title["probability_high"] <= 1
    matrix = thumbtune("match", "cover.png", "--image", "UC1-004", *IDEAS, "--model", "1", "--json").document()
    assert [thumbnail["image"] for thumbnail in matrix["thumbnails"]] == ["cover.png", "UC1-004"]
    assert matrix["thumbnails"][0]["titles"] == found["titles"]
    assert matrix["calibration"] == found["calibration"]
    lines = thumbtune("match", "cover.png", "--image", "UC1-004", *IDEAS, "--model", "1").stdout.splitlines()
    assert {lines[row].rpartition("  ")[0].split("  ")[0] for row in (1, 2, 3)} == set(IDEAS)
    ranks = {title["title"]: title["rank"] for title in found["titles"]}
    for title in IDEAS:
        assert f"(#{ranks[title]})" in next(line for line in lines if line.startswith(title))


def test_titles_are_escaped_in_text_and_exact_in_json(thumbtune: Run, clip: str) -> None:
    title = "red\x1b[31m \u202eevil"
    shown = thumbtune("match", "cover.png", title, "--model", clip).stdout
    assert "red\\x1b[31m \\u202eevil" in shown
    assert "\x1b" not in shown
    assert titles(thumbtune("match", "cover.png", title, "--model", clip, "--json").document()) == {title}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "error: Missing argument 'IMAGE'."),
        (("cover.png",), 2, "error: there is no title to match (standard input has none)"),
        (("cover.png", " "), 2, "error: there is no title to match; give one or more after IMAGE, or --titles FILE."),
        (("cover.png", "--titles", "blank.txt"), 2, "error: there is no title to match (blank.txt has none)"),
        (("cover.png", "--titles", "none.txt"), 2, "error: --titles none.txt can't be read (No such file or directory"),
        (("cover.png", "--titles", "."), 2, "error: --titles . can't be read (Is a directory); check the file."),
        (("cover.png", "--titles", "latin.txt"), 2, "error: latin.txt is not valid UTF-8 (byte 5)"),
        (
            ("cover.png", "caf\udce9", "--model", "CLIP"),
            2,
            "error: 'caf\\udce9' is not valid UTF-8",
        ),
        (("none.png", "a"), 2, "error: 'none.png' is neither a file nor a video in the store; check the path"),
        ((".", "a"), 2, "error: . is a folder"),
        (("latin.txt", "a"), 2, "error: latin.txt is not a supported image"),
        (("cut.png", "a"), 2, "error: cut.png can't be decoded ("),
        (("bare", "a"), 2, "error: video bare has no thumbnail in the store yet"),
        (
            ("cover.png", "a"),
            1,
            "error: sentence-transformers/clip-ViT-L-14 is not in the local cache",
        ),
        (("cover.png", "a", "--model", "2"), 1, "error: there is no run 2; 'thumbtune runs' lists them"),
        (
            ("cover.png", "a", "--channel", "@who"),
            2,
            "error: channel '@who' is not in the store; the store has @uc1, @uc2",
        ),
    ],
)
def test_errors_are_one_line(
    thumbtune: Run,
    clip: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    (tmp_path / "blank.txt").write_bytes(b"\xef\xbb\xbf \n\n")
    (tmp_path / "latin.txt").write_bytes("voilà".encode("latin-1"))
    (tmp_path / "cut.png").write_bytes(draw("red", "bar")[:-30])
    database = open_database(store)
    with database.write() as session:
        add_video(session, "bare", picture=None)
    database.close()
    pipe(monkeypatch, b"\n")
    done = thumbtune("match", *(clip if argument == "CLIP" else argument for argument in arguments))
    assert done.error().startswith(message)
    assert done.returncode == code


def test_standard_input_that_is_not_utf_8_or_is_closed_is_an_error(
    thumbtune: Run, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, "voilà".encode("latin-1"))
    assert thumbtune("match", "cover.png").error().startswith("error: standard input is not valid UTF-8 (byte 5)")
    monkeypatch.setattr("sys.stdin", None)
    for arguments in ((), ("-",)):
        done = thumbtune("match", "cover.png", *arguments)
        assert done.error().startswith("error: there is no title to match")
        assert done.returncode == 2


@pytest.mark.processes
def test_match_works_in_a_shell_pipeline(store: str, clip: str, tmp_path: Path) -> None:
    (tmp_path / "cover.png").write_bytes(draw("purple", "circle", 3))
    done = subprocess.run(
        [sys.executable, "-m", "thumbtune", "--db", store, "-q", "match", "cover.png", "--model", clip, "--json"],
        input="voilà\nzebra\n".encode(),
        capture_output=True,
        check=False,
        cwd=tmp_path,
        # Not UTF-8: titles are read as UTF-8 regardless of the terminal's encoding.
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "latin-1"},
    )
    assert done.stderr == b""
    assert titles(json.loads(done.stdout.decode("latin-1"))) == {"voilà", "zebra"}
