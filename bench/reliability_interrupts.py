"""Ctrl-C and SIGTERM at random moments of every command: nothing is lost or left, and the command can be run again.

The commands are forked from a process that has imported the libraries, so that the signals hit the work.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.reliability_lab import Ended, Row, Shell, ended, problems, read_store, sqlite_url, wait_until
from bench.reliability_shared import MODEL, PAIRS
from bench.reliability_train_kills import damaged_artifacts
from tests import forked
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.session import ENCODER
from thumbtune.standin.server import StandIn

__all__ = ["COMMANDS", "SERVICES", "Signals", "Template", "filled_template", "interrupt_command", "interrupts"]

Signals = tuple[signal.Signals, ...]
ONCE: tuple[Signals, ...] = ((signal.SIGINT,), (signal.SIGTERM,))
TWICE: tuple[Signals, ...] = ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT))

COMMANDS: dict[str, tuple[str, ...]] = {
    "channels": ("channels",),
    "config": ("config",),
    "db backup": ("db", "backup", "copy.db"),
    "db backup to a folder": ("db", "backup", "backups/"),
    "db check": ("db", "check"),
    "db clear-cache": ("db", "clear-cache"),
    "db copy": ("db", "copy", "copied.db"),
    "db move-pictures": ("db", "move-pictures", "file://{folder}/pictures"),
    "db upgrade": ("db", "upgrade"),
    "db vacuum": ("db", "vacuum"),
    "encode": ("encode", *MODEL),
    "evaluate": ("evaluate", "--model", "1", "--device", "cpu"),
    "export dataset": ("export", "dataset", "dataset"),
    "export dataset --csv": ("export", "dataset", "dataset", "--csv"),
    "export dataset --parquet": ("export", "dataset", "dataset", "--parquet"),
    "export dataset --webdataset": ("export", "dataset", "dataset", "--webdataset"),
    "export model": ("export", "model", "model", "--run", "1"),
    "import": ("import", "{template}/source"),
    "match": ("match", "{video}", "a red boat", "a blue house", "--model", "1"),
    "retrain": ("retrain", "--no-sync", "--force"),
    "runs": ("runs", "--all"),
    "runs promote": ("runs", "promote", "1"),
    "runs show": ("runs", "show", "1", "--full"),
    "search": ("search", "a red boat", "--model", "1"),
    "sql": ("sql", "SELECT * FROM pairs", "--csv"),
    "sweep": ("sweep", *MODEL, "--title-model", "base", "--trials", "3"),
    "sync": ("sync", "{handle}", "--full"),
    "sync --refresh": ("sync", "{handle}", "--refresh"),
    "train": ("train", *MODEL, "--epochs", "2"),
    "train --train projection": ("train", *MODEL, "--train", "projection", "--title-model", "base", "--epochs", "30"),
    "watch": ("watch", "--listen", "127.0.0.1:0", "--every", "1m"),
    "ui": ("ui", "--listen", "127.0.0.1:0", "--no-browser"),
}
"""The commands, without `push` and `demo`, which do the work of others."""

SERVICES = frozenset({"ui", "watch"})
"""Commands that a signal ends as intended, with exit code 0."""

SERVICE_S = 3.0
"""The time in which services get their signals, in seconds."""


class Template:
    """A store with pairs, a run and cached vectors, to copy for each command.

    Args:
        folder: the folder of the template.
        server: the server of its channel.
    """

    def __init__(self, folder: Path, server: StandIn) -> None:
        self.folder, self.server = folder, server
        self.handle = server.catalogues[0].handle
        self.video = next(iter(server.catalogues[0].videos))

    def start(self, folder: Path, name: str) -> subprocess.Popen[str]:
        """Start a command on the store in a folder."""
        places = {"folder": folder, "template": self.folder, "handle": self.handle, "video": self.video}
        words = (word.format(**places) if word.startswith("{") or "://{" in word else word for word in COMMANDS[name])
        return self.run(folder, *words)

    def run(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        """Start a command with these words."""
        shell = Shell.of(sqlite_url(folder, "store"), self.server)
        own = {"THUMBTUNE_MODELS": str(folder / "models"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        return forked.Popen(
            [*forked.THUMBTUNE, *shell.command(*words)[3:]],
            cwd=folder,
            env={**shell.environment, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def copy(self, folder: Path) -> Path:
        """Copy the store and the models to a new folder."""
        folder.mkdir(parents=True)
        for file in self.folder.glob("store.db*"):
            shutil.copy(file, folder)
        shutil.copytree(self.folder / "models", folder / "models")
        return folder


@contextmanager
def filled_template(folder: Path) -> Iterator[Template]:
    """Sync a drawn channel, train a run, and export a dataset to import."""
    folder.mkdir()
    with StandIn(drawn_channel(PAIRS)) as server:
        template = Template(folder, server)
        fast = ("train", "--model", str(ENCODER), "--device", "cpu", "--train", "projection", "--title-model", "base")
        for words in (("sync", template.handle), (*fast, "--epochs", "2"), ("export", "dataset", "source", "--csv")):
            done = ended(template.run(folder, *words))
            if done.code != 0:
                raise SystemExit(f"{words}: {done.err}")
        yield template


def interrupt_command(
    template: Template, folder: Path, name: str, signals: Signals, *, after_s: float, gap_s: float = 0
) -> list[str]:
    """Send signals to a command, check the remaining files, and run it again; return the violations of the guarantee.

    Args:
        template: what to copy.
        folder: a new folder.
        name: the key in `COMMANDS`.
        signals: the signals to send.
        after_s: seconds from the command's first line until the first signal.
        gap_s: seconds between the signals.
    """
    template.copy(folder)
    process = template.start(folder, name)
    wait_until(lambda: process.poll() is not None or _handles_signals(process.pid))
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        for number, one in enumerate(signals):
            if number:
                time.sleep(gap_s)
            process.send_signal(one)
    done = ended(process, timeout_s=120)
    where = f"{name}, {'+'.join(one.name for one in signals)} after {after_s:.2f} s"
    wrong = [f"{where}: exit {done.code}, {done.err[-600:]}"] if not _is_right(name, done) else []
    url = sqlite_url(folder, "store")
    wrong += [f"{where}: {problem}" for problem in read_store(url, problems) + read_store(url, damaged_artifacts)]
    if done.code != 0:
        wrong += [f"{where}: {left} was left" for left in _partials(folder)]
        if name not in SERVICES:
            again = ended(template.start(folder, name))
            if again.code != 0:
                wrong.append(f"{where}: run again, exit {again.code}, {again.err[-600:]}")
    shutil.rmtree(folder)
    return wrong


def _handles_signals(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM: whether it has reached thumbtune's first line."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> signal.SIGTERM - 1 & 1)


def _is_right(name: str, done: Ended) -> bool:
    """Whether a command ended as documented: with 0 if it was already done, otherwise with 3 and one line."""
    if "Traceback" in done.err:
        return False
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    if done.code == 0:
        return name in SERVICES or not errors
    return done.code == 3 and len(errors) == 1


def _partials(folder: Path) -> list[str]:
    """Files and folders with names of unfinished files."""
    names = [path.name for path in folder.rglob("*")]
    partial = (name for name in names if name.endswith((".partial", ".new")) or name.startswith(".thumbtune-"))
    return [name for name in partial if name != ".thumbtune-export"]


def duration_s(template: Template, folder: Path, name: str) -> float:
    """Run a command undisturbed; return its duration in seconds."""
    template.copy(folder)
    began = time.monotonic()
    process = template.start(folder, name)
    if name in SERVICES:
        time.sleep(SERVICE_S)
        process.terminate()
    done = ended(process)
    if done.code != 0:
        raise SystemExit(f"{name}: exit {done.code}, {done.err}")
    shutil.rmtree(folder)
    return time.monotonic() - began


def interrupts(folder: Path, *, quick: bool) -> list[Row]:
    """Interrupt each command at random moments (seeded) spread over its duration, also with two signals."""
    if not Path("/proc/self/status").exists():
        return [Row("a signal at any moment of any command loses nothing", "nothing: no /proc", 0, "not run", None)]
    kinds, dice, wrong = (ONCE if quick else (*ONCE, *TWICE) * 3), random.Random(os.environ.get("SEED", "0")), []
    with filled_template(folder / "template") as template:
        for name in COMMANDS:
            whole_s = duration_s(template, folder / "undisturbed", name)
            for number, kind in enumerate(kinds):
                after_s = (number + dice.random()) / len(kinds) * whole_s
                wrong += interrupt_command(
                    template, folder / "trial", name, kind, after_s=after_s, gap_s=dice.random() * 0.1
                )
    return [
        Row(
            "a signal at any moment of any command loses and leaves nothing, and the command can be run again",
            f"{len(COMMANDS)} commands, each with {len(kinds)} times one or two signals at random moments",
            len(COMMANDS) * len(kinds),
            wrong[0] if wrong else "exit 3 and one line, or done; sound; the next run completes",
            not wrong,
        )
    ]
