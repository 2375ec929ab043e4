"""A clock that is put forward, a power cut after a commit, permissions of files, and half-open connections."""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path

from bench.reliability_lab import Row, Shell, ended, error_line, read_store, sqlite_url, wait_until
from bench.reliability_shared import MODEL, filled, start
from bench.reliability_train_kills import run_statuses
from thumbtune.demo.channel import drawn_channel
from thumbtune.standin.server import StandIn

__all__ = ["clock", "half_open", "permissions", "synced"]

PAIRS = 60
UMASKS = (0o022, 0o027, 0o077)
FILES, CONNECTIONS = 1024, 1100
LOG_BYTES = 100_000
OPENINGS = (
    b"",
    b"GET /healthz HTTP/1.1\r\n",
    b"GET /healthz HTTP/1.1\r\nX: ",
    b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
)
"""What the half-open connections send: nothing, no end of the head, half a header, no body."""
TRAIN = ("train", *MODEL, "--train", "projection", "--title-model", "base", "--epochs")
NO_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Without these capabilities, permissions also apply to root; see capabilities(7)."""

# sys.argv: the store's file, a file for notes, the command. Each line of the notes has the path that was synced and the
# newest run's status in the store at that time.
NOTE_SYNCS = """
import json, os, runpy, sqlite3, sys
store, notes, sync = sys.argv.pop(1), open(sys.argv.pop(1), "a"), os.fsync
def noted(handle):
    sync(handle)
    path = os.readlink(f"/proc/self/fd/{handle if isinstance(handle, int) else handle.fileno()}")
    reader = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    status = reader.execute("SELECT status FROM training_run ORDER BY id DESC").fetchone()[0]
    reader.close()
    print(json.dumps([path, status]), file=notes, flush=True)
os.fsync = noted
runpy.run_module("thumbtune", run_name="__main__", alter_sys=True)
"""


def clock(folder: Path, *, quick: bool) -> list[Row]:
    """Simulate a clock that is put forward during a run: all times that it has written become older."""
    days, wrong = (9,) if quick else (0.1, 9, 4000), list[str]()
    with StandIn(drawn_channel(PAIRS)) as server:
        url = sqlite_url(folder, "store")
        shell = filled(Shell.of(url, server), server.catalogues[0].handle, folder / "work")
        for ahead in days:
            process = start(shell, folder / "work", (*TRAIN, "2000"))
            wait_until(lambda: process.poll() is not None or read_store(url, run_statuses)[-1] == "running")  # noqa: B023
            with closing(sqlite3.connect(folder / "store.db", timeout=60)) as connection, connection:
                for column in ("started_at", "seen_at"):
                    older = f"strftime('%Y-%m-%d %H:%M:%f000', {column}, '-{ahead} days')"
                    connection.execute(f"UPDATE training_run SET {column} = {older} WHERE status = 'running'")
            second = ended(start(shell, folder / "work", ("retrain", "--no-sync", "--force")))
            status = read_store(url, run_statuses)[-1]
            if second.code == 0 or "is training on this store" not in second.err or status != "running":
                wrong.append(f"{ahead} days: exit {second.code}, {second.err[-300:]}, and the run is {status}")
            process.terminate()
            first = ended(process)
            if first.code != 3 or read_store(url, run_statuses)[-1] != "interrupted":
                wrong.append(f"{ahead} days: the run ended with {first.code}, {first.err[-300:]}")
    return [
        Row(
            "a clock that is put forward interrupts no run, and no second retraining starts",
            f"what 'train' wrote is {', '.join(map(str, days))} days older; then 'retrain'",
            len(days),
            wrong[0] if wrong else "refused; the run goes on",
            not wrong,
        )
    ]


def synced(folder: Path, *, quick: bool) -> list[Row]:  # noqa: ARG001 (the same work)
    """Record which files are synced to the disk before the run's status is `done`."""
    promise = "a run is done only after its tensors and their folder are on the disk"
    if not Path("/proc/self/fd").exists():
        return [Row(promise, "nothing: no /proc", 0, "not run", None)]
    with StandIn(drawn_channel(PAIRS)) as server:
        shell = filled(Shell.of(sqlite_url(folder, "store"), server), server.catalogues[0].handle, folder / "work")
    notes, models = folder / "notes", folder / "work" / "models"
    command = [sys.executable, "-c", NOTE_SYNCS, str(folder / "store.db"), str(notes), *shell.command(*TRAIN, "2")[3:]]
    environment = {**shell.environment, "THUMBTUNE_MODELS": str(models), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seen = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    files = [number for number, (path, _) in enumerate(seen) if models in Path(path).parents]
    folders = [number for number, (path, _) in enumerate(seen) if Path(path) == models]
    kept = done.returncode == 0 and bool(files) and bool(folders) and files[0] < folders[-1]
    kept = (
        kept and all(status == "running" for _, status in seen) and read_store(shell.store, run_statuses)[-1] == "done"
    )
    result = "file, folder, then 'done'" if kept else f"exit {done.returncode}, {done.stderr[-300:]}, {seen}"
    return [Row(promise, "'train', and the store's content at each fsync", 1, result, kept)]


def permissions(folder: Path, *, quick: bool) -> list[Row]:  # noqa: ARG001 (the same work)
    """Train and back up with several umasks, and use unreadable tensors."""
    wrong = []
    folder.chmod(0o755)
    with StandIn(drawn_channel(PAIRS)) as server:
        for umask in UMASKS:
            own = folder / f"{umask:03o}"
            before = os.umask(umask)
            try:
                own.mkdir()
                shell = Shell.of(sqlite_url(own, "store"), server)
                filled(shell, server.catalogues[0].handle, own / "work")
                (own / "store.db").chmod(0o640)
                os.umask(0)
                backed_up = ended(start(shell, own / "work", ("db", "backup", str(own / "copy.db"))))
            finally:
                os.umask(before)
            (tensors,) = (own / "work" / "models").glob("*.safetensors")
            if tensors.stat().st_mode & 0o777 != 0o666 & ~umask:
                wrong.append(f"umask {umask:03o}: {tensors.name} has {tensors.stat().st_mode:o}")
            if backed_up.code != 0 or (own / "copy.db").stat().st_mode & 0o777 & ~0o640:
                wrong.append(f"umask 0: the backup has {(own / 'copy.db').stat().st_mode:o}; {backed_up.err}")
        wrong += _unreadable(shell, own / "work", tensors)
    return [
        Row(
            "tensors follow the umask, a backup is no wider than its store, unreadable tensors are one clear error",
            f"umasks {', '.join(f'{umask:03o}' for umask in UMASKS)}; tensors with the mode 000",
            len(UMASKS) + 1,
            wrong[0] if wrong else "modes as promised; exit 1, one line",
            not wrong,
        )
    ]


def _unreadable(shell: Shell, work: Path, tensors: Path) -> list[str]:
    tensors.chmod(0)
    prefix = NO_OVERRIDE if os.geteuid() == 0 and shutil.which(NO_OVERRIDE[0]) else ()
    command = [*prefix, *shell.command("search", "red", "--model", "1")]
    environment = {**shell.environment, "THUMBTUNE_MODELS": str(work / "models"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.Popen(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    found = ended(done)
    if found.code == 1 and "permission" in error_line(found).lower():
        return []
    return [f"unreadable tensors: exit {found.code}, {found.out[-100:]}{found.err[-300:]}"]


def half_open(folder: Path, *, quick: bool) -> list[Row]:
    """Open more half-open connections than the file limit of `watch`, and meanwhile sync and request its health."""
    seconds = 5.0 if quick else 60.0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    log, wrong, answers = folder / "log", list[str](), 0
    with StandIn(drawn_channel(PAIRS)) as server, ExitStack() as stack:
        shell = Shell.of(sqlite_url(folder, "store"), server)
        shell.run("channels", "add", server.catalogues[0].handle)
        command = [*shell.command("watch", "--listen", "127.0.0.1:0", "--every", "1m", server.catalogues[0].handle)]
        command.remove("-q")
        with log.open("w") as said:
            process = subprocess.Popen(
                command,
                env=dict(shell.environment),
                stdout=said,
                stderr=said,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),  # noqa: PLW1509
            )
        _raise_own_limit(hard)
        address = re.compile(r"http://127\.0\.0\.1:(\d+)")
        wait_until(lambda: process.poll() is not None or address.search(log.read_text()) is not None)
        found = address.search(log.read_text())
        if found is None:
            return [_half_open_row(seconds, 0, [f"watch: {log.read_text()[-300:]}"])]
        port, until = int(found[1]), time.monotonic() + seconds
        while time.monotonic() < until:
            for _, opening in zip(range(CONNECTIONS), itertools.cycle(OPENINGS)):
                try:
                    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                    connection.sendall(opening)
                except OSError:
                    break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                    answers += answer.status == 200
            except OSError as error:
                wrong.append(f"/healthz: {error}")
            stack.pop_all().close()
        process.terminate()
        if (code := process.wait(60)) != 0:
            wrong.append(f"watch: exit {code}, {log.read_text()[-300:]}")
    if "Traceback" in log.read_text() or log.stat().st_size > LOG_BYTES:
        wrong.append(f"the log has {log.stat().st_size:,} bytes: {log.read_text()[-300:]}")
    return [_half_open_row(seconds, answers, wrong)]


def _raise_own_limit(hard: int) -> None:
    """Allow this process, which holds the connections, more files than the service."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * CONNECTIONS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _half_open_row(seconds: float, answers: int, wrong: list[str]) -> Row:
    return Row(
        "half-open connections take no one's place",
        f"{CONNECTIONS:,} connections to 'watch' with {FILES:,} files, again for {seconds:g} s",
        answers,
        wrong[0] if wrong else "/healthz answered each time; exit 0, a short log",
        not wrong,
    )
