"""Signals in real processes: during a long statement, at the start, at the end, and in a stuck call."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.reliability_signals import ENDLESS, MOMENTS, SIGNALS, WORK, fill, interrupt_at, interrupt_work

pytestmark = pytest.mark.processes

STUCK_THREAD = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import thumbtune.interrupts as interrupts
from thumbtune.stopping import run_until_stopped
async def work(stop):
    ThreadPoolExecutor(1).submit(threading.Event().wait)
    print("ready", flush=True)
    await stop.wait()
interrupts.install()
run_until_stopped(work, patience_s=float(sys.argv[1]))
interrupts.exit_at_once(7)
print("stopped", flush=True)
"""
STUCK_CALL = f"""
import os, sqlite3, threading, time
import thumbtune.interrupts as interrupts
interrupts.STUCK_S = 0.1
interrupts.install()
clock = time.pthread_getcpuclockid(threading.main_thread().ident)
def tell(until):
    while time.clock_gettime(clock) < until:  # it is in the call for sure
        os.sched_yield()
    print("ready", flush=True)
threading.Thread(target=tell, args=(time.clock_gettime(clock) + 0.1,), daemon=True).start()
sqlite3.connect(":memory:").execute("{ENDLESS.replace("5000", "0")}").fetchall()
"""


IGNORED = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored if the tests run under nohup
import thumbtune.interrupts as interrupts
class Held:
    def __del__(self):
        print("ready", flush=True)
        while not interrupts.was_received():
            pass
interrupts.install()
held = Held()
try:
    del held
    while True:
        pass
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


FAILING = """
import time
import thumbtune.interrupts as interrupts
class Held:
    def __del__(self):
        raise ValueError("what it needs is closed")
interrupts.install()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    Held()
    print("stopped", flush=True)
"""


SLOW_LOOKUP = """
import socket, sys, threading
def look_up(*_arguments, **_options):
    print("ready", flush=True)
    threading.Event().wait()
socket.getaddrinfo = look_up
from thumbtune.cli import main
main()
"""


def started(program: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fill(tmp_path_factory.mktemp("large") / "large.db", 128)


@pytest.mark.parametrize("name", WORK)
def test_a_signal_ends_a_long_sqlite_statement(large: str, tmp_path: Path, name: str) -> None:
    number = SIGNALS[list(WORK).index(name) % 2]
    assert interrupt_work(large, tmp_path, name, number) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_long_postgres_statement(
    migrated_postgres_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    assert interrupt_work(migrated_postgres_url, tmp_path, "sql", number) == []


@pytest.mark.parametrize(("moment", "number"), list(zip(MOMENTS, SIGNALS * 2, strict=True)))
def test_a_signal_while_a_command_starts_or_ends_shows_no_traceback(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    assert interrupt_at(moment, number, tmp_path) == []


def test_a_hanging_thread_does_not_prevent_the_exit_of_a_service() -> None:
    process = started(STUCK_THREAD, "0.2")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "stopped\n"), err


def test_a_second_signal_after_the_work_exits_at_once_with_the_commands_code() -> None:
    process = started(STUCK_THREAD, "600")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopped\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (7, "")


def test_a_signal_ends_a_call_that_does_not_return_to_python() -> None:
    process = started(STUCK_CALL)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, len(err.splitlines())) == (3, 1), err


def test_a_destructor_that_fails_after_a_signal_prints_no_traceback() -> None:
    process = started(FAILING)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("stopped\n", "")


@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGHUP])
def test_a_signal_in_a_destructor_is_not_lost(number: signal.Signals) -> None:
    process = started(IGNORED)
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("stopped\n", "")


@pytest.mark.parametrize(
    ("command", "number"), [("sync", signal.SIGINT), ("channels add", signal.SIGTERM), ("import", signal.SIGHUP)]
)
def test_a_signal_ends_a_command_that_looks_up_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, number: signal.Signals
) -> None:
    monkeypatch.setenv("YOUTUBE_API_KEY", "a-key")
    monkeypatch.setenv("THUMBTUNE_API_URL", "http://api.invalid")
    rows = tmp_path / "rows.csv"
    rows.write_text("title,thumbnail_url\nA title,https://i.ytimg.com/vi/aaaaaaaaaaa/hqdefault.jpg\n")
    named = str(rows) if command == "import" else "UC" + "a" * 22
    process = started(SLOW_LOOKUP, "--db", str(tmp_path / "store.db"), *command.split(), named)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("interrupted")) == (3, 1), err
