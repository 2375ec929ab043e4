"""Shared code of `bench.reliability`: rows of the table, the real command as a process, and contents of a store."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from sqlalchemy import select

from store.db import Database, check, open_database
from store.tables import Base, Channel, Picture, PictureFailure, SyncRun, Video, VideoVersion
from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from
from thumbtune.standin.server import StandIn

__all__ = [
    "Ended",
    "Row",
    "Shell",
    "channel",
    "contents",
    "drawn",
    "ended",
    "error_line",
    "problems",
    "read_store",
    "sqlite_url",
    "statuses",
    "table",
    "wait_until",
]

# The compared columns of each content table: all except times, row ids and counters.
CONTENT: dict[type[Base], tuple[str, ...]] = {
    Channel: (
        *("id", "handle", "title", "uploads_playlist_id", "min_duration_s", "thumbnail_size", "listing_token"),
        "api_item",
    ),
    Picture: ("sha256", "bytes", "mime", "width", "height", "byte_count"),
    Video: (
        *("id", "channel_id", "title", "kind", "availability", "duration_s", "published_at", "api_item"),
        *("picture_sha256", "picture_url", "picture_etag", "picture_last_modified"),
    ),
    VideoVersion: ("video_id", "number", "title", "picture_sha256"),
    PictureFailure: ("video_id", "url", "reason"),
}
T = TypeVar("T")

HEADER = ("guarantee", "test", "times", "result", "kept")
WAIT_S = 120.0


@dataclass(frozen=True)
class Row:
    """One row of the table that `bench.reliability` prints.

    Args:
        promise: the guarantee.
        done: what was tested.
        times: the number of repetitions.
        result: the observed result.
        kept: whether the guarantee held; None if a figure is only stated.
    """

    promise: str
    done: str
    times: int
    result: str
    kept: bool | None

    def cells(self) -> tuple[str, ...]:
        """The row's cells, in the order of the table's columns."""
        kept = "stated" if self.kept is None else "yes" if self.kept else "NO"
        return self.promise, self.done, f"{self.times:,}", self.result, kept


def table(rows: list[Row]) -> str:
    """Format the rows as a Markdown table."""
    lines = [HEADER, tuple("---" for _ in HEADER), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Ended:
    """The result of a command."""

    code: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        """The channel's report of `sync --json`; empty without a report."""
        try:
            (found,) = json.loads(self.out)["channels"]
        except ValueError:
            return {}
        return dict(found)


@dataclass(frozen=True)
class Shell:
    """Runs the real command in separate processes on one store and one server."""

    store: str
    environment: Mapping[str, str]

    @classmethod
    def of(cls, store: str, server: StandIn) -> Shell:
        """Return a shell whose commands use a stand-in server."""
        return cls(store, {**os.environ, **server.environment()})

    def command(self, *arguments: str) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "thumbtune", "-q", "--db", self.store, *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            self.command(*arguments),
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> Ended:
        """Run a command and wait for it."""
        return ended(self.start(*arguments))


def ended(process: subprocess.Popen[str], timeout_s: float = 600) -> Ended:
    """Wait for a process of `Shell.start`."""
    out, err = process.communicate(timeout=timeout_s)
    return Ended(process.returncode, out, err)


def error_line(done: Ended) -> str:
    """Return a command's error line; empty if there is not exactly one, or if there is a traceback."""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    return lines[0] if len(lines) == 1 and "Traceback" not in done.err else ""


def wait_until(reached: Callable[[], bool]) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: the condition does not hold within `WAIT_S`.
    """
    deadline = time.monotonic() + WAIT_S
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition did not hold within {WAIT_S:g} s")
        os.sched_yield()


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return {table: sorted rows} without times, row ids and counters."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with database.read() as session:
        for model, names in CONTENT.items():
            query = select(*(getattr(model, name) for name in names)).execution_options(yield_per=256)
            rows = [tuple(_compared(value) for value in row) for row in session.execute(query)]
            found[model.__tablename__] = sorted(rows, key=repr)
    return found


def _compared(value: Any) -> Any:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def problems(database: Database) -> list[str]:
    """Return the problems of a store: file structure, references, schema, and digests of thumbnails."""
    return [problem for looked_at in check(database) for problem in looked_at.problems]


def statuses(database: Database) -> list[str]:
    """Return the status of each sync, oldest first."""
    with database.read() as session:
        return list(session.scalars(select(SyncRun.status).order_by(SyncRun.id)))


def read_store(store: str, read: Callable[[Database], T]) -> T:
    """Open a store, call `read` on it, and close it."""
    with open_database(store) as database:
        return read(database)


def drawn(text: str, side: int = 48) -> bytes:
    """Return a small JPEG that is different for each text."""
    digest = hashlib.sha256(text.encode()).digest()
    buffer = io.BytesIO()
    Image.frombytes("RGB", (3, 3), digest[:27]).resize((side, side * 3 // 4)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def channel(count: int, name: str = "reliable", side: int = 48) -> Catalogue:
    """Return a channel of `count` videos with distinct titles and thumbnails."""
    first = datetime(2020, 1, 1, tzinfo=UTC)
    videos = [
        StandInVideo(
            id=f"{name[:4]}{number:07d}",
            title=f"Title {number} of {name}",
            published_at=first + timedelta(hours=number),
            duration_s=600,
            picture=partial(drawn, f"{name} {number}", side),
        )
        for number in range(count)
    ]
    return Catalogue(channel_id_from(name), f"@{name}", f"The {name} channel", videos={v.id: v for v in videos})


def sqlite_url(folder: Path, name: str) -> str:
    """Return the URL of a store in a folder."""
    return f"sqlite:///{folder / name}.db"
