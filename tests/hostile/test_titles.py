"""Titles of any text are stored exactly, and escaped for the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from store.db import Database, open_database
from tests.collector.channels import contents
from tests.hostile.api import RawApi, as_json, channel_body, page_body, video_item, videos_body
from tests.hostile.titles import TITLES, UNSAFE
from tests.store.builders import add_channel, add_video
from tests.thumbtune.asking import Run, make_clip, runner
from tests.trainer.tiny import draw


def videos_with(titles: list[str], api: RawApi) -> dict[str, bytes]:
    """The responses of all API methods for a channel with these titles."""
    ids = [f"video{number:06d}" for number in range(len(titles))]
    items = [video_item(i, title, api.thumbnails(i)) for i, title in zip(ids, titles, strict=True)]
    return {
        "channels": as_json(channel_body(titles[0])),
        "playlistItems": as_json(page_body(ids)),
        "videos": as_json(videos_body(items)),
    }


async def synced(database: Database, titles: list[str]) -> list[str]:
    answers: dict[str, bytes] = {}

    def answer(method: str, _query: Mapping[str, str]) -> bytes:
        return answers[method]

    async with RawApi(answer) as api:
        answers |= videos_with(titles, api)
        report = await api.sync(database)
    assert (report.status, report.title) == ("complete", titles[0])
    return [row[0] for row in contents(database).values()]


async def test_every_title_is_stored_exactly(database: Database) -> None:
    assert await synced(database, TITLES) == TITLES


async def test_unstorable_characters_are_replaced_alike_on_both_databases(database: Database) -> None:
    titles = ["start", "a\x00b", "half \ud83d pair", "\udfff", "\x00"]
    assert await synced(database, titles) == ["start", "a\ufffdb", "half \ufffd pair", "\ufffd", "\ufffd"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def thumbtune(
    migrated_sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    database = open_database(migrated_sqlite_url)
    with database.write() as session:
        add_channel(session, "UC1", "@uc1", TITLES[0])
        for number, title in enumerate(TITLES):
            picture = draw("red", "circle", number) + str(number).encode()
            add_video(session, f"video{number:06d}", day=number, title=title, picture=picture, channel_id="UC1")
    database.close()
    monkeypatch.chdir(tmp_path)
    return runner(migrated_sqlite_url, monkeypatch, capfd)


@pytest.mark.slow
def test_no_command_prints_terminal_escapes_of_a_title(thumbtune: Run, clip: str, tmp_path: Path) -> None:
    titles = tmp_path / "titles.txt"
    titles.write_text("\n".join(re.sub(r"\s", " ", title)[:500] for title in TITLES))
    training = ("--model", clip, "--title-model", "base", "--device", "cpu", "--epochs", "1")
    asked = [
        ("channels",),
        ("train", *training),
        ("train", *training, "--seed", "1", "--output", str(tmp_path / "model")),
        ("evaluate",),
        ("runs",),
        ("runs", "show", "1"),
        ("runs", "compare", "1", "2"),
        ("runs", "compare", "1:base", "2"),
        ("search", TITLES[0], "-k", "99", "--out", str(tmp_path / "sheet.png")),
        ("search", "--like", "video000000", "-k", "99"),
        ("match", "video000000", TITLES[0], TITLES[1]),
        ("match", "video000000", "--titles", str(titles)),
        ("sql", "SELECT title FROM pairs ORDER BY video_id"),
        ("sql", "SELECT * FROM run_errors"),
        ("sql", f'SELECT 1 AS "{TITLES[0]}"'),
        ("sql", f"SELECT '{TITLES[0]}' AS x, nothing FROM pairs"),
        ("export", str(tmp_path / "data")),
        ("export", "--model", str(tmp_path / "whole"), "--run", "2"),
    ]
    for arguments in asked:
        done = thumbtune(*arguments)
        expected = 2 if "nothing" in arguments[-1] else 0
        assert done.returncode == expected, (arguments[:2], done.stderr[-2_000:])
        assert "Traceback" not in done.stderr
        found = UNSAFE & set(done.stdout + done.stderr)
        assert not found, (arguments[:2], found)
    for folder in ("model", "whole"):
        card = (tmp_path / folder / "README.md").read_text()
        assert not UNSAFE & set(card)
        assert "owned" not in card
        assert "example.com" not in card


def test_json_output_has_exact_titles(thumbtune: Run) -> None:
    query = "SELECT title FROM pairs ORDER BY video_id"
    assert [row["title"] for row in json.loads(thumbtune("sql", query, "--json").stdout)] == TITLES
    shown = list(csv.reader(io.StringIO(thumbtune("sql", query, "--csv").stdout, newline="")))
    assert len(shown) == len(TITLES) + 1
    (channel,) = thumbtune("channels", "--json").document()["channels"]
    assert channel["title"] == TITLES[0]
