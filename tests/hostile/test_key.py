"""The API key is only in its header, not in logs, errors, the store, JSON output or process arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.db import Database, open_database
from tests import forked
from tests.collector.channels import channel, sync, sync_runs
from tests.collector.test_faults import API, refusal
from tests.standin import Fault, Faults, StandIn

KEY = "AIzaSyHOSTILEhostileHOSTILEhostile01234"
QUOTING = f"Requests from consumer 'api_key:{KEY}' are blocked, see ?key={KEY}."

FAULTS = {
    "bad key": refusal(400, "keyInvalid", QUOTING),
    "quota": refusal(403, "quotaExceeded", QUOTING),
    "too fast": refusal(429, "rateLimitExceeded", QUOTING),
    "forbidden": refusal(403, "forbidden", QUOTING),
    "server error": refusal(500, "backendError", QUOTING),
    "not the API": Fault("body", path=API, status=404, body=QUOTING.encode(), content_type="text/html"),
    "200, the key for an answer": Fault("body", path=API, body=f'"{KEY}"'.encode(), content_type="application/json"),
    "redirect": Fault("redirect", path=API, location=f"http://127.0.0.1:9/?key={KEY}"),
    "reset": Fault("reset", path=API),
}


class Watched:
    """Runs the command, and records the arguments of its processes, which every user can read."""

    def __init__(self, folder: Path, server: StandIn) -> None:
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.environment = {**os.environ, **server.environment(KEY)}
        self.arguments: set[bytes] = set()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output of both streams."""
        done = forked.run(
            [*forked.THUMBTUNE, "--db", self.url, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def run_watched(self, *arguments: str) -> tuple[int, str]:
        """Like `run`, and record the arguments of each process. Starts Python, because a fork has no own arguments."""
        with subprocess.Popen(
            [sys.executable, "-m", "thumbtune", "--db", self.url, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            said = ""
            assert process.stdout is not None
            for line in process.stdout:
                self.arguments.update(_arguments(process.pid))
                said += line
            return process.wait(), said


def _arguments(pid: int) -> Iterator[bytes]:
    """The command lines of a process and its children, where the system shows them."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = process.joinpath("stat").read_text().rpartition(") ")[2].split()[1]
            if str(pid) in (process.name, parent):
                yield process.joinpath("cmdline").read_bytes()
        except OSError:
            continue  # it has just ended


@pytest.mark.processes
def test_the_key_is_sent_only_in_its_header(tmp_path: Path) -> None:
    with StandIn(channel(60), keys=[KEY]) as server:
        shell = Watched(tmp_path, server)
        code, text = shell.run_watched("-vv", "sync", "@tests", "--json")
        assert code == 0, text
        said = [text]
        said.append(shell.run("-vv", "sync", "@tests")[1])
        for name, fault in FAULTS.items():
            server.faults = Faults([fault], most_in_a_row=None)
            form = ("--log-format", "json") if name == "quota" else ()
            code, text = shell.run("-vv", "--debug", *form, "sync", "@tests", "--refresh", "--json")
            assert code == (3 if name == "quota" else 1), (name, text)
            assert KEY not in text, name
            said.append(text)
        # The channel is not in the store, so its first request fails.
        server.faults = Faults([FAULTS["server error"]], most_in_a_row=None)
        said.append(shell.run("-vv", "sync", "@another")[1])
        # Held open, so that the write-ahead log exists and can be read.
        database = open_database(shell.url)
        with database.read():
            said.append(shell.run("sql", "SELECT * FROM sync_history", "--json")[1])
            stored = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        database.close()
        sent = {request.endpoint for request in server.journal.requests() if KEY in str(request.headers)}
        assert server.journal.count("picture")
        assert server.journal.count("feed")
        asked = "".join(request.path + json.dumps(dict(request.query)) for request in server.journal.requests())
    assert sent == {"channels", "playlistItems", "videos"}, "only the API gets the key"
    assert KEY not in asked
    assert KEY not in "".join(said)
    assert "store.db" in stored
    assert [file for file, data in stored.items() if KEY.encode() in data] == []
    if Path("/proc/self/cmdline").exists():
        assert any(b"thumbtune" in arguments for arguments in shell.arguments)
        assert not any(KEY.encode() in arguments for arguments in shell.arguments)


async def test_a_truncated_message_contains_no_part_of_the_key(sqlite_database: Database) -> None:
    """For each length from 230 to 500 characters, one of these messages would be cut within the key."""
    async with StandIn(channel(1)) as server:
        for before in range(230, 500, len(KEY) // 2):
            message = "x" * before + KEY
            server.faults = Faults([refusal(403, "forbidden", message)], most_in_a_row=None)
            report = await sync(sqlite_database, server, key=KEY)
            assert "x" * 200 in str(report.error)
            assert KEY[:4] not in str(report.error)
    assert KEY[:4] not in "".join(str(run.error) for run in sync_runs(sqlite_database))
