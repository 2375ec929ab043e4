"""Four simultaneous processes that sync ten channels into one store, on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from bench.postgres import postgres
from bench.reliability_lab import Row, Shell, channel, contents, ended, problems, read_store, sqlite_url
from thumbtune.standin.server import StandIn

__all__ = ["processes", "sync_at_once"]

CHANNELS = 10
PROCESSES = 4


def sync_at_once(shell: Shell, handles: list[str], *options: str) -> list[str]:
    """Run four syncs of all channels at once, each in a different order; return their errors."""
    step = -(-len(handles) // PROCESSES)
    started = [
        shell.start("sync", *handles[number * step :], *handles[: number * step], *options)
        for number in range(PROCESSES)
    ]
    wrong = []
    for process in started:
        done = ended(process)
        if done.code != 0 or "locked" in done.err:
            wrong.append(f"exit {done.code}: {done.err}")
    return wrong


def processes(folder: Path, *, quick: bool) -> list[Row]:
    """Compare a single sync with simultaneous syncs, with and without `--skip-busy`."""
    count, times = (20, 1) if quick else (100, 2)
    channels = [channel(count, f"{number}-busy") for number in range(CHANNELS)]
    handles = [one.handle for one in channels]
    rows = []
    with StandIn(*channels) as server, postgres() as postgres_url:
        Shell.of(sqlite_url(folder, "alone"), server).run("sync", *handles)
        wanted = read_store(sqlite_url(folder, "alone"), contents)
        for options in ((), ("--skip-busy",)):
            for name in ("SQLite", "PostgreSQL"):
                wrong = []
                for number in range(times):
                    store = sqlite_url(folder, f"at-once-{number}{len(options)}")
                    store = store if name == "SQLite" else _new_database(postgres_url, f"t{number}{len(options)}")
                    wrong += sync_at_once(Shell.of(store, server), handles, *options)
                    wrong += read_store(store, problems)
                    if read_store(store, contents) != wanted:
                        wrong.append("the content differs from that of a single sync")
                rows.append(_row(name, options, count, times, wrong))
    return rows


def _row(name: str, options: tuple[str, ...], count: int, times: int, wrong: list[str]) -> Row:
    return Row(
        f"{PROCESSES} simultaneous processes give the same store as one, on {name}",
        f"'sync {' '.join(('10 channels', *options))}' of {count} videos each, in {PROCESSES} orders",
        times,
        wrong[0] if wrong else "same content, no error, no lock error",
        not wrong,
    )


def _new_database(server: str, name: str) -> str:
    import psycopg  # noqa: PLC0415

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.replace("/postgres?", f"/{name}?", 1)
