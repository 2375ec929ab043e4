"""Copies and output on a full disk: a small file system, and /dev/full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.reliability_disk import COPIES, can_mount, copy_to_a_full_disk, print_to_a_full_disk, resume_on_a_full_disk
from bench.reliability_lab import Shell
from store.db import open_database
from tests.trainer.tiny import fill

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('filled')}/filled.db"
    with open_database(url) as database:
        fill(database, 40)
    return url


@pytest.mark.skipif(not can_mount(), reason="file systems may not be mounted here")
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_to_a_full_disk_is_one_error_and_leaves_no_file(store: str, tmp_path: Path, name: str) -> None:
    assert copy_to_a_full_disk(tmp_path, store, name) == []


@pytest.mark.skipif(not can_mount(), reason="file systems may not be mounted here")
@pytest.mark.parametrize("name", ["the start of an import", "the start of a copy"])
def test_commands_continue_once_the_disk_has_space_again(store: str, tmp_path: Path, name: str) -> None:
    assert Shell(store, os.environ).run("export", "dataset", str(tmp_path / "source"), "--csv").code == 0
    file = Path(store.removeprefix("sqlite:///"))
    assert resume_on_a_full_disk(tmp_path / "resumed", file, tmp_path / "source", name) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_unwritable_output_is_one_error(store: str) -> None:
    assert print_to_a_full_disk(store) == []
