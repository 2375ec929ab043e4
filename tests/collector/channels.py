"""Stand-in channels of any size, and deterministic syncs of them without pauses."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, Literal

from PIL import Image
from sqlalchemy import select

from collector.http import Http
from collector.progress import Progress, Silent
from collector.settings import settings_from
from collector.sync import SyncOptions, SyncReport, sync_channels
from collector.youtube import parse_channel_name
from store.db import Database
from store.tables import PictureFailure, SyncRun, Video, VideoVersion
from store.types import utc_now
from tests.standin import StandIn
from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from

PUBLISHED = datetime(2020, 1, 1, tzinfo=UTC)


HIGH = (480, 360)
"""Width and height in pixels of the stand-in's `high`. A much smaller thumbnail counts as missing."""


@cache
def jpeg(text: str, size: tuple[int, int] = (48, 36)) -> bytes:
    """Return a small JPEG that is different for each text."""
    digest = hashlib.sha256(text.encode()).digest()
    picture = Image.frombytes("RGB", (3, 3), digest[:27]).resize(size)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def drawn(text: str) -> Callable[[], bytes]:
    return partial(jpeg, text, HIGH)


def video(number: int, **fields: Any) -> StandInVideo:
    """Return the `number`th upload, oldest first."""
    video_id = fields.pop("id", f"video{number:06d}")
    values: dict[str, Any] = {
        "title": f"Title {number}",
        "published_at": PUBLISHED + timedelta(hours=number),
        "duration_s": 600,
        "picture": drawn(video_id),
    }
    return StandInVideo(id=video_id, **(values | fields))


def channel(count: int, *, name: str = "tests", **fields: Any) -> Catalogue:
    videos = [video(number, **fields) for number in range(count)]
    return Catalogue(channel_id_from(name), f"@{name}", f"The {name} channel", videos={v.id: v for v in videos})


async def no_sleep(_seconds: float) -> None:
    """Skip a pause."""


def hasty_http(**options: Any) -> Http:
    return Http(sleep=no_sleep, draw=lambda: 0.5, **options)


async def sync(
    database: Database,
    server: StandIn,
    *names: str,
    now: Callable[[], datetime] = utc_now,
    http: Http | None = None,
    progress: Progress | None = None,
    key: str = "stand-in-key",
    **options: Any,
) -> SyncReport:
    """Sync the server's first channel, or `names`; return the report of the last one."""
    wanted = [parse_channel_name(name) for name in names or (server.catalogues[0].handle,)]
    settings = settings_from(server.environment(key))
    reports = await sync_channels(
        database, wanted, settings, SyncOptions(**options), now=now, http=http or hasty_http(), progress=progress
    )
    return reports[-1]


class When(Silent):
    """Calls a function when a stage first reports progress, so that tests can act during a sync."""

    def __init__(self, stage: Literal["listed", "details", "pictures"], call: Callable[[], object]) -> None:
        self._stage = stage
        self._calls = [call]

    def _reached(self, stage: str) -> None:
        if stage == self._stage and self._calls:
            self._calls.pop()()

    def listed(self, entries: int, total: int | None) -> None:
        self._reached("listed")

    def details(self, videos: int) -> None:
        self._reached("details")

    def pictures_done(self, pictures: int) -> None:
        self._reached("pictures")


def later(hours: float) -> Callable[[], datetime]:
    """Return a clock that is ahead."""
    return lambda: utc_now() + timedelta(hours=hours)


def contents(database: Database) -> dict[str, tuple[Any, ...]]:
    """Return each video's data and versions, without times."""
    with database.read() as session:
        versions: dict[str, list[tuple[int, str, str | None]]] = {}
        for version in session.scalars(select(VideoVersion).order_by(VideoVersion.video_id, VideoVersion.number)):
            versions.setdefault(version.video_id, []).append((version.number, version.title, version.picture_sha256))
        return {
            row.id: (
                row.title,
                row.kind,
                row.availability,
                row.duration_s,
                row.picture_sha256,
                row.published_at,
                versions.get(row.id),
            )
            for row in session.scalars(select(Video).order_by(Video.id))
        }


def kinds(database: Database) -> dict[str, tuple[str, str]]:
    with database.read() as session:
        return {row.id: (row.kind, row.availability) for row in session.scalars(select(Video))}


def failures(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {row.video_id: row.reason for row in session.scalars(select(PictureFailure))}


def sync_runs(database: Database) -> list[SyncRun]:
    with database.read() as session:
        return list(session.scalars(select(SyncRun).order_by(SyncRun.id)))
