"""A failing server: mixed faults, unreachable, failing during a sync, and with a spent quota."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path

from bench.reliability_lab import (
    Row,
    Shell,
    channel,
    contents,
    error_line,
    problems,
    read_store,
    sqlite_url,
)
from store.db import Database
from store.tables import Video
from tests.standin import Fault, Faults, LoggedRequest, StandIn

__all__ = ["MOST_REQUESTS", "SHARES", "down", "faults", "quota", "videos_asked_for", "with_details"]

SHARES = (
    Fault("status", status=500, share=0.10),
    Fault("status", status=503, share=0.05),
    Fault("status", status=429, retry_after=1, share=0.05),
    Fault("reset", share=0.05),
    Fault("cut", share=0.05),
    Fault("cut_json", path="/youtube/v3/", share=0.05),
    Fault("html", share=0.02),
    Fault("slow", share=0.05, delay_s=0.5),
)
"""10 % 500; 5 % each of 503, 429, connection reset, truncated body, truncated JSON, slow; 2 % HTML with status 200."""

MOST_REQUESTS = 1.7
"""The maximum number of requests relative to a clean sync."""


def faults(folder: Path, *, quick: bool) -> list[Row]:
    """Sync a channel with mixed faults and several seeds, and compare with a clean sync."""
    count, seeds = (100, 1) if quick else (1000, 3)
    ratios, whole, ended_well, made = [], True, True, Counter[str]()
    with StandIn(channel(count)) as server:
        clean = Shell.of(sqlite_url(folder, "clean"), server).run("sync", "@reliable", "--json").report()
        wanted = read_store(sqlite_url(folder, "clean"), contents)
        for seed in range(seeds):
            server.faults = plan = Faults(SHARES, seed=seed, most_in_a_row=3)
            store = sqlite_url(folder, f"faulty-{seed}")
            done = Shell.of(store, server).run("sync", "@reliable", "--json")
            ended_well &= done.code == 0
            whole &= read_store(store, contents) == wanted and not read_store(store, problems)
            ratios.append(server_ratio(done.report(), clean))
            made.update(plan.made)
            server.faults = Faults()
    told = ", ".join(f"{n} {kind}" for kind, n in sorted(made.items()))
    return [
        Row(
            f"a sync of {count:,} videos gives the same store with less than {MOST_REQUESTS} times the requests",
            f"10 % 500, 5 % 503, 5 % 429, 5 % reset, 5 % truncated, 5 % truncated JSON, 2 % HTML, 5 % slow ({told})",
            seeds,
            f"{'same' if whole else 'DIFFERENT'} store, {max(ratios):.2f} times the requests",
            ended_well and whole and max(ratios) < MOST_REQUESTS,
        )
    ]


def server_ratio(report: dict[str, object], clean: dict[str, object]) -> float:
    """Return the number of requests relative to a clean sync."""
    return float(str(report.get("requests", "inf"))) / float(str(clean["requests"]))


def down(folder: Path, *, quick: bool) -> list[Row]:
    """A server that is unreachable, and a server that becomes unreachable during a sync."""
    count = 100 if quick else 1000
    return [_never_there(folder), _dies(folder, count, 3 if quick else 6)]


def _never_there(folder: Path) -> Row:
    with socket.socket() as unused:  # bound but not listening, so that no other process gets the port
        unused.bind(("127.0.0.1", 0))
        with StandIn(channel(1)) as server:
            shell = Shell.of(sqlite_url(folder, "nobody"), server)
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = Shell(shell.store, {**shell.environment, "THUMBTUNE_API_URL": url}).run("sync", "@reliable")
    line = error_line(done)
    return Row(
        "an unreachable server gives one clear error, exit 1",
        "nothing listens on the API's address",
        1,
        f"exit {done.code}: {line}",
        done.code == 1 and "can't be reached" in line,
    )


def _dies(folder: Path, count: int, times: int) -> Row:
    clear = kept = whole = True
    with StandIn(channel(count)) as server:
        Shell.of(sqlite_url(folder, "before"), server).run("sync", "@reliable")
        wanted = read_store(sqlite_url(folder, "before"), contents)
        requests = server.journal.count()
        for number in range(times):
            after = 2 + number * (requests - 30) // times
            server.faults = Faults([Fault("reset", after=after)], most_in_a_row=None)
            shell = Shell.of(sqlite_url(folder, f"dies-{number}"), server)
            done = shell.run("sync", "@reliable", "--json")
            clear &= done.code in (1, 3) and "check the network" in error_line(done)
            had = read_store(shell.store, with_details)
            server.faults = Faults()
            server.journal.clear()
            whole &= shell.run("sync", "@reliable").code == 0 and read_store(shell.store, contents) == wanted
            kept &= not had & videos_asked_for(server.journal.requests("videos"))
    return Row(
        "a server that fails during a sync gives one clear error, exit 1 or 3; earlier data is kept",
        f"all connections reset from some request on, of {requests:,}; then a sync without faults",
        times,
        f"{'one' if clear else 'NOT ONE'} clear error, {'nothing' if kept else 'SOMETHING'} read twice, "
        f"then the {'same' if whole else 'WRONG'} store",
        clear and kept and whole,
    )


def quota(folder: Path, *, quick: bool) -> list[Row]:
    """Syncs with each possible daily limit, and another sync on the next day."""
    count = 100 if quick else 1000
    with StandIn(channel(count)) as server:
        Shell.of(sqlite_url(folder, "rich"), server).run("sync", "@reliable")
        wanted, price = read_store(sqlite_url(folder, "rich"), contents), server.units
        limits = range(1, price, 2) if quick else range(1, price)
        stopped, totals, whole = True, set[int](), True
        for limit in limits:
            server.quota.reset()
            server.quota.limit = limit
            shell = Shell.of(sqlite_url(folder, f"quota-{limit}"), server)
            done = shell.run("sync", "@reliable")
            spent = server.units
            stopped &= done.code == 3 and "daily quota" in error_line(done)
            server.quota.reset()
            server.quota.limit = None
            whole &= shell.run("sync", "@reliable").code == 0 and read_store(shell.store, contents) == wanted
            totals.add(spent + server.units)
    return [
        Row(
            "a spent quota gives exit 3; the next sync spends no unit twice and completes",
            f"a daily limit of 1 to {price - 1} units for a sync that costs {price}, then a new day",
            len(limits),
            f"{min(totals)} to {max(totals)} units in both syncs together, {'same' if whole else 'DIFFERENT'} store",
            stopped and whole and max(totals) <= price,
        )
    ]


def videos_asked_for(requests: list[LoggedRequest]) -> set[str]:
    """Return the ids of videos whose details were requested."""
    return {video_id for request in requests for video_id in request.query.get("id", "").split(",")}


def with_details(database: Database) -> set[str]:
    """Return the ids of videos whose details are in the store."""
    with database.read() as session:
        return {row.id for row in session.query(Video.id).where(Video.details_at.is_not(None))}
