"""`thumbtune channels`: list the channels in the store, add, pause or remove some."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from store.wording import counted
from thumbtune.cli import App
from thumbtune.commands.options import json_option, note_old_spelling
from thumbtune.stopping import run
from thumbtune.syncing import channels_in, read_request

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from store.youtube import ChannelContents

__all__ = ["channels"]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def channels(ctx: click.Context, as_json: bool) -> None:
    """List, add, pause and remove channels.

    In the list, "pairs" is the number of videos that can be trained on, and "units" is the number of quota units that
    all syncs of the channel have cost.
    """
    app = ctx.find_object(App)
    assert app is not None
    if ctx.invoked_subcommand is None:
        _list(app, as_json=as_json)


@channels.command("list", short_help="List the channels in the store.")
@json_option
@click.pass_obj
def list_(app: App, as_json: bool) -> None:
    """List the channels in the store. 'thumbtune channels' does the same."""
    _list(app, as_json=as_json)


@channels.command(short_help="Add channels without syncing them.")
@click.argument("names", metavar="FILE|CHANNEL...", nargs=-1, required=True)
@json_option
@click.pass_obj
def add(app: App, names: tuple[str, ...], as_json: bool) -> int:
    """Add channels, which 'sync' and 'watch' will then keep up to date.

    Name the channels, or a FILE with one channel on each line. A channel that is new to the store costs one quota unit.
    A paused channel is resumed. Exit code 1 means that some channels could not be added; the others were.
    """
    from collector.sync import add_channels  # noqa: PLC0415 (aiohttp is slow to import)
    from store.youtube import pause_channel  # noqa: PLC0415

    missing = next((name for name in names if name.endswith((".txt", ".csv")) and not _is_file(name)), None)
    if missing is not None:
        raise click.UsageError(f"there is no file {missing}; name channels, or a file with one on each line.")
    each = [name for given in names for name in (channels_in(Path(given)) if _is_file(given) else [given])]
    asked = read_request(each)
    with app.open_database(create=True) as database:
        found = run(add_channels(database, asked.names, asked.settings))
        added = {name: id_ for name, id_ in zip(asked.names, found, strict=True) if isinstance(id_, str)}
        with database.write() as session:
            for channel_id in added.values():
                pause_channel(session, channel_id, None)
    failed = {
        str(name): str(error) for name, error in zip(asked.names, found, strict=True) if isinstance(error, Exception)
    }
    for name, reason in failed.items():
        app.console.error(f"{name}: {reason}")
    app.console.say(f"added {counted(len(added), 'channel')}; next: thumbtune sync")
    if as_json:
        app.console.print_json({"added": {str(name): id_ for name, id_ in added.items()}, "failed": failed})
    return 1 if failed else 0


def _is_file(name: str) -> bool:
    return not name.startswith("@") and Path(name).is_file()


@channels.command(short_help="Stop syncing channels until they are resumed.")
@click.argument("names", metavar="CHANNEL...", nargs=-1, required=True)
@json_option
@click.pass_obj
def pause(app: App, names: tuple[str, ...], as_json: bool) -> None:
    """Stop syncing channels until 'thumbtune channels resume'. Nothing is deleted.

    'sync', 'retrain' and 'watch' skip a paused channel unless you name it.
    """
    from store.types import utc_now  # noqa: PLC0415

    _set_paused(app, names, utc_now(), as_json=as_json)


@channels.command(short_help="Sync paused channels again.")
@click.argument("names", metavar="CHANNEL...", nargs=-1, required=True)
@json_option
@click.pass_obj
def resume(app: App, names: tuple[str, ...], as_json: bool) -> None:
    """Sync paused channels again."""
    _set_paused(app, names, None, as_json=as_json)


def _set_paused(app: App, names: tuple[str, ...], since: datetime | None, *, as_json: bool) -> None:
    from store.youtube import pause_channel  # noqa: PLC0415

    with app.open_database() as database, database.write() as session:
        ids = [_channel_id(session, name) for name in names]
        for channel_id in ids:
            pause_channel(session, channel_id, since)
    done = "resumed" if since is None else "paused"
    for name in names:
        app.console.say(f"{done} {name}")
    if as_json:
        app.console.print_json({done: ids})


def _stop_syncing(app: App, name: str, *, as_json: bool) -> None:
    """Pause a channel, and say what stays in the store."""
    from store.types import utc_now  # noqa: PLC0415
    from store.youtube import contents_of, pause_channel  # noqa: PLC0415

    with app.open_database() as database, database.write() as session:
        kept = contents_of(session, _channel_id(session, name))
        pause_channel(session, kept.channel_id, utc_now())
    app.console.say(
        f"{kept.handle or kept.channel_id} is no longer synced; the store keeps {counted(kept.videos, 'video')}, "
        f"{counted(kept.thumbnails, 'thumbnail file')} and {counted(kept.syncs, 'sync')}"
    )
    app.console.note(f"to delete them: thumbtune channels remove {name} --purge")
    if as_json:
        app.console.print_json({"paused": [kept.channel_id], "kept": asdict(kept)})


def _list(app: App, *, as_json: bool) -> None:
    from store.youtube import summaries  # noqa: PLC0415 (SQLAlchemy is slow to import)

    with app.open_database(create=False) as database, database.read() as session:
        found = summaries(session)
    if as_json:
        app.console.print_json({"channels": [asdict(summary) for summary in found]})
        return
    if not found:
        app.console.say("The store has no channels yet; run: thumbtune sync @HANDLE")
        return
    app.console.table(
        ("channel", "title", "videos", "pairs", "last sync", "status", "units"),
        [
            (
                row.handle or row.id,
                row.title,
                row.videos,
                row.pairs,
                row.last_sync_at,
                row.last_status if row.paused_at is None else "paused",
                row.units,
            )
            for row in sorted(found, key=lambda row: (row.handle or row.id).casefold())
        ],
    )


@channels.command(short_help="Stop syncing a channel; with --purge, delete its data.")
@click.argument("channel", metavar="CHANNEL")
@click.option("--purge", is_flag=True, help="Delete all data of the channel.")
@click.option(
    "--keep-runs",
    is_flag=True,
    help="With --purge: keep the titles and thumbnails that training runs used, so that the runs can be scored and "
    "repeated.",
)
@click.option("--yes", is_flag=True, help="With --purge: do not ask for confirmation.")
@json_option
@click.pass_context
def remove(ctx: click.Context, channel: str, purge: bool, keep_runs: bool, yes: bool, as_json: bool) -> int:
    """Stop syncing a channel; with --purge, delete all data of it.

    CHANNEL is as in 'thumbtune sync'. Without --purge, nothing is deleted: the channel is paused, as by
    'thumbtune channels pause', and its videos, thumbnails and history stay in the store and are still used for
    training.

    --purge deletes its videos, thumbnails, history, counts and cached vectors. The command lists what it deletes, and
    asks for confirmation. Training runs keep their settings, recalls and ranks, by video ids; without --keep-runs, they
    lose the channel's titles and thumbnails, and can no longer be scored or repeated. Trained models, exports and
    backups are not changed; see docs/terms.md.

    An SQLite file is then rewritten, so that no trace of the channel remains and the file shrinks: that needs as much
    free space as the store takes. If it was interrupted, run the command again, or 'thumbtune db vacuum'. Thumbnails in
    a folder or bucket (see docs/scale.md) are deleted there, except older versions that a bucket keeps by itself.
    """
    app = ctx.find_object(App)
    assert app is not None
    if not purge and (yes or keep_runs):
        # Before --purge existed, the command always deleted, so options that only make sense with --purge imply it.
        old = "channels remove --yes" if yes else "channels remove --keep-runs"
        note_old_spelling(ctx, old, old.replace("remove", "remove --purge"))
        purge = True
    if not purge:
        _stop_syncing(app, channel, as_json=as_json)
        return 0
    return _purge(app, channel, keep_runs=keep_runs, yes=yes, as_json=as_json)


def _purge(app: App, channel: str, *, keep_runs: bool, yes: bool, as_json: bool) -> int:
    from store.db import delete_files, vacuum  # noqa: PLC0415
    from store.errors import StoreError  # noqa: PLC0415
    from store.processes import is_alive  # noqa: PLC0415
    from store.training import this_machine  # noqa: PLC0415
    from store.types import utc_now  # noqa: PLC0415
    from store.youtube import contents_of, remove_channel  # noqa: PLC0415

    with app.open_database(create=False) as database:
        with database.read() as session:
            contents = contents_of(session, _channel_id(session, channel))
        for line in _deletion_summary(contents, keep_runs=keep_runs):
            app.console.say(line)
        if not yes:
            _confirm()
        with database.write() as session:
            files = remove_channel(
                session,
                contents.channel_id,
                keep_runs=keep_runs,
                host=this_machine(),
                is_alive=is_alive,
                now=utc_now(),
            )
        app.console.say(f"removed {contents.handle or contents.channel_id}")
        rewritten = True
        try:
            delete_files(database, files)
        except StoreError as error:
            rewritten = False
            app.console.say(f"the channel is removed, but not all of its thumbnail files: {error}")
            app.console.say("run 'thumbtune db check --repair' an hour from now: it deletes them")
        try:
            if database.is_sqlite:
                vacuum(database)
        except StoreError as error:
            rewritten = False
            app.console.say(f"the channel is removed, but the file still holds traces of it: {error}")
            app.console.say("run 'thumbtune db vacuum' when no other process uses the store")
    if not database.is_sqlite:
        app.console.say("PostgreSQL frees the space by itself; VACUUM FULL does it at once (see docs/terms.md)")
    if as_json:
        app.console.print_json({"removed": asdict(contents), "kept_runs": keep_runs, "rewritten": rewritten})
    return 0 if rewritten else 1


def _channel_id(session: Session, name: str) -> str:
    """Return the id of a channel in the store; a removed channel must be named by its id."""
    from collector.sync import known_channel  # noqa: PLC0415
    from collector.youtube import parse_channel_name  # noqa: PLC0415
    from store.errors import NotFound  # noqa: PLC0415

    parsed = parse_channel_name(name)
    found = parsed.value if parsed.kind == "id" else known_channel(session, parsed)
    if found is None:
        raise NotFound(f"the store has no channel {name}; 'thumbtune channels' lists its channels")
    return found


def _deletion_summary(contents: ChannelContents, *, keep_runs: bool) -> list[str]:
    """Describe what is deleted, and what happens to the runs."""
    lines = [
        f"{contents.handle or 'channel'} ({contents.channel_id}, {contents.title or 'removed'}): "
        f"{counted(contents.videos, 'video')}, {counted(contents.versions, 'version')} of titles and thumbnails, "
        f"{counted(contents.thumbnails, 'thumbnail file')}, {counted(contents.readings, 'reading')} of their counts "
        f"and {counted(contents.syncs, 'sync')} will be deleted"
    ]
    if contents.examples:
        runs = ", ".join(map(str, contents.runs)) or "none"
        fate = (
            "their titles and thumbnails stay for these runs only"
            if keep_runs
            else "they lose their titles and thumbnails, and these runs can no longer be scored or repeated"
        )
        lines.append(f"{contents.examples} of its pairs are in snapshots of runs {runs}: {fate}")
    return lines


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("This deletes data, and standard input is not a terminal; confirm with --yes.")
    click.confirm("Delete?", abort=True, err=True)
