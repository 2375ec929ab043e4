"""`thumbtune sync`: bring channels' videos and thumbnails up to date."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from thumbtune.cli import App
from thumbtune.console import Console, Progress

if TYPE_CHECKING:
    from collector.report import SyncReport
    from store.tables import SyncMode

__all__ = ["sync"]

T = TypeVar("T")


@click.command()
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@click.option("--full", is_flag=True, help="List all uploads to the very end, and look for those that have vanished.")
@click.option(
    "--refresh", is_flag=True, help="Read every known video again: changed titles, thumbnails, vanished ones."
)
@click.option(
    "--min-duration",
    type=click.IntRange(0, 604_800),
    metavar="SECONDS",
    help="Shorter videos are shorts, and no training pairs. Kept for later syncs; 180 for a new channel.",
)
@click.option(
    "--thumbnail",
    type=click.Choice(["high", "maxres", "standard", "medium", "default", "best"]),
    help="The size to fetch; a missing one falls back. Kept for later syncs; high for a new channel. Thumbnails that "
    "are stored already change with the next --refresh.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.pass_obj
def sync(
    app: App,
    channels: tuple[str, ...],
    full: bool,
    refresh: bool,
    min_duration: int | None,
    thumbnail: str | None,
    as_json: bool,
) -> int:
    """Bring channels' videos and thumbnails up to date.

    CHANNEL is a channel's id (UC...), its handle (@name) or its address. Without any, every channel in the store is
    synced. What is known is not read again: a sync that finds nothing new costs no quota, or up to 2 units.

    The environment variable YOUTUBE_API_KEY holds the API key. Exit code 3 means that the sync stopped early (quota
    spent, interrupted, some thumbnails failed); what it has is kept, and the next sync goes on from there.
    """
    if full and refresh:
        raise click.UsageError("--full and --refresh are two different things; give one of them.")
    from collector.channel_names import parse_channel_name  # noqa: PLC0415 (aiohttp is slow to import)
    from collector.settings import settings_from  # noqa: PLC0415
    from collector.sync import SyncOptions, sync_channels  # noqa: PLC0415
    from store.channels import channel_ids  # noqa: PLC0415

    app.console.json_wanted = as_json
    mode: SyncMode = "full" if full else "refresh" if refresh else "incremental"
    options = SyncOptions(mode, min_duration, thumbnail)
    names = list(dict.fromkeys(parse_channel_name(channel) for channel in channels))
    settings = settings_from(os.environ)
    database = app.open_database(create=bool(names))
    try:
        if not names:
            with database.read() as session:
                names = [parse_channel_name(channel_id) for channel_id in channel_ids(session)]
        if not names:
            raise click.UsageError("The store has no channels yet; name one: thumbtune sync @HANDLE")
        with _shown(app.console, len(names)) as shown:
            reports = _run_until_stopped(
                lambda stop: sync_channels(database, names, settings, options, progress=shown, stop=stop)
            )
    finally:
        database.close()
    _tell(app.console, reports)
    if as_json:
        app.console.print_json({"channels": [report.as_dict() for report in reports]})
    return _exit_code(reports, len(names))


def _run_until_stopped(start: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run with Ctrl-C and SIGTERM setting an event, so that the sync ends in order. A second one interrupts at once."""
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in signals}

    async def run() -> T:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            stop.set()
            _restore(loop, previous)

        for number in signals:
            try:
                loop.add_signal_handler(number, end)
            except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
                break
        try:
            return await start(stop)
        finally:
            _restore(loop, previous)

    return asyncio.run(run())


def _restore(loop: asyncio.AbstractEventLoop, previous: dict[signal.Signals, Any]) -> None:
    for number, handler in previous.items():
        try:
            if loop.remove_signal_handler(number):
                signal.signal(number, handler)
        except (NotImplementedError, RuntimeError, ValueError):
            return


def _exit_code(reports: Sequence[SyncReport], asked: int) -> int:
    codes = [report.exit_code for report in reports]
    failures = [code for code in codes if code not in (0, 3)]
    if failures:
        return failures[0]
    return 3 if 3 in codes or len(reports) < asked else 0


def _tell(console: Console, reports: Sequence[SyncReport]) -> None:
    columns = ("channel", "status", "listed", "new", "changed", "gone", "thumbnails", "failed", "units", "seconds")
    rows = [
        (
            report.handle or report.id or report.name,
            report.status,
            report.listed,
            report.new,
            report.changed,
            report.gone,
            report.pictures_fetched,
            report.pictures_failed,
            report.units,
            f"{report.seconds:.1f}",
        )
        for report in reports
        if report.id is not None
    ]
    if rows:
        console.table(columns, rows)
    for report in reports:
        kept_out = [f"{count} {kind.replace('_', ' ')}" for kind, count in report.not_pairs.items() if count]
        if kept_out:
            console.say(f"{report.handle or report.id}: no training pairs are {', '.join(kept_out)}")
        if report.pictures_failed:
            console.note(
                f"{report.pictures_failed} thumbnails failed and are tried again on a later sync; "
                "the table picture_failure says why"
            )
        if report.error is not None:
            console.error(f"{report.name}: {report.error}" if len(reports) > 1 else str(report.error))
        elif report.status == "interrupted":
            console.error("interrupted; everything so far is kept, run the command again to go on")


class _Shown:
    """The collector's progress as one bar: thumbnails, which take nearly all of the time."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._title = ""
        self._wanted = 0

    def channel(self, title: str) -> None:
        """Name the channel at work."""
        self._title = title
        self._bar.update(description=f"Syncing {title}")

    def listed(self, entries: int, total: int | None) -> None:
        """Show nothing: listing is quick."""

    def details(self, videos: int) -> None:
        """Show nothing: the thumbnails that follow are counted."""

    def pictures_wanted(self, pictures: int) -> None:
        """Raise the total."""
        self._wanted += pictures
        self._bar.update(total=self._wanted)

    def pictures_done(self, pictures: int) -> None:
        """Advance the bar."""
        self._bar.advance(pictures)


@contextmanager
def _shown(console: Console, channels: int) -> Iterator[_Shown]:
    with console.progress(f"Syncing {channels} channel{'' if channels == 1 else 's'}") as bar:
        yield _Shown(bar)
