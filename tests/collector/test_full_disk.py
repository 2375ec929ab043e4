"""A full disk: a small file system in memory that is really full."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.reliability_disk import can_mount, sync_on_a_full_disk
from bench.reliability_lab import Shell, channel, contents, read_store, sqlite_url
from tests.standin import StandIn


@pytest.mark.processes
@pytest.mark.skipif(not can_mount(), reason="file systems may not be mounted here")
def test_a_full_disk_is_one_clear_error_and_the_next_sync_completes(tmp_path: Path) -> None:
    with StandIn(channel(100, side=192)) as server:
        Shell.of(sqlite_url(tmp_path, "clean"), server).run("sync", "@reliable")
        wanted: dict[str, object] = dict(read_store(sqlite_url(tmp_path, "clean"), contents))
        for size in ("4k", "16k", "600k"):
            assert sync_on_a_full_disk(tmp_path / size, server, size, wanted) == []
