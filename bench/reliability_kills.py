"""`kill -9` at many points of a sync: the next sync completes from the committed data."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path

from bench.reliability_faults import videos_asked_for, with_details
from bench.reliability_lab import (
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
from store.db import Database
from store.tables import Video
from tests.standin import StandIn

__all__ = ["kill_sync", "kill_syncs"]


@dataclass
class Kill:
    """The result of one kill and the sync after it.

    Args:
        hit: whether the process was killed while running; it may have ended just before.
        problems: the violations of the guarantee.
    """

    hit: bool = False
    problems: list[str] = field(default_factory=list)


def kill_sync(shell: Shell, server: StandIn, requests: int, wanted: dict[str, object]) -> Kill:
    """Kill a first sync after a number of requests, check the store, and sync again.

    Args:
        shell: a shell with a missing store.
        server: a server with one channel.
        requests: the number of requests; 0 kills before the first request.
        wanted: the contents after an undisturbed sync.
    """
    server.journal.clear()
    process = shell.start("sync", server.catalogues[0].handle)
    wait_until(lambda: server.journal.count() >= requests or process.poll() is not None)
    process.kill()
    found = Kill(hit=ended(process).code == -signal.SIGKILL)
    had, fetched = set[str](), set[str]()
    if Path(shell.store.removeprefix("sqlite:///")).exists():
        found.problems += read_store(shell.store, problems)
        had, fetched = read_store(shell.store, with_details), read_store(shell.store, with_pictures)
    server.journal.clear()
    done = shell.run("sync", server.catalogues[0].handle)
    if done.code != 0:
        found.problems.append(f"the next sync ended with {done.code}: {done.err}")
    if read_store(shell.store, contents) != wanted:
        found.problems.append("the store after the next sync differs from that of a clean sync")
    if again := had & videos_asked_for(server.journal.requests("videos")):
        found.problems.append(f"{len(again)} details were read twice")
    pictures = {request.path.split("/")[2] for request in server.journal.requests("picture")}
    if again := fetched & pictures:
        found.problems.append(f"{len(again)} thumbnails were fetched twice")
    ended_as = read_store(shell.store, statuses)
    if ended_as not in (["complete"], ["interrupted", "complete"], ["complete", "unchanged"]):
        found.problems.append(f"the runs have the statuses {ended_as}")
    found.problems += read_store(shell.store, problems)
    return found


def kill_syncs(folder: Path, *, quick: bool) -> list[Row]:
    """Kill first syncs at points spread over all of their requests."""
    count, kills = (60, 3) if quick else (1000, 50)
    with StandIn(channel(count)) as server:
        Shell.of(sqlite_url(folder, "clean"), server).run("sync", "@reliable")
        wanted: dict[str, object] = dict(read_store(sqlite_url(folder, "clean"), contents))
        requests = server.journal.count()
        found = []
        for number in range(kills):
            shell = Shell.of(sqlite_url(folder, f"killed-{number}"), server)
            found.append(kill_sync(shell, server, number * requests // kills, wanted))
    wrong = [problem for kill in found for problem in kill.problems]
    hit = sum(kill.hit for kill in found)
    return [
        Row(
            "the sync after a killed sync completes it; sound store, no partial thumbnail, nothing fetched twice",
            f"kill -9 after the first to the last of {requests:,} requests, then a sync",
            kills,
            f"{hit} killed while running; {wrong[0] if wrong else 'all reached the same store'}",
            # The last kills may come just after the end.
            not wrong and hit >= 0.9 * kills,
        )
    ]


def with_pictures(database: Database) -> set[str]:
    """Return the ids of videos whose thumbnails are in the store."""
    with database.read() as session:
        return {row.id for row in session.query(Video.id).where(Video.picture_sha256.is_not(None))}
