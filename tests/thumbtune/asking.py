"""Run commands in this process, on a store of small drawn thumbnails."""

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
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str

    def document(self) -> Any:
        """Parse stdout, which must be one JSON document."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)

    def error(self) -> str:
        """Return the error line."""
        assert "Traceback" not in self.stderr
        assert self.stdout == ""
        return self.stderr.splitlines()[-1]


Run = Callable[..., Done]


def make_clip(folder: Path) -> Path:
    """Write a tiny CLIP to a folder."""
    with quiet_libraries():
        return build_clip(folder / "tiny-clip")


def fill_store(url: str) -> str:
    """Add 12 pairs of one channel and 3 of another to a store."""
    database = open_database(url)
    fill(database, 12)
    fill(database, 3, "UC2")
    database.close()
    return url


def run_here(capfd: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Run a command in this process, which has imported torch."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as exited:
        main(list(arguments))
    told = capfd.readouterr()
    return Done(int(exited.value.code or 0), told.out, told.err)


def runner(store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command on the store, without network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str, db: str = store) -> Done:
        return run_here(capfd, "--db", db, *arguments)

    return run
