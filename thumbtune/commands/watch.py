"""`thumbtune watch`: keep channels up to date until stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from thumbtune.cli import App
from thumbtune.log_format import configure_logging
from thumbtune.stopping import run_until_stopped
from thumbtune.syncing import channels_file_option, read_request

if TYPE_CHECKING:
    from collector.http import Listen
    from collector.watch import Retraining

__all__ = ["watch"]

log = logging.getLogger(__name__)

PATIENCE_S = 8.0
"""How long work in progress may take after a signal: service managers kill after 10 s."""


@click.command()
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@channels_file_option
@click.option(
    "--every",
    default="6h",
    show_default=True,
    metavar="DURATION",
    help="The interval between syncs of a channel, varied by up to a tenth: 30m, 6h, 1d.",
)
@click.option(
    "--refresh-every",
    metavar="DURATION",
    help="Read all of a channel's videos again, as 'sync --refresh' does, if the last such read is this old: 25d.",
)
@click.option(
    "--units",
    type=click.IntRange(1),
    default=9000,
    show_default=True,
    metavar="N",
    help="API units that may be spent with the key on one day (Pacific time), by all commands on this store together.",
)
@click.option(
    "--retrain",
    is_flag=True,
    help="After syncs that brought something new, run 'thumbtune retrain --no-sync', at most once every DURATION.",
)
@click.option(
    "--listen",
    default="127.0.0.1:9464",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to serve /healthz, /readyz and /metrics; port 0 takes a free port.",
)
@click.option("--ui", "page", is_flag=True, help="Also serve the page of 'thumbtune ui', at 127.0.0.1:8460.")
@click.pass_obj
def watch(
    app: App,
    channels: tuple[str, ...],
    file: Path | None,
    every: str,
    refresh_every: str | None,
    units: int,
    retrain: bool,
    listen: str,
    page: bool,
) -> int:
    """Keep syncing on a schedule, with health and metrics endpoints, until stopped.

    CHANNEL is as in 'thumbtune sync'. Without CHANNEL, every channel in the store is synced, including those added
    later. A failed sync is logged and retried before the interval ends; other channels are not affected. A channel
    that another process is syncing is skipped.

    With --refresh-every, a sync that is due becomes a refresh if the channel's data is older than that. YouTube's
    terms allow 30 days without a refresh; see docs/terms.md.

    SIGTERM or Ctrl-C finishes the work in progress and exits with 0 within 10 s; a second signal exits with 3 within
    2 s. Logs go to stderr; 'thumbtune --log-format json watch' writes one JSON object a line.
    """
    from collector.http import parse_listen  # noqa: PLC0415 (aiohttp is slow to import)
    from collector.watch import Rhythm, Service, WatchOptions, parse_duration  # noqa: PLC0415
    from store.youtube import followed_ids  # noqa: PLC0415

    rhythm, address = Rhythm(parse_duration(every), socket.gethostname()), parse_listen(listen)
    refresh = None if refresh_every is None else parse_duration(refresh_every)
    options = WatchOptions(rhythm, units, _retraining(app) if retrain else None, address, refresh)
    asked = read_request(channels, file, app.config.values.get("channels", ()))
    _show_logs(app)
    with app.open_database(create=bool(asked.names)) as database:
        with database.read() as session:
            if not asked.names and not followed_ids(session):
                raise click.UsageError("The store has no channels yet; name one: thumbtune watch @HANDLE")
        log.info("watching %s, each every %s", ", ".join(map(str, asked.names)) or "all channels of the store", every)

        async def work(stop: asyncio.Event) -> None:
            async with _page(app, rhythm.every, units) if page else nullcontext():
                await Service(database, asked.names, asked.settings, options, stop=stop).run(_say_where)

        run_until_stopped(work, patience_s=PATIENCE_S)
    return 0


@asynccontextmanager
async def _page(app: App, every: timedelta, units: int) -> AsyncIterator[None]:
    """Serve the page in this process while the block runs; the model runs in a separate process."""
    from thumbtune.commands.ui import LISTEN, page_settings  # noqa: PLC0415
    from thumbtune.ui.server import serve_page  # noqa: PLC0415

    settings = replace(page_settings(app, LISTEN), every=every, units=units)
    async with serve_page(settings) as address:
        log.info("serving the page on http://%s/", address, extra={"address": str(address)})
        yield


def _show_logs(app: App) -> None:
    """Show logs even without -v, because a service has no other output."""
    quiet = app.console.verbosity < 0 and not app.debug
    configure_logging(2 if app.debug else 0 if quiet else max(1, app.console.verbosity), app.log_format)


def _retraining(app: App) -> Retraining:
    from collector.watch import Retraining  # noqa: PLC0415

    if find_spec("torch") is None:
        raise click.UsageError("--retrain needs the training stack; run pip install 'thumbtune[train]'")
    # The store's URL is not passed as an argument: it may contain a password, and every user can read arguments.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YOUTUBE_API_KEY")}
    environment["THUMBTUNE_DB"] = app.db_url
    return Retraining([sys.executable, "-m", "thumbtune", "retrain", "--no-sync"], environment)


def _say_where(address: Listen) -> None:
    log.info("answering on http://%s", address, extra={"address": str(address)})
    if not address.is_loopback:
        log.warning("anyone who can reach %s can read the service's health and metrics", address)
