"""`channels add`, `pause` and `resume`, and files of channels, as users run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.channels import channel, video
from tests.standin import StandIn
from tests.thumbtune.test_sync_command import Shell, error_line

pytestmark = pytest.mark.processes


@pytest.fixture
def shell(sqlite_url: str) -> Iterator[Shell]:
    other = channel(0, name="other")
    other.publish(*(video(number, id=f"other{number:06d}", title=f"Quite another {number}") for number in range(3)))
    with StandIn(channel(2), other, keys=["stand-in-key"]) as server:
        yield Shell(sqlite_url, server)


def synced(shell: Shell, *arguments: str) -> list[str]:
    done = shell.run("sync", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [report["handle"] for report in json.loads(done.stdout)["channels"]]


def test_channels_from_a_file_are_added_paused_and_resumed(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "channels.txt"
    file.write_text("# ours\n@tests\n\n@other  # a friend\n@nobody\n", encoding="utf-8")
    done = shell.run("channels", "add", str(file), "--json")
    assert done.returncode == 1
    added = json.loads(done.stdout)
    assert (list(added["added"]), list(added["failed"])) == (["@tests", "@other"], ["@nobody"])
    assert synced(shell) == ["@tests", "@other"]
    assert shell.run("channels", "pause", "@other").returncode == 0
    assert synced(shell) == ["@tests"]
    assert synced(shell, "@other") == ["@other"], "a named channel is synced although it is paused"
    assert shell.run("channels", "resume", "@other").returncode == 0
    assert synced(shell) == ["@tests", "@other"]
    assert shell.run("channels", "remove", "@tests").returncode == 0
    assert synced(shell) == ["@other"]
    listed = json.loads(shell.run("channels", "list", "--json").stdout)["channels"]
    assert [(row["handle"], row["paused_at"] is None) for row in listed] == [("@tests", False), ("@other", True)]


def test_sync_reads_channels_from_a_file(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "channels.txt"
    file.write_text("@other\n", encoding="utf-8")
    assert synced(shell, "@tests", "--channels", str(file)) == ["@tests", "@other"]
    file.write_text("# none\n", encoding="utf-8")
    done = shell.run("sync", "--channels", str(file))
    assert done.returncode == 2
    assert str(file) in error_line(done)
