"""Sync many channels of several owners with several `watch` processes on one PostgreSQL store; rates per second.

    python -m bench.many_collectors [--channels 300] [--videos 20] [--processes 3] [--owners 10] [--json]

Runs the real commands against the stand-in server, and checks the content of the store and the units of each key. Then
all channels become due again at once, one `watch` is killed during its syncs, and the other processes take them over.
This is also a part of `bench.scale`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

from sqlalchemy import func, select, text, update

from bench.postgres import postgres
from bench.reliability_lab import Row, drawn, ended, table
from store.db import Database, open_database
from store.tables import QuotaDay, SyncRun, Video
from store.types import utc_now
from store.youtube import LEASE
from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from
from thumbtune.standin.server import StandIn

__all__ = ["collect", "measure"]

FIRST = datetime(2020, 1, 1, tzinfo=UTC)
DONE = ("complete", "unchanged")
MOST_S = 3 * 3600.0
_WATCH = ("watch", "--every", "1d", "--units", "1000000", "--listen", "127.0.0.1:0")
AT_ONCE_S = 60.0


def collect(folder: Path, *, quick: bool = False) -> list[Row]:
    """Return the rows of this part of `bench.scale`."""
    return measure(folder, 30 if quick else 300, 4 if quick else 20, 2 if quick else 3, 3 if quick else 10)


def measure(folder: Path, channels: int, videos: int, processes: int, owners: int) -> list[Row]:
    """Sync all channels twice with several processes; return the rows of the table.

    Args:
        folder: an empty folder.
        channels: the number of channels.
        videos: the number of videos of each channel.
        processes: the number of `watch` processes.
        owners: the number of owners. Each has its own key and an equal share of the channels.
    """
    catalogues = tuple(_catalogue(number, videos) for number in range(channels))
    keys = {catalogue.channel_id: f"key-{number % owners}" for number, catalogue in enumerate(catalogues)}
    (folder / "keys").write_text("".join(f"{channel} {key}\n" for channel, key in keys.items()))
    (folder / "channels").write_text("".join(f"{channel}\n" for channel in keys))
    with postgres() as url, StandIn(*catalogues, keys=set(keys.values())) as server:
        environment = {**os.environ, **server.environment(), "THUMBTUNE_DB": url}
        del environment["YOUTUBE_API_KEY"]
        environment["YOUTUBE_API_KEYS_FILE"] = str(folder / "keys")
        added = ended(_start(folder, environment, "channels", "add", str(folder / "channels")), MOST_S)
        if added.code != 0:
            raise SystemExit(added.err)
        with open_database(url) as database:
            started = time.monotonic()
            _watch(folder, environment, database, processes)
            seconds = time.monotonic() - started
            what = f"{channels:,} channels x {videos} videos, {processes} 'watch', {owners} keys"
            rows = [
                _content(database, catalogues, what),
                _units(database, server, keys, videos, what),
                Row(
                    "rate of a first sync",
                    what,
                    1,
                    f"{channels * videos / seconds:,.0f} videos/s, {channels / seconds:.1f} channels/s",
                    None,
                ),
            ]
            before = server.units
            with database.write() as session:
                session.execute(text("UPDATE sync_run SET finished_at = finished_at - INTERVAL '2 days'"))
                last = session.scalar(select(func.max(SyncRun.id))) or 0
            killed = _kill_one(folder, environment, database, last)
            _watch(folder, environment, database, processes, after=last)
            rows += [_at_once(database, killed, what), _given_up(database, killed)]
            rows.append(
                Row(
                    "a sync that finds nothing new costs no units",
                    what,
                    channels,
                    f"{server.units - before} units",
                    server.units == before,
                )
            )
    return rows


@cache
def _jpeg() -> bytes:
    return drawn("template", 480)


def _picture(video_id: str) -> bytes:
    """A thumbnail that differs from the others only by a comment, because drawing each would take most of the time."""
    comment = video_id.encode()
    return _jpeg()[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + _jpeg()[2:]


def _catalogue(number: int, videos: int) -> Catalogue:
    uploads = [
        StandInVideo(
            id=f"{number:05d}-{index:05d}",
            title=f"Title {index} of channel {number}",
            published_at=FIRST + timedelta(hours=index),
            duration_s=600,
            picture=partial(_picture, f"{number:05d}-{index:05d}"),
            picture_at_hand=True,
        )
        for index in range(videos)
    ]
    name = f"many{number}"
    return Catalogue(channel_id_from(name), f"@{name}", f"Channel {number}", videos={v.id: v for v in uploads})


def _start(folder: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    with (folder / "log").open("a") as log:  # a pipe that nobody reads would stop the process
        command = [sys.executable, "-m", "thumbtune", *words]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log, text=True)


def _watch(folder: Path, environment: dict[str, str], database: Database, processes: int, *, after: int = 0) -> None:
    """Run several `watch` processes until each channel has a finished sync with an id above `after`."""
    running = [_start(folder, environment, *_WATCH) for _ in range(processes)]
    channels = sum(1 for line in (folder / "channels").read_text().splitlines() if line)
    deadline = time.monotonic() + MOST_S
    try:
        while (done := _done(database, after)) < channels:
            if time.monotonic() > deadline or all(process.poll() is not None for process in running):
                raise SystemExit(
                    f"only {done} of {channels} channels were synced; {(folder / 'log').read_text()[-500:]}"
                )
            time.sleep(0.2)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)


@dataclass(frozen=True)
class _Killed:
    """A killed process: the time of the kill, and {sync: channel} of its unfinished syncs."""

    at: datetime
    channels: dict[int, str]


def _kill_one(folder: Path, environment: dict[str, str], database: Database, after: int) -> _Killed:
    """Start a `watch`, and kill it during its syncs after it has finished one sync.

    Every second unfinished sync is then changed to look like a sync of a machine that was lost `LEASE` ago.
    """
    process = _start(folder, environment, *_WATCH)
    query = select(SyncRun.id, SyncRun.channel_id).where(SyncRun.status == "running", SyncRun.pid == process.pid)
    found: dict[int, str] = {}
    while not found and process.poll() is None:
        time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # else the syncs could end before the process does
        if _done(database, after):
            with database.read() as session:
                found = dict(session.execute(query.order_by(SyncRun.id)).all())
        if not found:
            process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    time.sleep(0.5)  # the server may still commit what the process had sent
    with database.read() as session:
        found = dict(session.execute(query.where(SyncRun.id.in_(found)).order_by(SyncRun.id)).all())
    silent = utc_now() - LEASE - timedelta(seconds=1)
    with database.write() as session:
        lost = update(SyncRun).where(SyncRun.id.in_(list(found)[1::2]))
        session.execute(lost.values(host="a lost machine", seen_at=silent))
    return _Killed(utc_now(), found)


def _given_up(database: Database, killed: _Killed) -> Row:
    with database.read() as session:
        again = session.scalars(
            select(func.min(SyncRun.started_at))
            .where(SyncRun.channel_id.in_(killed.channels.values()), SyncRun.id > max(killed.channels, default=0))
            .group_by(SyncRun.channel_id)
        ).all()
    late = max(((at - killed.at).total_seconds() for at in again), default=0.0)
    lease = LEASE.total_seconds() / 60
    return Row(
        "a `watch` that dies gives up its channels within minutes",
        f"killed in the middle of {len(killed.channels)} syncs, every second one of which then had the host of another "
        f"machine, and its last heartbeat {lease:.0f} min ago; then others were started",
        len(killed.channels),
        f"{len(again)} of {len(killed.channels)} started again within {late:.0f} s, the others' start included",
        len(again) == len(killed.channels) and late <= AT_ONCE_S,
    )


def _done(database: Database, after: int) -> int:
    with database.read() as session:
        query = select(func.count(SyncRun.channel_id.distinct())).where(SyncRun.id > after, SyncRun.status.in_(DONE))
        return session.scalar(query) or 0


def _content(database: Database, catalogues: tuple[Catalogue, ...], what: str) -> Row:
    with database.read() as session:
        rows = session.execute(select(Video.id, Video.title, Video.picture_sha256))
        found = {tuple(row) for row in rows}
    expected = {
        (video.id, video.title, hashlib.sha256(video.picture()).hexdigest())
        for catalogue in catalogues
        for video in catalogue.videos.values()
    }
    wrong = len(found ^ expected)
    return Row(
        "the store has the channels' content",
        what,
        1,
        f"{len(found):,} videos and thumbnails, {wrong} wrong",
        not wrong,
    )


def _units(database: Database, server: StandIn, keys: dict[str, str], videos: int, what: str) -> Row:
    """The expected units of a channel: 1 to add it, 1 per 50 entries of its playlist, and 1 per 50 videos."""
    each = 1 + 2 * -(-videos // 50)
    with database.read() as session:
        query = select(QuotaDay.key_fingerprint, func.sum(QuotaDay.units)).group_by(QuotaDay.key_fingerprint)
        ledger = dict(session.execute(query).all())
    right = 0
    owners = sorted(set(keys.values()))
    for key in owners:
        expected = each * sum(owner == key for owner in keys.values())
        fingerprint = hashlib.sha256(key.encode()).hexdigest()[:12]
        right += ledger.get(fingerprint) == expected == server.quota.used(key)
    return Row(
        "each key pays for its owner's channels only",
        what,
        len(owners),
        f"{server.units:,} units, {each} a channel; {right} of {len(owners)} ledgers as computed",
        right == len(owners) == len(ledger),
    )


def _at_once(database: Database, killed: _Killed, what: str) -> Row:
    with database.read() as session:
        started = session.scalars(
            select(func.min(SyncRun.started_at)).where(SyncRun.started_at > killed.at).group_by(SyncRun.channel_id)
        ).all()
    spread = (max(started) - min(started)).total_seconds()
    return Row(
        f"channels that are due at once start within {AT_ONCE_S:.0f} s",
        what,
        len(started),
        f"all started within {spread:.0f} s ({len(started) / max(spread, 0.1):.1f}/s)",
        spread <= AT_ONCE_S,
    )


def main() -> int:
    """Measure, and print a table; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("channels", 300), ("videos", 20), ("processes", 3), ("owners", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thumbtune-many-") as folder:
        rows = measure(Path(folder), given.channels, given.videos, given.processes, given.owners)
    print(json.dumps([asdict(row) for row in rows], indent=1) if given.json else table(rows))
    return 1 if any(row.kept is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
