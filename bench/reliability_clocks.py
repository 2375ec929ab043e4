"""Two collectors with clocks an hour apart, and a clock that is put back after a sync."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.postgres import postgres
from bench.reliability_disk import can_mount
from bench.reliability_lab import (
    Ended,
    Row,
    Shell,
    channel,
    contents,
    ended,
    problems,
    read_store,
    sqlite_url,
    statuses,
    wait_until,
)
from tests.standin import Fault, Faults, StandIn

__all__ = ["clocks", "faketime", "sync_beside", "sync_later"]

VIDEOS = 120
HOURS = (1, -1)
LOOKUP = 1
"""The units to look up the channel's handle again, which seems to have been looked up long ago, or in the future."""
_USER = () if os.geteuid() == 0 else ("--user", "--map-root-user")
COMPARED = ("picture", "picture_failure", "video_version")
"""The other tables have the API's data, with the ports of the servers."""
ELSEWHERE = ("unshare", *_USER, "--pid", "--fork", "--mount-proc")
"""Another PID namespace counts as another machine, whose processes can only be judged by their heartbeats."""


def faketime() -> Path | None:
    """The library that gives a process another clock (https://github.com/wolfcw/libfaketime); None without it."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def _start(shell: Shell, hours: int, *words: str, elsewhere: bool = False) -> subprocess.Popen[str]:
    """Start a command whose clock differs by some hours; with `elsewhere`, as if on another machine."""
    fake = {"LD_PRELOAD": str(faketime()), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return subprocess.Popen(
        [
            *(ELSEWHERE if elsewhere else ()),
            *("env", *(f"{name}={value}" for name, value in fake.items())),
            *shell.command(*words),
        ],
        env=dict(shell.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sync_beside(url: str, hours: int, *, elsewhere: bool) -> list[str]:
    """Run two concurrent syncs with different clocks; return the violations of the guarantee."""
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=60)
    with StandIn(channel(VIDEOS), faults=Faults([hang])) as server:
        shell = Shell.of(url, server)
        first = shell.start("sync", "@reliable", "--json")
        # Its first page's videos are requested at the same time as the page that hangs.
        wait_until(
            lambda: (
                first.poll() is not None or (server.faults.made["hang"] == 1 and server.journal.count("videos") == 1)
            )
        )
        spent = server.units
        second = ended(_start(shell, hours, "sync", "@reliable", "--skip-busy", "--json", elsewhere=elsewhere))
        units = server.units - spent
        server.release()
        done = ended(first)
    wrong = [f"{hours:+d} h, the other: {line}" for line in _wrong(second, "busy")]
    wrong += [f"{hours:+d} h: {line}" for line in _wrong(done, "complete")]
    found = read_store(url, statuses)
    if found != ["complete"] or units > LOOKUP:
        wrong.append(f"{hours:+d} h: the syncs are {found}, and the other spent {units} units")
    return wrong + read_store(url, problems)


def sync_later(folder: Path, hours: int) -> list[str]:
    """Sync before and after a correction of the clock; return the violations of the guarantee."""
    wrong, stores = [], []
    for name, first_hours in (("clean", 0), ("corrected", hours)):
        url = sqlite_url(folder, f"{name}{hours}")
        for videos, clock in ((VIDEOS // 2, first_hours), (VIDEOS, 0)):
            with StandIn(channel(videos)) as server:
                done = ended(_start(Shell.of(url, server), clock, "sync", "@reliable", "--json"))
            wrong += [f"{name}, {clock:+d} h: {line}" for line in _wrong(done, "complete")]
        found = read_store(url, contents)
        stores.append([found[table] for table in COMPARED])
        wrong += read_store(url, problems)
    return wrong if stores[0] == stores[1] else [*wrong, f"{hours:+d} h: the content differs from that of one clock"]


def _wrong(done: Ended, status: str) -> Iterator[str]:
    if done.code != 0 or done.report().get("status") != status:
        yield f"exit {done.code}, {done.report().get('status')}, {done.err[-300:]}"


def clocks(folder: Path, *, quick: bool) -> list[Row]:
    """Sync one channel from two machines with different clocks, and after a correction of the clock."""
    promise = "collectors with clocks an hour apart leave each other's syncs alone, and a corrected clock loses nothing"
    if faketime() is None or shutil.which(ELSEWHERE[0]) is None or not can_mount():
        return [Row(promise, "nothing: no libfaketime, or no permission for a namespace", 0, "not run", None)]
    hours, wrong = HOURS[:1] if quick else HOURS, list[str]()
    with ExitStack() as stack:
        for one in hours:
            wrong += sync_beside(sqlite_url(folder, f"beside{one}"), one, elsewhere=False)
            wrong += sync_beside(stack.enter_context(postgres()), one, elsewhere=True)
            wrong += sync_later(folder, one)
    return [
        Row(
            promise,
            f"a second sync whose clock differs by {', '.join(f'{one:+d} h' for one in hours)}, on SQLite, and on "
            "PostgreSQL from another PID namespace; syncs before and after a correction",
            3 * len(hours),
            wrong[0] if wrong else "busy, and complete; at most a lookup twice; the same store",
            not wrong,
        )
    ]
