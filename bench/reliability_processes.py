"""Four processes that sync ten channels into one store at once, on SQLite and on PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.reliability_lab import Row, Shell, channel, contents, ended, problems, read_store, sqlite_url
from thumbtune.standin.server import StandIn

__all__ = ["processes", "sync_at_once"]

CHANNELS = 10
PROCESSES = 4


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of this process's own."""
    import pgserver  # noqa: PLC0415 (only where PostgreSQL is asked for)

    # Not below our own folder, which is closed to other users: root's server runs as one.
    with tempfile.TemporaryDirectory(prefix="thumbtune-postgres-") as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def sync_at_once(shell: Shell, handles: list[str], *options: str) -> list[str]:
    """Start four syncs of all channels, each in another order, and wait for them; what went wrong."""
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
    """Sync one after another, then at once with and without `--skip-busy`, and compare."""
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
                        wrong.append("another content than one after another")
                rows.append(_row(name, options, count, times, wrong))
    return rows


def _row(name: str, options: tuple[str, ...], count: int, times: int, wrong: list[str]) -> Row:
    return Row(
        f"{PROCESSES} processes at once leave what one leaves, on {name}",
        f"'sync {' '.join(('10 channels', *options))}' of {count} videos each, in {PROCESSES} orders",
        times,
        wrong[0] if wrong else "same content, no error, nothing locked",
        not wrong,
    )


def _new_database(server: str, name: str) -> str:
    import psycopg  # noqa: PLC0415

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.replace("/postgres?", f"/{name}?", 1)
