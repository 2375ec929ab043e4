"""The store's location, `thumbtune.toml`, and a reader that closes the output early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from collector.errors import BadSetting
from collector.settings import settings_from
from store.db import open_database
from store.errors import BadDatabaseUrl
from tests.thumbtune.test_cli import thumbtune
from thumbtune.backups import restore_from
from thumbtune.cli import main
from thumbtune.config import BadConfig, read_config


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("mystore.db", "sqlite:///mystore.db"),
        ("/data/mystore.sqlite3", "sqlite:////data/mystore.sqlite3"),
        ("stores/", "sqlite:///stores/thumbtune.db"),
        ("sqlite:///x", "sqlite:///x"),
        ("postgresql://me@host/x", "postgresql://me@host/x"),
        ("what", "what"),
        ("~/my.db", "sqlite:////home/me/my.db"),
        ("sqlite:///~/my.db", "sqlite:////home/me/my.db"),
        ("100%41?.db", "sqlite:///100%2541%3F.db"),
        ("sqlite:my.db", "sqlite:my.db"),
        ("file:my.db", "file:my.db"),
    ],
)
def test_a_store_is_a_url_a_file_or_a_folder(
    tmp_path: Path, given: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert read_config(given, {}, Path()).store == url


def test_an_existing_folder_or_file_is_used_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").touch()
    assert read_config(str(tmp_path / "one"), {}, tmp_path).store == f"sqlite:///{tmp_path}/one/thumbtune.db"
    assert read_config(str(tmp_path / "other"), {}, tmp_path).store == f"sqlite:///{tmp_path}/other"


def test_settings_of_the_working_folder_take_precedence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "thumbtune.toml").write_text('store = "data/mine.db"\nthumbnail = "maxres"\n')
    (tmp_path / "data" / "thumbtune.toml").write_text('thumbnail = "high"\nmin_duration = 60\nchannels = ["@one"]\n')
    found = read_config(None, {}, tmp_path)
    assert found.store == f"sqlite:///{tmp_path}/data/mine.db"
    assert found.values == {"thumbnail": "maxres", "min_duration": 60, "channels": ["@one"]}
    assert found.sources["thumbnail"] == str(tmp_path / "thumbtune.toml")
    assert found.sources["min_duration"] == str(tmp_path / "data" / "thumbtune.toml")
    assert found.defaults()["sync"] == {"thumbnail": "maxres", "min_duration": 60}
    secret = tmp_path / "secret"
    secret.write_text("postgresql://me:pw@host/x\n")
    assert read_config(None, {"THUMBTUNE_DB_FILE": str(secret)}, tmp_path).store == "postgresql://me:pw@host/x"
    assert read_config("x.db", {"THUMBTUNE_DB_FILE": str(secret)}, tmp_path).store == "sqlite:///x.db"


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "thumbtune.toml").write_text('thumbnail = "maxres"', encoding="utf-8-sig")
    (tmp_path / "secret").write_text("postgresql://me:pw@host/x\n", encoding="utf-8-sig")
    found = read_config(None, {"THUMBTUNE_DB_FILE": str(tmp_path / "secret")}, tmp_path)
    assert (found.store, found.values) == ("postgresql://me:pw@host/x", {"thumbnail": "maxres"})


def test_a_model_beside_the_store_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "clip").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", "/home/me")
    for model, value in (
        ("clip", str(tmp_path / "data" / "clip")),
        ("org/clip", "org/clip"),
        ("~/clip", "/home/me/clip"),
        ("", ""),
    ):
        (tmp_path / "data" / "thumbtune.toml").write_text(f'model = "{model}"')
        assert read_config(str(tmp_path / "data" / "my.db"), {}, Path()).values["model"] == value


def test_a_store_file_with_signs_of_a_url_is_that_file(tmp_path: Path) -> None:
    file = tmp_path / "100%41?.db"
    with open_database(read_config(str(file), {}, Path()).store, create=True):
        assert file.is_file()
    backup = tmp_path / "%41?"
    backup.mkdir()
    copied = file.rename(backup / "thumbtune.db")
    restore_from(backup, read_config(str(file), {}, Path()).store)
    assert file.is_file()
    assert copied.is_file()


def test_a_store_with_a_nul_is_a_wrong_url(tmp_path: Path) -> None:
    (tmp_path / "thumbtune.toml").write_text(r'store = "my\u0000.db"')
    with pytest.raises(BadDatabaseUrl):
        open_database(read_config(None, {}, tmp_path).store)


@pytest.mark.parametrize("text", ["nonsense", "sizes = 1", "min_duration = true", 'channels = "@one"', "store = 1"])
def test_a_settings_file_that_cannot_be_used_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "thumbtune.toml").write_text(text)
    with pytest.raises(BadConfig, match=r"thumbtune\.toml"):
        read_config(None, {}, tmp_path)


def test_the_key_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("abc\n")
    assert settings_from({"YOUTUBE_API_KEY_FILE": str(tmp_path / "key")}).key == "abc"
    assert settings_from({"YOUTUBE_API_KEY": "own", "YOUTUBE_API_KEY_FILE": str(tmp_path / "key")}).key == "own"
    (tmp_path / "two").write_text("abc\ndef\n")
    for name in ("none", "two"):
        with pytest.raises(BadSetting, match="YOUTUBE_API_KEY_FILE"):
            settings_from({"YOUTUBE_API_KEY_FILE": str(tmp_path / name)})


@pytest.mark.processes
def test_the_store_may_follow_the_command_and_its_password_is_not_shown(tmp_path: Path) -> None:
    done = thumbtune("db", "upgrade", "--db", "mystore.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mystore.db").is_file()
    shown = thumbtune("config", "--db", "postgresql://me:secret@host/x", "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["store"]["value"] == "postgresql://me:***@host/x"


@pytest.mark.processes
def test_a_reader_that_closes_the_pipe_early_is_not_an_error(tmp_path: Path) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000) select i from n"
    command = [sys.executable, "-m", "thumbtune", "sql", numbers, "--csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"i\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.processes
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["config", "--help"], ["config"]])
def test_a_reader_that_has_closed_the_pipe_before_the_output_is_not_an_error(tmp_path: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "thumbtune", *words]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    finally:
        os.close(writing)
    assert "rror" not in done.stderr.decode()
    assert done.returncode == 0


def test_a_command_called_with_arguments_does_not_end_the_process_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit):
        main(["config"])
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
