"""What the parts of `bench.reliability` share: rows, the real command as a process, and what a store holds."""

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

# Of each content table what two ways to the same end have in common: no times, ids of rows, or counters.
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

HEADER = ("promise", "what was done", "how often", "result", "kept")
WAIT_S = 120.0


@dataclass(frozen=True)
class Row:
    """One row of the table that `bench.reliability` prints.

    Args:
        promise: in words.
        done: the damage that was really done.
        times: how often.
        result: what was seen.
        kept: whether the promise was; None where a figure is only stated.
    """

    promise: str
    done: str
    times: int
    result: str
    kept: bool | None

    def cells(self) -> tuple[str, ...]:
        """The row's texts, in the order of the table's columns."""
        kept = "stated" if self.kept is None else "yes" if self.kept else "NO"
        return self.promise, self.done, f"{self.times:,}", self.result, kept


def table(rows: list[Row]) -> str:
    """The rows as one Markdown table."""
    lines = [HEADER, tuple("---" for _ in HEADER), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        """What `sync --json` said of the one channel; empty when it said nothing."""
        try:
            (found,) = json.loads(self.out)["channels"]
        except ValueError:
            return {}
        return dict(found)


@dataclass(frozen=True)
class Shell:
    """The real command, in processes of its own, on one store and one server."""

    store: str
    environment: Mapping[str, str]

    @classmethod
    def of(cls, store: str, server: StandIn) -> Shell:
        """A shell whose commands talk to a stand-in."""
        return cls(store, {**os.environ, **server.environment()})

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
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
        """Run a command to its end."""
        return ended(self.start(*arguments))


def ended(process: subprocess.Popen[str], timeout_s: float = 600) -> Ended:
    """Wait for a process that `Shell.start` began."""
    out, err = process.communicate(timeout=timeout_s)
    return Ended(process.returncode, out, err)


def error_line(done: Ended) -> str:
    """The one line of error that a command printed; empty when there is not just one, or a traceback."""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    return lines[0] if len(lines) == 1 and "Traceback" not in done.err else ""


def wait_until(reached: Callable[[], bool]) -> None:
    """Give the processor away until something holds.

    Raises:
        TimeoutError: it never does.
    """
    deadline = time.monotonic() + WAIT_S
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"what was waited for did not happen within {WAIT_S:g} s")
        os.sched_yield()


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """{table: its rows, sorted} without times, ids of rows and counters: equal for any two ways to the same end."""
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
    """What is wrong with a store: structure, references, schema, and every picture's bytes against its digest."""
    return [problem for looked_at in check(database) for problem in looked_at.problems]


def statuses(database: Database) -> list[str]:
    """How each sync ended, oldest first."""
    with database.read() as session:
        return list(session.scalars(select(SyncRun.status).order_by(SyncRun.id)))


def read_store(store: str, read: Callable[[Database], T]) -> T:
    """What `read` makes of a store, which is closed again."""
    with open_database(store) as database:
        return read(database)


def drawn(text: str, side: int = 48) -> bytes:
    """A small JPEG that differs from that of any other text."""
    digest = hashlib.sha256(text.encode()).digest()
    buffer = io.BytesIO()
    Image.frombytes("RGB", (3, 3), digest[:27]).resize((side, side * 3 // 4)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def channel(count: int, name: str = "reliable", side: int = 48) -> Catalogue:
    """A channel of `count` videos, each with a title and a picture of its own."""
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
    """The URL of a store in a folder."""
    return f"sqlite:///{folder / name}.db"
