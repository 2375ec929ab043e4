"""`thumbtune sync`: bring channels' videos and thumbnails up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from thumbtune.cli import App
from thumbtune.commands.options import json_option
from thumbtune.syncing import channels_file_option, read_request, sync_channels

if TYPE_CHECKING:
    from store.tables import SyncMode

__all__ = ["sync"]


@click.command()
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@channels_file_option
@click.option("--full", is_flag=True, help="List all uploads, and mark videos that are no longer listed.")
@click.option(
    "--refresh",
    is_flag=True,
    help="Read every known video again, to find changed titles and thumbnails and deleted videos.",
)
@click.option(
    "--min-duration",
    type=click.IntRange(0, 604_800),
    metavar="SECONDS",
    help="Videos shorter than this are Shorts, which are not used for training. Up to 181 s (by default, for 180 and "
    "181 s), the channel's list of Shorts decides; 0 uses Shorts, too. Kept for later syncs; 181 for a new channel.",
)
@click.option(
    "--thumbnail",
    type=click.Choice(["high", "maxres", "standard", "medium", "default", "best"]),
    help="The thumbnail size to fetch; if it is missing, another size is used. Kept for later syncs; high for a new "
    "channel. Stored thumbnails are replaced by the next --refresh.",
)
@click.option("--skip-busy", is_flag=True, help="Skip channels that another process, such as 'watch', is syncing.")
@click.option("--wide", is_flag=True, help="Show every channel and every column on a terminal.")
@json_option
@click.pass_obj
def sync(
    app: App,
    channels: tuple[str, ...],
    file: Path | None,
    full: bool,
    refresh: bool,
    min_duration: int | None,
    thumbnail: str | None,
    skip_busy: bool,
    wide: bool,
    as_json: bool,
) -> int:
    """Bring channels' videos and thumbnails up to date.

    CHANNEL is a channel's id (UC...), its handle (@name) or its URL. Without CHANNEL, every channel in the store that
    is not paused is synced. Known videos are not read again: a sync that finds nothing new costs 0 to 2 quota units.
    Every 24 hours, a handle is looked up again, which costs one unit. If it belongs to another channel now, that
    channel is synced, with a note.

    The environment variable YOUTUBE_API_KEY holds the API key. Exit code 3 means that the sync stopped early (quota
    spent, interrupted, some thumbnails failed); everything so far is kept, and the next sync continues.
    """
    if full and refresh:
        raise click.UsageError("--full and --refresh exclude each other; give one of them.")
    from collector.sync import SyncOptions  # noqa: PLC0415 (aiohttp is slow to import)
    from store.types import utc_now  # noqa: PLC0415

    mode: SyncMode = "full" if full else "refresh" if refresh else "incremental"
    options = SyncOptions(mode, min_duration, thumbnail, alone_since=utc_now() if skip_busy else None)
    asked = read_request(channels, file, app.config.values.get("channels", ()))
    with app.open_database(create=bool(asked.names)) as database:
        done = sync_channels(app.console, database, asked, options, wide=wide)
    if as_json:
        app.console.print_json({"channels": done.as_list()})
    return done.exit_code
