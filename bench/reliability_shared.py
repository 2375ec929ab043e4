"""Several people on one store at once, and a PostgreSQL server that restarts repeatedly during training."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import func, select, text

from bench.reliability_lab import Row, Shell, ended, problems, read_store, sqlite_url, wait_until
from bench.reliability_train_kills import damaged_artifacts, run_statuses
from store.db import Database, open_database
from store.tables import Promotion
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.session import ENCODER
from thumbtune.standin.server import StandIn

__all__ = ["COMMANDS", "MODEL", "ON_SQLITE", "away", "filled", "shared", "start", "use_at_once"]

PAIRS = 60
MODEL = ("--model", str(ENCODER), "--device", "cpu")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("train", *MODEL),
    ("train", *MODEL, "--train", "projection", "--title-model", "base"),
    ("retrain", "--no-sync", "--force"),
    ("sweep", *MODEL, "--title-model", "base", "--trials", "4"),
    ("runs", "promote", "1"),
    ("sync", "@inkwellharbour", "--full", "--skip-busy"),
    ("search", "red", "--model", str(ENCODER)),
    ("export", "dataset", "dataset-{number}"),
    ("runs", "--all"),
    ("db", "check"),
)
ON_SQLITE: tuple[tuple[str, ...], ...] = (("db", "backup", "copy-{number}.db"), ("db", "vacuum"))
WATCH = ("watch", "--listen", "127.0.0.1:0", "--every", "1m")
REFUSALS = re.compile(r"is training on this store|another process is using the store|is in use already")
"""Of what commands refuse while others work."""
AWAY_S = 3.0


def use_at_once(shell: Shell, folder: Path, commands: tuple[tuple[str, ...], ...]) -> list[str]:
    """Run commands concurrently in a folder, together with `watch`; return the violations of the guarantee."""
    watch = start(shell, folder, WATCH)
    started = [
        (words[:2], start(shell, folder, tuple(word.format(number=number) for word in words)))
        for number, words in enumerate(commands)
    ]
    wrong = []
    for words, process in started:
        done = ended(process)
        refused = done.code in (1, 3) and REFUSALS.search(done.err)
        if "Traceback" in done.err or "locked" in done.err or (done.code != 0 and not refused):
            wrong.append(f"{' '.join(words)}: exit {done.code}, {done.err[-500:]}")
    watch.terminate()
    done = ended(watch)
    if done.code != 0 or "Traceback" in done.err:
        wrong.append(f"watch: exit {done.code}, {done.err[-500:]}")
    wrong += read_store(shell.store, problems) + read_store(shell.store, damaged_artifacts)
    left = [status for status in read_store(shell.store, run_statuses) if status not in ("done", "trial")]
    return [*wrong, *(f"a run is {status}" for status in left)]


def start(shell: Shell, folder: Path, words: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start a command in a folder, whose models are below it."""
    # Output goes to files: a pipe that nobody reads would stop a command.
    return subprocess.Popen(
        shell.command(*words),
        cwd=folder,
        env={**shell.environment, "THUMBTUNE_MODELS": str(folder / "models"), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def shared(folder: Path, *, quick: bool) -> list[Row]:
    """Let several people work on one store of each kind."""
    rounds = 1 if quick else 4
    rows = []
    with StandIn(drawn_channel(PAIRS)) as server, _postgres() as (postgres, _):
        for name, url in (("SQLite", sqlite_url(folder, "shared")), ("PostgreSQL", postgres)):
            commands = (*COMMANDS, *ON_SQLITE) if name == "SQLite" else COMMANDS
            shell = filled(Shell.of(url, server), server.catalogues[0].handle, folder / name)
            started, wrong = time.monotonic(), list[str]()
            for number in range(rounds):
                (folder / name / str(number)).mkdir()
                wrong += use_at_once(shell, folder / name / str(number), commands)
            seconds = time.monotonic() - started
            rows.append(
                Row(
                    f"several people can work on one store at once, on {name}",
                    f"{len(commands)} commands and 'watch', for {seconds:.0f} s",
                    rounds,
                    wrong[0] if wrong else f"{_promotions(url)} promotions; sound, every run done, every model whole",
                    not wrong,
                )
            )
    return rows


def filled(shell: Shell, handle: str, folder: Path) -> Shell:
    """Sync the channel, and train a first run, which is promoted and retrained."""
    folder.mkdir()
    for words in (("sync", handle), COMMANDS[0]):
        done = ended(start(shell, folder, words))
        if done.code != 0:
            raise SystemExit(f"{words}: {done.err}")
    return shell


def _promotions(url: str) -> int:
    def count(database: Database) -> int:
        with database.read() as session:
            return session.scalar(select(func.count()).select_from(Promotion)) or 0

    return read_store(url, count)


@contextmanager
def _postgres() -> Iterator[tuple[str, Callable[[], None]]]:
    """Start a PostgreSQL server; yield its URL, and a function that stops it for `AWAY_S`."""
    import pgserver  # noqa: PLC0415 (only needed for PostgreSQL)

    with tempfile.TemporaryDirectory(prefix="thumbtune-postgres-") as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")

        def go_away() -> None:
            pgserver.pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=server.pgdata, user=server.system_user)
            time.sleep(AWAY_S)
            server.ensure_postgres_running()

        try:
            yield server.get_uri(), go_away
        finally:
            server.cleanup()


def away(folder: Path, *, quick: bool) -> list[Row]:
    """Stop a PostgreSQL server while a run, and a sweep, train on it."""
    work: dict[str, tuple[tuple[str, ...], str]] = {
        "train": (
            (*COMMANDS[1], "--epochs", "200"),
            "SELECT 1 FROM training_run WHERE status = 'running' AND parameters_total IS NOT NULL",
        ),
        "sweep": (
            ("sweep", *MODEL, "--title-model", "base", "--trials", "60"),
            "SELECT 1 FROM training_run WHERE trial IS NOT NULL",
        ),
    }
    times, wrong = 1 if quick else 5, []
    with StandIn(drawn_channel(PAIRS)) as server, _postgres() as (url, go_away):
        shell = filled(Shell.of(url, server), server.catalogues[0].handle, folder / "filled")
        for name, (words, is_at_work) in [*work.items()] * times:
            before = read_store(url, partial(_rows, is_at_work))
            process = start(shell, folder, words)
            with open_database(url) as database:
                wait_until(lambda: process.poll() is not None or _rows(is_at_work, database) > before)  # noqa: B023
            if process.poll() is not None:
                wrong.append(f"{name} had ended before the server went away")
            go_away()
            done = ended(process)
            if done.code != 0 or "Traceback" in done.err:
                wrong.append(f"{name}: exit {done.code}, {done.err[-500:]}")
        wrong += read_store(url, problems)
    return [
        Row(
            "a training run and a sweep wait for a PostgreSQL server that is away",
            f"the server is killed during 'train' and 'sweep', and started {AWAY_S:.0f} s later",
            2 * times,
            wrong[0] if wrong else "all done",
            not wrong,
        )
    ]


def _rows(query: str, database: Database) -> int:
    with database.read() as session:
        return len(session.execute(text(query)).all())
