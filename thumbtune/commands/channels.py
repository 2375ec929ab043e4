"""`thumbtune channels`: what is in the store, by channel."""

from __future__ import annotations

from dataclasses import asdict

import click

from thumbtune.cli import App

__all__ = ["channels"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
@click.pass_obj
def channels(app: App, as_json: bool) -> None:
    """List the channels in the store.

    Pairs are the videos that can be trained on now; units are what all syncs of a channel have cost.
    """
    from store.channels import summaries  # noqa: PLC0415 (SQLAlchemy is slow to import)

    app.console.json_wanted = as_json
    database = app.open_database(create=False)
    try:
        with database.read() as session:
            found = summaries(session)
    finally:
        database.close()
    if as_json:
        app.console.print_json({"channels": [asdict(summary) for summary in found]})
        return
    if not found:
        app.console.say("The store has no channels yet; run: thumbtune sync @HANDLE")
        return
    app.console.table(
        ("channel", "handle", "title", "videos", "pairs", "last sync", "status", "units"),
        [
            (row.id, row.handle, row.title, row.videos, row.pairs, row.last_sync_at, row.last_status, row.units)
            for row in found
        ],
    )
