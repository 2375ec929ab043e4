"""The harness of `bench.reliability`: every part exists, and a broken promise is detected."""

from __future__ import annotations

import importlib
import inspect
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench import reliability
from bench.reliability import PARTS
from bench.reliability_lab import Row, Shell, channel, contents, problems, read_store, sqlite_url, table
from tests.standin import StandIn


@pytest.mark.parametrize("name", PARTS)
def test_every_part_can_be_imported(name: str) -> None:
    module, _, function = PARTS[name].partition(":")
    part = getattr(importlib.import_module(f"bench.{module}"), function)
    assert list(inspect.signature(part).parameters) == ["folder", "quick"]


def test_a_broken_promise_gives_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kept, code in ((True, 0), (None, 0), (False, 1)):
        row = Row("nothing is lost", "all | of it", 1000, "seen", kept)
        monkeypatch.setattr("bench.reliability_faults.down", lambda _folder, *, quick, row=row: [row])
        monkeypatch.setattr("sys.argv", ["reliability", "--only", "down"])
        assert reliability.main() == code
        assert table([row]) in capsys.readouterr().out


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two stores, `one` and `two`, synced separately."""
    folder = tmp_path_factory.mktemp("synced")
    with StandIn(channel(4)) as server:
        for name in ("one", "two"):
            assert Shell.of(sqlite_url(folder, name), server).run("sync", "@reliable").code == 0
    return folder


@pytest.mark.processes
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE video SET title = title || '!' WHERE id = (SELECT MAX(id) FROM video)",
        "UPDATE video_version SET number = 2 WHERE video_id = (SELECT MAX(id) FROM video)",
        "UPDATE video SET api_item = json_set(api_item, '$.etag', 'x') WHERE id = (SELECT MIN(id) FROM video)",
        "UPDATE picture SET bytes = CAST(bytes || x'00' AS BLOB) WHERE sha256 = (SELECT MAX(sha256) FROM picture)",
        "DELETE FROM video_version WHERE video_id = (SELECT MAX(id) FROM video)",
    ],
)
def test_contents_of_different_stores_differ(synced: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "two.db").write_bytes((synced / "two.db").read_bytes())
    first, second = sqlite_url(synced, "one"), sqlite_url(tmp_path, "two")
    assert read_store(first, contents) == read_store(second, contents)
    assert read_store(second, problems) == []
    with closing(sqlite3.connect(tmp_path / "two.db")) as connection, connection:
        assert connection.execute(damage).rowcount == 1
    assert read_store(first, contents) != read_store(second, contents)
    assert bool(read_store(second, problems)) == ("SET bytes" in damage)
