"""Functions that `sync` and `retrain` share: sync channels with progress, and print the results."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from store.wording import counted
from thumbtune.console import Console, Progress
from thumbtune.stopping import run_until_stopped

if TYPE_CHECKING:
    from collector.settings import Settings
    from collector.sync import SyncOptions, SyncReport
    from collector.youtube import ChannelName
    from store.db import Database

__all__ = ["Asked", "Synced", "channels_file_option", "channels_in", "read_request", "sync_channels"]


@dataclass(frozen=True)
class Synced:
    """The results of a sync.

    Args:
        reports: one report for each channel whose sync began.
        asked: the number of channels to sync.
    """

    reports: list[SyncReport]
    asked: int

    @property
    def exit_code(self) -> int:
        """0 done, 3 stopped early with everything kept, otherwise the exit code of the first failure."""
        codes = [report.exit_code for report in self.reports]
        failures = [code for code in codes if code not in (0, 3)]
        if failures:
            return failures[0]
        return 3 if 3 in codes or len(self.reports) < self.asked else 0

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the sync."""
        return len(self.reports) < self.asked or any(report.status == "interrupted" for report in self.reports)

    @property
    def stops_training(self) -> bool:
        """Whether a channel failed with an error that another sync may fix. A closed channel stays closed."""
        from collector.errors import ChannelGone  # noqa: PLC0415 (without a sync, the collector is not loaded)

        return self.interrupted or any(
            report.exit_code not in (0, 3) and not isinstance(report.error, ChannelGone) for report in self.reports
        )

    def as_list(self) -> list[dict[str, Any]]:
        """The JSON form: one document for each channel."""
        return [report.as_dict() for report in self.reports]


@dataclass(frozen=True)
class Asked:
    """The request, known before the store is opened: the channels (empty: all in the store), the key and the URLs."""

    names: list[ChannelName]
    settings: Settings


def read_request(channels: Sequence[str], file: Path | None = None, otherwise: Sequence[str] = ()) -> Asked:
    """Read the channels that a user named, without duplicates, and the environment.

    Args:
        channels: the names.
        file: a file with more names, see `channels_in`.
        otherwise: the names to use if no channel is named: the channels in the settings file.

    Raises:
        CollectorError: a channel's name or a setting in the environment is invalid.
        click.UsageError: the file can't be read, or names no channel.
    """
    from collector.settings import settings_from  # noqa: PLC0415 (aiohttp is slow to import)

    named = [*channels, *([] if file is None else channels_in(file))] or otherwise
    return Asked(_parsed(named), settings_from(os.environ))


channels_file_option = click.option(
    "--channels",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file with one channel on each line; # starts a comment.",
)


def channels_in(file: Path) -> list[str]:
    """Return the channels that a file names: one per line, in UTF-8; text after a `#` is a comment.

    Raises:
        click.UsageError: the file can't be read, or names no channel.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise click.UsageError(f"{file} can't be read ({error.strerror}); check the file.") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8 text; save it as UTF-8.") from error
    # A `#` within a URL does not start a comment.
    names = [re.split(r"(?:^|\s)#", line)[0].strip() for line in lines]
    found = [name for name in names if name]
    if not found:
        raise click.UsageError(f"{file} names no channel; write one on each line, such as @HANDLE.")
    return found


def _parsed(channels: Sequence[str]) -> list[ChannelName]:
    from collector.youtube import parse_channel_name  # noqa: PLC0415

    return list(dict.fromkeys(parse_channel_name(channel) for channel in channels))


def sync_channels(
    console: Console, database: Database, asked: Asked, options: SyncOptions, *, wide: bool = False
) -> Synced:
    """Sync the named channels, or every channel in the store, and print the results.

    Args:
        console: where to print.
        database: the store.
        asked: see `read_request`.
        options: the options for every channel.
        wide: print every channel and column on a terminal too.

    Raises:
        StoreError: the database failed.
        click.UsageError: there is nothing to sync.
    """
    from collector.sync import sync_channels as sync  # noqa: PLC0415
    from store.youtube import followed_ids, summaries  # noqa: PLC0415

    names = asked.names
    if not names:
        with database.read() as session:
            names = _parsed(followed_ids(session))
    if not names:
        raise click.UsageError("The store has no channels yet; name one: thumbtune sync @HANDLE")
    with console.progress(f"Syncing {counted(len(names), 'channel')}") as bar:
        reports = run_until_stopped(
            lambda stop: sync(database, names, asked.settings, options, progress=_Shown(bar), stop=stop)
        )
    pairs: dict[str, int] = {}
    if any(report.new or report.changed or report.gone for report in reports):
        with database.read() as session:
            pairs = {channel.id: channel.pairs for channel in summaries(session)}
    _tell(console, reports, pairs, brief=console.on_terminal and not wide)
    synced = Synced(reports, len(names))
    if any(report.new for report in reports):
        console.next_step("thumbtune train")
    if synced.interrupted:
        console.error("interrupted; everything so far is kept; run the command again to continue")
    return synced


_COLUMNS = {
    **{name: name for name in ("status", "listed", "new", "changed", "gone")},
    "thumbnails": "pictures_fetched",
    "failed": "pictures_failed",
    "units": "units",
}
"""{column of the table: field of a report}."""
_MAY_BE_ZERO = ("listed", "changed", "gone", "failed")
"""Columns that a terminal of 80 columns shows only if they are not all zero."""
_MOST_SHOWN = 6
"""The maximum number of channels that a terminal shows, so that the summary stays on the screen."""


def _meaning(reports: Sequence[SyncReport], pairs: Mapping[str, int]) -> str:
    """Summarise a sync in one line.

    Args:
        reports: the channels' reports.
        pairs: {channel id: number of pairs}; empty if nothing changed.
    """
    done = [report for report in reports if report.exit_code in (0, 3)]
    who = counted(len(reports), "channel")
    if len(done) < len(reports):
        who = f"{len(done)} of {who}"
    if len(reports) == 1:
        who = reports[0].handle or reports[0].id or reports[0].name
    new, changed, gone = (sum(getattr(report, name) for report in reports) for name in ("new", "changed", "gone"))
    found = [
        counted(new, "new video") if new else "",
        f"{changed} with a new title or thumbnail" if changed else "",
        f"{gone} gone" if gone else "",
    ]
    if not any(found):
        return f"{who}: nothing new"
    n = sum(pairs.get(report.id or "", 0) for report in reports)
    return f"{who}: {', '.join(filter(None, found))}; {counted(n, 'pair')} of thumbnail and title to train on"


def _tell(console: Console, reports: Sequence[SyncReport], pairs: Mapping[str, int], *, brief: bool) -> None:
    if any(report.id is not None for report in reports):
        console.say(_meaning(reports, pairs))
    shown = list(reports)
    if brief:
        # Failed channels come first.
        shown = sorted(filter(_is_news, reports), key=lambda report: report.exit_code == 0)[:_MOST_SHOWN]
    _print_table(console, shown, brief=brief)
    if shown and len(shown) < len(reports):
        console.note(
            f"and {counted(len(reports) - len(shown), 'more channel')}; --wide or 'thumbtune channels' shows all"
        )
    for report in shown:
        kept_out = [f"{count} {_reason(kind, count)}" for kind, count in report.not_pairs.items() if count]
        if kept_out:
            console.say(f"{report.handle or report.id}: left out: {', '.join(kept_out)}")
    for report in reports:
        if report.pictures_failed:
            console.note(
                f"{report.handle or report.id}: {counted(report.pictures_failed, 'thumbnail')} failed; the next sync "
                "tries again. The table picture_failure has the reasons"
            )
        for notice in report.notices:
            console.note(f"note: {notice}")
        if report.error is not None:
            console.error(f"{report.name}: {report.error}" if len(reports) > 1 else str(report.error))


def _is_news(report: SyncReport) -> bool:
    found = (report.new, report.changed, report.gone, report.pictures_fetched, report.pictures_failed)
    return report.exit_code != 0 or any(found)


def _print_table(console: Console, reports: Sequence[SyncReport], *, brief: bool) -> None:
    columns = ("channel", *_COLUMNS, "seconds")
    rows = [
        (report.handle or report.id, *(getattr(report, name) for name in _COLUMNS.values()), f"{report.seconds:.1f}")
        for report in reports
        if report.id is not None
    ]
    kept = [
        at for at, name in enumerate(columns) if not brief or name not in _MAY_BE_ZERO or any(row[at] for row in rows)
    ]
    if rows:
        console.table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows])


def _reason(kind: str, count: int) -> str:
    """Describe a reason why videos are not usable for training, as printed after their number."""
    words = {"short": "Short" if count == 1 else "Shorts", "gone": "deleted", "no_picture": "without a thumbnail"}
    return words.get(kind, kind)


class _Shown:
    """The collector's progress as one bar of thumbnails, which take nearly all of the time."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._wanted = 0

    def channel(self, title: str) -> None:
        """Show the channel's name."""
        self._bar.update(description=f"Syncing {title}")

    def listed(self, entries: int, total: int | None) -> None:
        """Show nothing, because listing is quick."""

    def details(self, videos: int) -> None:
        """Show nothing, because the thumbnails that follow are counted."""

    def pictures_wanted(self, pictures: int) -> None:
        """Raise the total."""
        self._wanted += pictures
        self._bar.update(total=self._wanted)

    def pictures_done(self, pictures: int) -> None:
        """Advance the bar."""
        self._bar.advance(pictures)
