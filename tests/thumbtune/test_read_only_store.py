"""Searching, matching and exporting from a store on a read-only mount, where features can't be cached."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from store.db import open_database
from tests.store.test_read_only import COMMANDS, on_read_only_mount
from tests.thumbtune.asking import fill_store, make_clip
from trainer.data import export_dataset


@pytest.mark.processes
def test_reading_commands_work_on_a_read_only_store(migrated_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    path, clip = folder / "thumbtune.db", make_clip(tmp_path)
    path.write_bytes(migrated_file.read_bytes())
    fill_store(f"sqlite:///{path}")
    database = open_database(f"sqlite:///{path}")
    export_dataset(database, tmp_path / "first")  # the snapshot that the store has from then on
    database.close()
    search = f"search red --model {clip} --device cpu"
    script = tmp_path / "commands.py"
    script.write_text(COMMANDS)
    reading = [search, f"match UC1-004 Cats --model {clip} --device cpu", f"export dataset {tmp_path / 'again'}"]
    train = f"train --model {clip} --epochs 1"
    done = json.loads(on_read_only_mount(folder, sys.executable, str(script), f"sqlite:///{path}", *reading, train))
    assert {line: done[line][0] for line in reading} == dict.fromkeys(reading, 0), done
    assert done[train][0] == 1
    assert "can't be written" in done[train][1][0]
