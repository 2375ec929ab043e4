"""The page after the demo and in the service's process, and the lines that it prints."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from store.db import Database
from tests.thumbtune.ui.serving import fetch, page_process

pytestmark = pytest.mark.processes


def test_a_signal_stops_the_server_cleanly(filled: Database) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with page_process(str(filled.url)) as (address, pid):
            assert fetch(address, "/healthz")[:2] == (200, "ok\n")
            os.kill(pid, number)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_an_address_in_use_is_an_error(filled: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [
            sys.executable,
            "-m",
            "thumbtune",
            "ui",
            "--no-browser",
            "--listen",
            f"127.0.0.1:{taken.getsockname()[1]}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "--listen" in done.stderr


def test_watch_serves_the_page_and_its_own_endpoints(filled: Database, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    environment = {**os.environ, "THUMBTUNE_DB": str(filled.url), "YOUTUBE_API_KEY": "x" * 39,
                   "THUMBTUNE_API_URL": "http://127.0.0.1:1", "THUMBTUNE_FEED_URL": "http://127.0.0.1:1"}  # fmt: skip
    command = [sys.executable, "-m", "thumbtune", "watch", "--ui", "--listen", "127.0.0.1:0"]
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 8460))
        except OSError:
            pytest.skip("port 8460 is taken on this machine")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
        try:
            assert process.stderr is not None
            found: list[str] = []
            for line in process.stderr:
                found += re.findall(r"http://([\d.]+:\d+)", line)
                if "answering on" in line:
                    break
            assert fetch("127.0.0.1:8460", "/")[0] == 200
            assert any(fetch(address, "/healthz")[1] == "ok\n" for address in found if not address.endswith(":8460"))
        finally:
            process.terminate()
            process.communicate(timeout=30)
