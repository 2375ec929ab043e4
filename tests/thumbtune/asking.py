"""Running `search` and `match` in this process, on a store of small drawn pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from store.db import open_database
from tests.trainer.tiny import build_clip, fill
from thumbtune.cli import main
from trainer.quiet import quiet_libraries


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str

    def document(self) -> Any:
        """The JSON document on stdout, and nothing else there."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)

    def error(self) -> str:
        """The line that says why it failed."""
        assert "Traceback" not in self.stderr
        assert self.stdout == ""
        return self.stderr.splitlines()[-1]


Run = Callable[..., Done]


def make_clip(folder: Path) -> Path:
    """Write a tiny CLIP."""
    with quiet_libraries():
        return build_clip(folder / "tiny-clip")


def fill_store(url: str) -> str:
    """Put 12 pairs of one channel and 3 of another into a store."""
    database = open_database(url)
    fill(database, 12)
    fill(database, 3, "UC2")
    database.close()
    return url


def runner(store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command on that store, without network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str, db: str = store) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exited:
            main(["--db", db, *arguments])
        told = capfd.readouterr()
        return Done(int(exited.value.code or 0), told.out, told.err)

    return run
