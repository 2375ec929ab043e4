"""`thumbtune channels remove` as users run it."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.channels import HIGH, channel, jpeg, video
from tests.standin import StandIn
from tests.thumbtune.test_sync_command import Shell, error_line

pytestmark = pytest.mark.processes


def pieces(thumbnail: bytes) -> list[bytes]:
    """Parts of a thumbnail's bytes. It takes several pages of the file, which may be apart."""
    return [thumbnail[at : at + 64] for at in range(1_000, len(thumbnail) - 64, 64)]


@pytest.fixture
def shell(sqlite_url: str) -> Iterator[Shell]:
    other = channel(0, name="other")
    other.publish(*(video(number, id=f"other{number:06d}", title=f"Quite another {number}") for number in range(3)))
    with StandIn(channel(60), other, keys=["stand-in-key"]) as server:
        shell = Shell(sqlite_url, server)
        assert shell.run("sync", "@tests", "@other").returncode == 0
        yield shell


def listed(shell: Shell) -> list[str]:
    return [row["handle"] for row in json.loads(shell.run("channels", "--json").stdout)["channels"]]


def file_of(shell: Shell) -> Path:
    return Path(shell.url.removeprefix("sqlite:///"))


def test_a_removed_channel_leaves_no_trace_in_the_file(shell: Shell) -> None:
    shell.server.catalogues[0].change("video000007", title="A title that is shown no more")
    shell.run("sync", "@tests", "--refresh")
    shell.server.catalogues[0].change("video000007", title="Title 7")
    shell.run("sync", "@tests", "--refresh")
    picture = pieces(jpeg("video000007", HIGH))
    before = file_of(shell).read_bytes()
    assert b"A title that is shown no more" in before
    assert sum(piece in before for piece in picture) > len(picture) / 2
    done = shell.run("channels", "remove", "@Tests", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    removed = json.loads(done.stdout)
    assert removed["rewritten"]
    assert (removed["removed"]["videos"], removed["removed"]["thumbnails"]) == (60, 60)
    after = file_of(shell).read_bytes()
    for trace in (b"A title that is shown no more", b"Title 7", b"video000007", b"@tests", *picture):
        assert trace not in after
    assert len(after) < len(before)
    assert not file_of(shell).with_name("thumbtune.db-wal").exists()
    kept = pieces(jpeg("other000001", HIGH))
    assert sum(piece in after for piece in kept) > len(kept) / 2
    assert listed(shell) == ["@other"]
    assert shell.run("db", "check").returncode == 0
    again = shell.run("channels", "remove", "@tests", "--purge", "--yes")
    assert again.returncode == 1
    error_line(again)
    # A removed channel is read as if for the first time.
    report, code = shell.report("@tests")
    assert (code, report["new"], report["thumbnails"]["fetched"]) == (0, 60, 60)


def test_without_a_terminal_for_confirmation_nothing_is_deleted(shell: Shell) -> None:
    done = shell.run("channels", "remove", "@tests", "--purge")
    assert done.returncode == 2
    assert "60 videos" in done.stdout
    error_line(done)
    assert listed(shell) == ["@tests", "@other"]


def test_without_purge_a_channel_is_no_longer_synced_and_keeps_its_data(shell: Shell) -> None:
    done = shell.run("channels", "remove", "@tests", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["kept"]["videos"] == 60
    rows = {row["handle"]: row for row in json.loads(shell.run("channels", "--json").stdout)["channels"]}
    assert (rows["@tests"]["pairs"], rows["@tests"]["paused_at"] is None) == (60, False)
    report, _ = shell.report()
    assert report["handle"] == "@other"


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 3), (b"y\n", 0)])
def test_purge_asks_for_confirmation(shell: Shell, answer: bytes, code: int) -> None:
    main, side = pty.openpty()
    os.write(main, answer)
    command = [sys.executable, "-m", "thumbtune", "--db", shell.url, "channels", "remove", "@tests", "--purge"]
    done = subprocess.run(command, env=shell.environment, stdin=side, capture_output=True, timeout=120, check=False)
    os.close(main)
    os.close(side)
    assert done.returncode == code, done.stderr
    assert listed(shell) == (["@other"] if code == 0 else ["@tests", "@other"])


def test_purge_reports_traces_that_an_open_reader_keeps(shell: Shell) -> None:
    reader = sqlite3.connect(file_of(shell))
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM video").fetchone()
    done = shell.run("channels", "remove", "@tests", "--purge", "--yes")
    assert done.returncode == 1
    assert "thumbtune db vacuum" in done.stdout
    assert listed(shell) == ["@other"]
    reader.close()
    assert shell.run("db", "vacuum").returncode == 0
    assert b"Title 7" not in file_of(shell).read_bytes()


@pytest.mark.parametrize(("name", "code"), [("@nobody", 1), ("UC" + "x" * 22, 1), ("not a channel", 2)])
def test_removing_an_unknown_channel_fails(shell: Shell, name: str, code: int) -> None:
    done = shell.run("channels", "remove", name, "--purge", "--yes")
    assert done.returncode == code
    error_line(done)


def test_an_ambiguous_handle_removes_no_channel(shell: Shell) -> None:
    with sqlite3.connect(file_of(shell)) as connection:
        connection.execute("UPDATE channel SET handle = '@Tests'")
        ids = [row[0] for row in connection.execute("SELECT id FROM channel")]
    done = shell.run("channels", "remove", "@tests", "--purge", "--yes")
    assert done.returncode == 2
    assert all(channel_id in error_line(done) for channel_id in ids)
    assert len(listed(shell)) == 2


def test_a_moved_handle_is_reported_in_one_line(shell: Shell) -> None:
    first, second = shell.server.catalogues
    first.handle, second.handle = "@renamed", first.handle
    with sqlite3.connect(file_of(shell)) as connection:
        connection.execute("UPDATE channel SET described_at = NULL")
    done = shell.run("sync", "@tests", "--json")
    (synced,) = json.loads(done.stdout)["channels"]
    assert (done.returncode, synced["id"]) == (0, second.channel_id)
    (line,) = [line for line in done.stderr.splitlines() if first.channel_id in line]
    assert line.removeprefix("note: ") == synced["notices"][0]
    assert sorted(map(str, listed(shell))) == ["@tests", "None"]
