"""`thumbtune import`: import pairs from files into the store, without an API key."""

from __future__ import annotations

import os

import click

from store.wording import counted
from thumbtune.cli import App
from thumbtune.commands.options import json_option

__all__ = ["import_"]

SHOWN = 10


@click.command("import")
@click.argument("source", metavar="SOURCE")
@click.option(
    "--channel",
    metavar="NAME",
    help="The channel of rows without a channel: an id, a handle or any name.  [default: the name of SOURCE]",
)
@json_option
@click.pass_obj
def import_(app: App, source: str, channel: str | None, as_json: bool) -> int:
    """Import thumbnails and titles from SOURCE; no API key is needed.

    SOURCE is a folder with the thumbnails and videos.json, metadata.csv or metadata.jsonl; a CSV, JSON, JSON Lines or
    Parquet file with a title and the path or URL of a thumbnail in each row; a folder saved by the datasets library; or
    the name of a dataset on the Hugging Face Hub (OWNER/NAME). Rows may also have an id, a date, a duration in seconds,
    tags and a channel. docs/importing.md lists the column names.

    Importing the same source again only adds what is new or changed. Rows that can't be imported are reported, and the
    others are imported; exit code 3 means that there were such rows.
    """
    from collector.settings import thumbnail_hosts_from  # noqa: PLC0415 (aiohttp is slow to import)
    from thumbtune.importing import import_rows, open_source  # noqa: PLC0415

    found = open_source(source)
    with app.open_database(create=True) as database, app.console.progress(f"Importing {found.name}") as bar:
        hosts = thumbnail_hosts_from(os.environ)
        done = import_rows(database, found, channel=channel, hosts=hosts, advance=bar.advance)
    handles = ", ".join(handle or id_ for id_, handle in list(done.channels.items())[:3])
    more = f" and {len(done.channels) - 3} more" if len(done.channels) > 3 else ""
    app.console.say(
        f"{counted(done.rows, 'row')} of {handles or found.name}{more}: {done.new} new, {done.changed} changed, "
        f"{done.unchanged} unchanged, {len(done.bad)} left out"
    )
    for where, reason in done.bad[:SHOWN]:
        app.console.error(f"{where}: {reason}")
    if len(done.bad) > SHOWN:
        app.console.error(f"and {counted(len(done.bad) - SHOWN, 'more row')}; --json lists all")
    if done.new or done.changed:
        app.console.next_step("thumbtune train")
    if as_json:
        app.console.print_json(
            {
                "rows": done.rows,
                "new": done.new,
                "changed": done.changed,
                "unchanged": done.unchanged,
                "channels": done.channels,
                "left_out": [{"row": where, "reason": reason} for where, reason in done.bad],
            }
        )
    if done.bad and not (done.new or done.changed or done.unchanged):
        return 1
    return 3 if done.bad else 0
