"""`thumbtune sync` and `thumbtune channels` as users run them: output, streams and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests import forked
from tests.collector.channels import channel, video
from tests.standin import Fault, Faults, StandIn

pytestmark = pytest.mark.processes


class Shell:
    """Runs commands on one store against one server."""

    def __init__(self, url: str, server: StandIn) -> None:
        self.url = url
        self.server = server
        self.environment = {**os.environ, **server.environment()}

    def run(self, *arguments: str, encoding: str | None = None) -> subprocess.CompletedProcess[str]:
        # A forked process can't change its encoding.
        run_it = forked.run if encoding is None else subprocess.run
        return run_it(
            [*forked.THUMBTUNE, "--db", self.url, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            encoding=encoding,
            timeout=120,
            check=False,
        )

    def report(self, *arguments: str) -> tuple[dict[str, Any], int]:
        done = self.run("sync", *arguments, "--json")
        (report,) = json.loads(done.stdout)["channels"]
        return report, done.returncode


@pytest.fixture
def shell(sqlite_url: str) -> Iterator[Shell]:
    with StandIn(channel(60), keys=["stand-in-key"]) as server:
        yield Shell(sqlite_url, server)


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_the_report_is_one_json_document(shell: Shell) -> None:
    report, code = shell.report("@tests")
    assert code == 0
    assert report.pop("seconds") > 0
    assert report == {
        "id": shell.server.catalogues[0].channel_id,
        "handle": "@tests",
        "title": "The tests channel",
        "status": "complete",
        "listed": 60,
        "new": 60,
        "changed": 0,
        "gone": 0,
        "not_pairs": dict.fromkeys(("short", "upcoming", "live", "private", "gone", "unknown", "no_picture"), 0),
        "thumbnails": {"fetched": 60, "unchanged": 0, "failed": 0},
        "requests": 65,
        "units": 5,
    }


def test_the_text_output_is_a_table_with_the_excluded_videos(shell: Shell) -> None:
    shell.server.catalogues[0].publish(video(60, duration_s=30))
    done = shell.run("sync", "@tests")
    assert done.returncode == 0
    assert "complete" in done.stdout
    assert "left out: 1 Short" in done.stdout
    assert "Syncing The tests channel" in done.stderr
    quiet = shell.run("-q", "sync")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_without_names_every_channel_of_the_store_is_synced(shell: Shell) -> None:
    shell.run("sync", "@tests")
    report, code = shell.report()
    assert (report["status"], report["units"], code) == ("unchanged", 0, 0)


def test_channels_are_listed(shell: Shell) -> None:
    shell.run("sync", "@tests")
    done = shell.run("channels")
    assert "@tests" in done.stdout
    assert "complete" in done.stdout
    (listed,) = json.loads(shell.run("channels", "--json").stdout)["channels"]
    assert (listed["videos"], listed["pairs"], listed["units"], listed["last_status"]) == (60, 60, 5, "complete")


def test_titles_are_escaped_for_the_terminal(shell: Shell) -> None:
    shell.server.catalogues[0].title = "\x1b]0;owned\x07\x1b[31mred\u202e"
    done = shell.run("sync", "@tests")
    shown = done.stdout + done.stderr + shell.run("channels").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    stored = json.loads(shell.run("channels", "--json").stdout)["channels"][0]["title"]
    assert stored == "\x1b]0;owned\x07\x1b[31mred\u202e"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_a_title_that_stdout_cannot_encode_is_escaped(shell: Shell, encoding: str) -> None:
    title = shell.server.catalogues[0].title = "Füchse 狐 🦊"
    shell.environment["PYTHONIOENCODING"] = encoding
    done = shell.run("sync", "@tests", "--json", encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["channels"][0]["title"] == title
    listed = shell.run("channels", encoding=encoding)
    assert listed.returncode == 0, listed.stderr
    assert ("Füchse \\u72d0 \\U0001f98a" if encoding != "utf-8" else title) in listed.stdout


def test_a_spent_quota_exits_with_3_and_reports_when_it_is_renewed(shell: Shell) -> None:
    shell.server.quota.limit = 2
    done = shell.run("sync", "@tests")
    assert done.returncode == 3
    assert "daily quota" in error_line(done)
    shell.server.quota.limit = None
    report, code = shell.report("@tests")
    assert (report["status"], code, shell.server.units) == ("complete", 0, 5)


def test_a_failed_thumbnail_exits_with_3(shell: Shell) -> None:
    rule = Fault("body", path="/vi/video000001/", body=b"GIF89a")
    shell.server.faults = Faults([rule], most_in_a_row=None)
    done = shell.run("sync", "@tests")
    assert done.returncode == 3
    assert "1 thumbnail failed" in done.stderr
    assert "partial" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["@nobody-at-all"], 1, "YouTube has no channel @nobody-at-all; check the spelling"),
        (["tests"], 2, "did you mean @tests?"),
        (["https://www.youtube.com/watch?v=x"], 2, "watch?v=x"),
        (["@tests", "--full", "--refresh"], 2, "--full and --refresh"),
        (["@tests", "--min-duration", "-5"], 2, "--min-duration"),
        (["@tests", "--thumbnail", "huge"], 2, "--thumbnail"),
    ],
)
def test_invalid_names_and_options_are_one_line(shell: Shell, arguments: list[str], code: int, said: str) -> None:
    done = shell.run("sync", *arguments)
    assert done.returncode == code
    assert said in error_line(done)


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("YOUTUBE_API_KEY", "", 2, "YOUTUBE_API_KEY"),
        ("YOUTUBE_API_KEY", "another-key", 1, "is invalid"),
        ("THUMBTUNE_API_URL", "nowhere", 2, "THUMBTUNE_API_URL is 'nowhere'"),
    ],
)
def test_invalid_settings_are_one_line(shell: Shell, name: str, value: str, code: int, said: str) -> None:
    shell.environment[name] = value
    done = shell.run("sync", "@tests")
    assert done.returncode == code
    assert said in error_line(done)


def test_a_server_other_than_youtube_is_an_error(shell: Shell) -> None:
    shell.environment["THUMBTUNE_API_URL"] = shell.server.url
    done = shell.run("sync", "@tests")
    assert done.returncode == 1
    assert "THUMBTUNE_API_URL" in error_line(done)


def test_an_empty_store_has_nothing_to_sync(shell: Shell) -> None:
    done = shell.run("sync")
    assert done.returncode != 0
    assert "thumbtune sync" in error_line(done)
    shell.run("db", "upgrade")
    done = shell.run("sync")
    assert done.returncode == 2
    assert "no channels yet" in error_line(done)


def test_a_failed_channel_does_not_stop_the_other(shell: Shell) -> None:
    done = shell.run("sync", "@tests", "@nobody-at-all", "--json")
    assert done.returncode == 1
    first, second = json.loads(done.stdout)["channels"]
    assert (first["status"], second["status"]) == ("complete", "failed")
    assert "@nobody-at-all" in second["error"]
