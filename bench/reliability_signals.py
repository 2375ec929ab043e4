"""Ctrl-C and SIGTERM while SQLite works on one long statement, and while a process starts or ends."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench.reliability_lab import Row, ended, sqlite_url, wait_until
from store.db import open_database

__all__ = ["MOMENTS", "SIGNALS", "WORK", "fill", "interrupt_at", "interrupt_work", "signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 5000"
MOMENTS = ("click", "store.db", "exec", "exit")
"""When `interrupt_at` sends the signal: when a module is imported, there in an `exec`, or when the interpreter ends."""
AT_A_MOMENT = """
import atexit, runpy, signal, sys
number, moment = int(sys.argv.pop(1)), sys.argv.pop(1)
class Finder:
    def find_spec(name, *_):
        if name == moment:
            signal.raise_signal(number)
        if (name, moment) == ("store.db", "exec"):
            exec("signal.raise_signal(number)")
sys.meta_path.insert(0, Finder)
if moment == "exit":
    atexit.register(signal.raise_signal, number)
runpy.run_module("thumbtune", run_name="__main__", alter_sys=True)
"""


def fill(file: Path, megabytes: int) -> str:
    """Create a store with thumbnails of 1 MiB, whose content does not matter here; return its URL."""
    url = sqlite_url(file.parent, file.stem)
    open_database(url).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?) "
            "INSERT INTO picture (sha256, bytes, mime, width, height, byte_count, fetched_at) "
            "SELECT printf('%064x', x), randomblob(1 << 20), 'image/png', 1, 1, 1 << 20, '2024-01-01' FROM n",
            (megabytes,),
        )
    return url


def _said(text: str) -> Callable[[subprocess.Popen[str]], object]:
    def wait(process: subprocess.Popen[str]) -> object:
        assert process.stdout is not None
        return next((line for line in process.stdout if line.startswith(text)), None)

    return wait


WORK: dict[str, tuple[tuple[str, ...], Callable[[subprocess.Popen[str]], object]]] = {
    "sql": (("sql", "--csv", ENDLESS), _said("1000")),
    "db check": (("db", "check"), _said("revision")),
    "db backup": (
        ("db", "backup", "copy.db"),
        lambda process: wait_until(lambda: _partial(Path(f"/proc/{process.pid}/cwd")) or process.poll() is not None),
    ),
}
"""Commands, and functions that wait until the command is at work."""


def _partial(folder: Path) -> bool:
    return any(folder.glob(".copy.db.*"))


def interrupt_work(url: str, folder: Path, name: str, number: signal.Signals) -> list[str]:
    """Send a signal to a command at work; return the violations of the guarantee."""
    arguments, is_at_work = WORK[name]
    process = subprocess.Popen(
        [sys.executable, "-m", "thumbtune", "--db", url, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    is_at_work(process)
    process.send_signal(number)
    wrong = _wrong(name, number, process)
    return [*wrong, *(f"{name}, {number.name}: {left.name} was left" for left in folder.glob("*copy.db*"))]


def interrupt_at(moment: str, number: signal.Signals, folder: Path) -> list[str]:
    """Send a signal to a command at one of `MOMENTS`; return the violations of the guarantee."""
    (folder / "at_a_moment.py").write_text(AT_A_MOMENT)
    process = subprocess.Popen(
        [sys.executable, "-m", "at_a_moment", str(int(number)), moment, "channels"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return _wrong(moment, number, process, done=moment == "exit")


def _wrong(what: str, number: signal.Signals, process: subprocess.Popen[str], *, done: bool = False) -> list[str]:
    """Return what is wrong with the end of an interrupted command, or of a `done` command with another error."""
    ending = ended(process, timeout_s=60)
    last = (ending.err.splitlines() or [""])[-1]
    code, said = (1, "error: there is no store") if done else (3, "error: interrupted")
    if ending.code == code and "Traceback" not in ending.err and last.startswith(said):
        return []
    return [f"{what}, {number.name}: exit {ending.code}, {ending.err}"]


def signals(folder: Path, *, quick: bool) -> list[Row]:
    """Interrupt commands on a large SQLite store, and commands that start and end."""
    megabytes = 128 if quick else 2048
    url = fill(folder / "large.db", megabytes)
    wrong = [
        problem
        for name, number in itertools.product(WORK, SIGNALS)
        for problem in interrupt_work(url, folder, name, number)
    ]
    at_the_edges = [
        problem
        for moment, number in itertools.product(MOMENTS, SIGNALS)
        for problem in interrupt_at(moment, number, folder)
    ]
    return [
        Row(
            "Ctrl-C and SIGTERM end a command during one long statement of SQLite, and nothing is left",
            f"'sql' with an endless query, 'db check' and 'db backup' on a store of {megabytes} MB",
            len(WORK) * len(SIGNALS),
            wrong[0] if wrong else "exit 3, one line, no partial copy",
            not wrong,
        ),
        Row(
            "Ctrl-C and SIGTERM while a command starts or ends show no traceback",
            "a signal when modules are imported, and when the interpreter ends",
            len(MOMENTS) * len(SIGNALS),
            at_the_edges[0] if at_the_edges else "exit 3, one line; after the work the command's own exit code",
            not at_the_edges,
        ),
    ]
