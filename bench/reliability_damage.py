"""Damaged, newer, read-only and locked stores: each gives a specific error, and the file does not change."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench.reliability_lab import Ended, Row, Shell, channel, ended, error_line, problems, read_store, sqlite_url
from store.errors import NotAStore
from thumbtune.standin.server import StandIn

__all__ = ["DAMAGES", "UNPRIVILEGED", "damaged", "unreadable_pages"]

PAGE = 4096

DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a damaged header": (lambda whole: b"\xff" * 100 + whole[100:], "is not a SQLite database; name another file"),
    "a damaged schema": (lambda whole: whole[:100] + b"\xff" * (PAGE - 100) + whole[PAGE:], "is damaged; restore it"),
    "damaged pages": (lambda whole: _blot(whole, len(whole) // 3, len(whole) // 3), "is damaged; restore it"),
    "cut to half its length": (lambda whole: whole[: len(whole) // 2], "is damaged; restore it"),
    "cut within a page": (lambda whole: whole[: len(whole) // 2 + 77], "is damaged; restore it"),
    "cut to 50 bytes": (lambda whole: whole[:50], "is damaged; restore it"),
    "zero-length": (lambda _: b"", "is empty; it is not a thumbtune store"),
    "a text": (lambda _: b"shopping list\n" * 1000, "is not a SQLite database; name another file"),
}
"""Functions that damage a store's bytes, and a part of the expected error message."""

UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
"""Root ignores file permissions; without its capabilities they apply."""


def _blot(whole: bytes, start: int, size: int) -> bytes:
    return whole[:start] + b"\xff" * size + whole[start + size :]


def damaged(folder: Path, *, quick: bool) -> list[Row]:
    """Damage a store in every way, and run reading and writing commands on it."""
    with StandIn(channel(60)) as server:
        good = folder / "good.db"
        Shell.of(sqlite_url(folder, "good"), server).run("sync", "@reliable")
        wrong = [
            problem
            for number, name in enumerate(DAMAGES)
            for problem in _refused(folder / f"{number}.db", server, DAMAGES[name][0](good.read_bytes()), name)
        ]
        rows = [
            Row(
                "a damaged store gives one clear error, and nothing is written",
                f"{', '.join(DAMAGES)}; each with sync, channels and runs",
                3 * len(DAMAGES),
                wrong[0] if wrong else "exit 1, one line, the same bytes",
                not wrong,
            ),
            _newer(folder, server),
            _read_only(folder, server),
            _pages(good, folder, every=20 if quick else 1),
        ]
        return rows if quick else [*rows, _locked(folder, server)]


def _refused(store: Path, server: StandIn, content: bytes, name: str) -> list[str]:
    wrong = []
    for command in (("sync", "@reliable"), ("channels",), ("runs",)):
        store.write_bytes(content)
        done = Shell.of(f"sqlite:///{store}", server).run(*command)
        if done.code != 1 or DAMAGES[name][1] not in error_line(done):
            wrong.append(f"{name}, {command[0]}: {done.code}, {done.err}")
        if store.read_bytes() != content:
            wrong.append(f"{name}, {command[0]}: the file changed")
    return wrong


def _newer(folder: Path, server: StandIn) -> Row:
    store = Path(shutil.copy(folder / "good.db", folder / "newer.db"))
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'm9999'")
    before = store.read_bytes()
    done = Shell.of(f"sqlite:///{store}", server).run("sync", "@reliable")
    same = store.read_bytes() == before
    return _row("a store of a newer version", "its revision is unknown", done, "upgrade thumbtune", same=same)


def _read_only(folder: Path, server: StandIn) -> Row:
    place = folder / "fixed"
    place.mkdir()
    store = Path(shutil.copy(folder / "good.db", place / "store.db"))
    before = store.read_bytes()
    store.chmod(0o444)
    place.chmod(0o555)
    shell = Shell.of(f"sqlite:///{store}", server)
    command = [*UNPRIVILEGED, *shell.command("sync", "@reliable")]
    process = subprocess.run(command, env=dict(shell.environment), capture_output=True, text=True, check=False)
    place.chmod(0o755)
    done = Ended(process.returncode, process.stdout, process.stderr)
    same = store.read_bytes() == before
    return _row("a read-only store", "no write permission", done, "can't be written", same=same)


def _locked(folder: Path, server: StandIn) -> Row:
    store = Path(shutil.copy(folder / "good.db", folder / "locked.db"))
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        before = store.read_bytes()
        done = ended(Shell.of(f"sqlite:///{store}", server).start("sync", "@reliable"))
        same = store.read_bytes() == before
        row = _row("a locked store", "another program writes", done, "is locked by another program", same=same)
        other.execute("ROLLBACK")
    return row


def _row(what: str, damage: str, done: Ended, said: str, *, same: bool) -> Row:
    kept = done.code == 1 and said in error_line(done) and same
    result = f"exit {done.code}, one line, the same bytes" if kept else f"exit {done.code}: {done.err}; same: {same}"
    return Row(f"{what} gives one clear error, and nothing is written", damage, 1, result, kept)


def _pages(good: Path, folder: Path, *, every: int) -> Row:
    """Overwrite each page of a store separately; the check must report it."""
    whole = good.read_bytes()
    pages = range(0, len(whole) // PAGE, every)
    unseen = unreadable_pages(whole, folder / "page.db", pages)
    return Row(
        "the check finds damage in any page",
        "each page overwritten separately, then the checks of 'thumbtune db check'",
        len(pages),
        f"{len(unseen)} not found: {unseen[:10]}" if unseen else "all found",
        not unseen,
    )


def unreadable_pages(whole: bytes, store: Path, pages: range) -> list[int]:
    """Return the pages whose damage the check does not find."""
    unseen = []
    for page in pages:
        store.write_bytes(_blot(whole, page * PAGE, PAGE))
        try:
            found = bool(read_store(f"sqlite:///{store}", problems))
        except NotAStore:
            found = True
        if not found:
            unseen.append(page)
    return unseen
