"""`thumbtune demo`: run the main commands on a stand-in channel, without key or network."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from thumbtune.cli import App
from thumbtune.commands.options import json_option

__all__ = ["demo"]

SERVED_STORE = "sqlite:///thumbtune-stand-in.db"
"""Not the default name, because the lines may be pasted into a folder that already has a store."""


@click.command()
@click.option(
    "--channel",
    "channel_dir",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Serve this folder (videos.json, thumbnails/ID.jpg) instead of the drawn channel.",
)
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="An empty folder to write the store and the models to.  [default: thumbtune-demo, -2, -3, ...]",
)
@click.option(
    "--ui",
    "page",
    is_flag=True,
    help="At the end, serve the web page of 'thumbtune ui' for the demo's store, until interrupted.",
)
@click.option("--serve", is_flag=True, help="Only run the server, until interrupted.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The server's port; 0 takes a free one.")
@json_option
@click.pass_obj
def demo(
    app: App, channel_dir: Path | None, folder: Path | None, page: bool, serve: bool, port: int, as_json: bool
) -> int:
    """Run the main commands on a stand-in channel: sync, train, publish, sync again, retrain.

    A server on this machine stands in for YouTube: it serves the Data API, the feed and the thumbnails of a drawn
    channel, and charges quota as YouTube does. The model is a small one that ships with thumbtune; nothing is
    downloaded. With --channel, the words on the thumbnails are also read if the extra thumbtune[reader] is installed.
    """
    if serve and (folder or as_json or page):
        other = "--dir" if folder else "--json" if as_json else "--ui"
        raise click.UsageError(f"--serve and {other} exclude each other; give one of them.")
    from thumbtune.demo.channel import drawn_channel  # noqa: PLC0415
    from thumbtune.demo.session import DRAWN, Session, hold_back, new_folder, tell, training_options  # noqa: PLC0415
    from thumbtune.standin.folder import load_folder  # noqa: PLC0415
    from thumbtune.standin.server import StandIn  # noqa: PLC0415

    catalogue = load_folder(channel_dir) if channel_dir else drawn_channel()
    if channel_dir and training_options(channel_dir) == DRAWN:
        app.console.note(
            "note: the words on the thumbnails are not read, and the demo's small model was only trained on drawn "
            "pictures, so expect results near chance; run pip install 'thumbtune[reader]', then the demo again"
        )
    if serve:
        with StandIn(catalogue, port=port) as server:
            _serve(app, server, catalogue.handle, training_options(channel_dir))
        return 0
    newest = hold_back(catalogue)
    place = _empty(folder) if folder else new_folder(Path.cwd())
    with StandIn(catalogue, port=port) as server:
        session = Session(place, server, app.console.say, as_json, training_options(channel_dir))
        tell(session, catalogue, newest)
    if as_json:
        app.console.print_json({"store": session.store_url, "steps": session.results})
    if not page:
        return 0
    from thumbtune.commands.ui import page_settings, run_page  # noqa: PLC0415

    served = replace(app, db_url=session.store_url)
    return run_page(served, page_settings(served, "127.0.0.1:0"), browser=True)


def _empty(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} is not empty; name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _serve(app: App, server: object, handle: str, options: Sequence[str]) -> None:
    from thumbtune.standin.server import StandIn  # noqa: PLC0415

    assert isinstance(server, StandIn)
    try:
        for name, value in {**server.environment(), "THUMBTUNE_DB": SERVED_STORE}.items():
            app.console.say(f"export {name}={value}")
        app.console.say(f"# the channel: {handle}")
        app.console.out.flush()
        app.console.note(f"Serving {handle}; in another shell, paste the lines above, then:")
        app.console.note(f"  thumbtune sync {handle}")
        app.console.note(f"  thumbtune train {' '.join(options)}")
        app.console.note("Ctrl-C ends the server.")
        signal.pause()
    except KeyboardInterrupt:
        app.console.note("stopped")
