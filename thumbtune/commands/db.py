"""`thumbtune db`: maintain the store."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from store.wording import counted
from thumbtune.cli import App
from thumbtune.commands.options import json_option
from thumbtune.interrupts import STOPPED_EARLY, work_is_complete
from thumbtune.stopping import run_until_stopped

if TYPE_CHECKING:
    from collector.sync import Repair
    from store.db import Check

__all__ = ["db"]


@click.group()
def db() -> None:
    """Upgrade, check, copy, back up and restore the store."""


@db.command()
@json_option
@click.pass_obj
def upgrade(app: App, as_json: bool) -> None:
    """Create the store, or upgrade it to this version's schema.

    Other commands upgrade the store before their first write. Run this after an update to upgrade at a time you choose.
    """
    from store.db import current_revision, head_revision  # noqa: PLC0415

    with app.open_database(create=True) as database, database.read() as session:
        revision = current_revision(session.connection())
    if as_json:
        app.console.print_json({"store": str(database), "revision": revision, "newest": head_revision()})
    else:
        app.console.say(f"{database} is at revision {revision}, the newest")


@db.command(short_help="Look for damage in the store; --repair fetches damaged thumbnails again.")
@click.option("--repair", is_flag=True, help="Fetch damaged and missing thumbnails again.")
@json_option
@click.pass_obj
def check(app: App, repair: bool, as_json: bool) -> int:
    """Check the store: file structure, references, schema, and every thumbnail's digest.

    Without --repair, nothing is changed, except that damaged thumbnails in a folder or bucket are marked as failed, so
    that the next sync fetches them again. --repair needs the network, but no API key. If YouTube shows another
    thumbnail now, it is stored for the video, and the damaged one is reported: it remains in the history only, and
    training leaves it out. --repair also deletes files in a folder or bucket that belong to no thumbnail and are older
    than an hour.

    Exit code 0 means that the store is sound or was repaired; 1 that some damage remains.
    """
    checks, store = _checked(app)
    sound, interrupted = not any(result.problems for result in checks), False
    document: dict[str, object] = {"store": store, "problems": {check.name: list(check.problems) for check in checks}}
    lost = [digest for result in checks for digest in result.digests]
    if lost and not repair:
        _mark_lost(app, lost)
    if repair:
        document["deleted_files"] = _without_orphans(app)
    if repair and not sound:
        repairs, interrupted = _repaired(app)
        if repairs:
            app.console.say("after the repair:")
            checks, _ = _checked(app)
            sound = not any(result.problems for result in checks)
        document["repaired"] = [done.sha256 for done in repairs if done.reason is None]
        document["not_repaired"] = {done.sha256: done.reason for done in repairs if done.reason is not None}
    elif not sound and any(result.name == "pictures" and result.problems for result in checks):
        app.console.note("note: 'thumbtune db check --repair' fetches damaged thumbnails again")
    if as_json:
        app.console.print_json({"sound": sound, **document})
    if interrupted:
        return STOPPED_EARLY
    return 0 if sound else 1


def _checked(app: App) -> tuple[list[Check], str]:
    """Run the checks and print their results; return them, and the store's name."""
    from store.db import check as look  # noqa: PLC0415

    checks = []
    with app.open_database(read_only=True) as database:
        for result in look(database):
            checks.append(result)
            state = "ok" if not result.problems else counted(len(result.problems), "problem")
            app.console.say(f"{result.name}: {state}{f' ({result.detail})' if result.detail else ''}")
            for problem in result.problems:
                app.console.say(f"  {problem}")
    return checks, str(database)


def _mark_lost(app: App, digests: list[str]) -> None:
    """Mark lost thumbnails outside the database as failed."""
    from store.types import utc_now  # noqa: PLC0415
    from store.youtube import mark_lost  # noqa: PLC0415

    with app.open_database() as database:
        if database.pictures is None or database.unwritable:
            return
        with database.write() as session:
            videos = mark_lost(session, digests, utc_now())
    app.console.note(f"note: the next sync fetches the thumbnails of {counted(videos, 'video')} again")


def _without_orphans(app: App) -> int:
    """Delete the files in folders and buckets that belong to no thumbnail; return their number."""
    from store.db import delete_orphans  # noqa: PLC0415
    from store.types import utc_now  # noqa: PLC0415

    with app.open_database() as database:
        deleted = delete_orphans(database, utc_now())
    if deleted:
        app.console.say(f"deleted {counted(deleted, 'file')} without a thumbnail in the store")
    return deleted


def _repaired(app: App) -> tuple[list[Repair], bool]:
    """Fetch damaged thumbnails again and print the results; return them, and whether a signal ended it early."""
    from collector.settings import thumbnail_hosts_from  # noqa: PLC0415
    from collector.sync import repair_pictures  # noqa: PLC0415 (aiohttp is slow to import)
    from store.db import pictures_to_repair  # noqa: PLC0415

    hosts = thumbnail_hosts_from(os.environ)
    with app.open_database() as database:
        with database.read() as session:
            damaged = pictures_to_repair(session)
        if not damaged:
            return [], False
        repairs = run_until_stopped(lambda stop: repair_pictures(database, damaged, hosts, stop=stop))
    for done in repairs:
        app.console.say(f"thumbnail {done.sha256}: {done.reason or 'repaired'}")
    interrupted = len(repairs) < len(damaged)
    if interrupted:
        app.console.error("interrupted; what was repaired is kept; run the command again to continue")
    return repairs, interrupted


@db.command("move-pictures", short_help="Move all thumbnails into the database, a folder or a bucket.")
@click.argument("place", metavar="database|file:///DIR|s3://BUCKET/PREFIX")
@click.option("--keep-files", is_flag=True, help="Leave the files in the old place, for another copy of the store.")
@json_option
@click.pass_obj
def move_command(app: App, place: str, keep_files: bool, as_json: bool) -> int:
    """Move all thumbnails into the database, a folder, or a bucket of S3 or a compatible object store.

    New thumbnails go there as soon as the move starts. To continue an interrupted move, run the same command again.
    Restart 'watch' and 'ui' afterwards, with THUMBTUNE_PICTURES set to the new place. Damaged thumbnails are not moved;
    exit code 1 means that there are some. See docs/scale.md.
    """
    from store.db import move_pictures, open_database, place_url  # noqa: PLC0415

    url = place_url(place)
    # Not `app.open_database`: while the thumbnails move, THUMBTUNE_PICTURES names the old or the new place.
    with open_database(app.db_url, create=False) as database:
        done = move_pictures(database, url, app.console.phase, keep_files=keep_files)
        name = url or "the database"
        app.console.say(f"{counted(done.moved, 'thumbnail')} moved to {name}")
        for sha256 in done.unsound:
            app.console.say(f"thumbnail {sha256} is damaged or missing, and was not moved")
        for old in done.kept:
            app.console.say(f"the files in {old} were not deleted, because it can't be reached now")
        setting = "unset THUMBTUNE_PICTURES" if url is None else f"set THUMBTUNE_PICTURES={url}"
        app.console.note(f"note: from now on, {setting}")
        if database.is_sqlite and url is not None and done.moved:
            app.console.note("note: 'thumbtune db vacuum' reduces the size of the store's file")
    if as_json:
        document = {"place": name, "moved": done.moved, "not_moved": list(done.unsound), "not_deleted": list(done.kept)}
        app.console.print_json(document)
    return 1 if done.unsound else 0


@db.command(short_help="Back up an SQLite store and its trained models.")
@click.argument("file", metavar="FILE|DIR", type=click.Path(path_type=str))
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Delete all but the newest N backups in DIR.")
@json_option
@click.pass_obj
def backup(app: App, file: str, keep: int | None, as_json: bool) -> None:
    """Copy an SQLite store to the new FILE, or the store and its trained models to a new folder in DIR.

    The argument is a DIR if it is an existing folder, ends with a slash, or --keep is given. The copy is consistent
    even during a sync or a training run. The store does not have to be upgraded first. 'thumbtune db restore' restores
    a backup from DIR. Back up a PostgreSQL store with pg_dump; see docs/service.md.
    """
    from store.db import backup as copy  # noqa: PLC0415
    from store.db import outside_files  # noqa: PLC0415
    from thumbtune.backups import backup_into  # noqa: PLC0415

    if not file.strip():
        raise click.UsageError("FILE|DIR is empty; name a file, or '.' for the current folder.")
    place = Path(file)
    into_folder = keep is not None or file.endswith(("/", os.sep)) or place.is_dir()
    with app.open_database(read_only=True, any_revision=True) as database:
        if not into_folder:
            size = copy(database, place)
            work_is_complete()
            document: dict[str, object] = {"file": str(place), "bytes": size}
            summary = f"{place}: {counted(size, 'byte')}"
        else:
            done = backup_into(database, place, keep)
            work_is_complete()
            document = {"folder": str(done.folder), "models": done.models, "deleted": list(map(str, done.deleted))}
            summary = f"{done.folder}: the store and {counted(done.models, 'model')}"
            if done.deleted:
                summary += f"; {counted(len(done.deleted), 'older backup')} deleted"
        outside = outside_files(database)
    if as_json:
        app.console.print_json(document)
    else:
        app.console.say(summary)
    if outside:
        app.console.note(f"note: its thumbnails are in {outside} and not in the backup; back them up there")


@db.command(short_help="Restore a store and its models from a backup.")
@click.argument("folder", metavar="DIR|FILE", type=click.Path(path_type=Path, exists=True))
@json_option
@click.pass_obj
def restore(app: App, folder: Path, as_json: bool) -> None:
    """Restore the store named by --db, and its models, from DIR, or the store alone from FILE.

    DIR is a backup that 'thumbtune db backup' made, or a folder of backups, of which the newest is used. Nothing is
    overwritten: if the store or its models exist already, move them away first.
    """
    from thumbtune.backups import restore_from  # noqa: PLC0415

    done = restore_from(folder, app.db_url)
    work_is_complete()
    app.console.say(f"{done.folder}: restored the store and {counted(done.models, 'model')}")
    if done.pictures:
        app.console.note(f"note: its thumbnails are not in the backup: set THUMBTUNE_PICTURES={done.pictures}")
    if as_json:
        app.console.print_json({"from": str(done.folder), "models": done.models})


@db.command("copy", short_help="Copy the store into another one, such as from SQLite to PostgreSQL.")
@click.argument("store")
@json_option
@click.pass_obj
def copy_command(app: App, store: str, as_json: bool) -> None:
    """Copy the store to an empty STORE: a file, or postgresql://USER@HOST/NAME.

    Everything is copied, and ids are kept. At the end, the copy is compared with the original. To continue an
    interrupted copy, run the same command again. Before copying, stop 'watch' and other commands that write to the
    store; use the copy only after the command is done. Trained models are not copied.
    """
    from store.db import copy_store, open_database, outside_files  # noqa: PLC0415
    from thumbtune.config import store_url  # noqa: PLC0415

    with app.open_database(read_only=True) as source, open_database(store_url(store), create=True) as target:
        tables = copy_store(source, target, app.console.phase)
        name, outside = str(target), outside_files(source)
    if as_json:
        app.console.print_json({"store": name, "rows": tables})
    else:
        rows = sum(tables.values())
        filled = counted(sum(map(bool, tables.values())), "table")
        app.console.say(f"{name}: {counted(rows, 'row')} in {filled}, equal to the original's")
    if outside:
        app.console.note(
            f"note: both stores' thumbnails are in {outside} and were not copied; delete one of the stores, or run "
            "'thumbtune db move-pictures --keep-files' on the copy before writing to either"
        )


@db.command("clear-cache", short_help="Delete cached features.")
@json_option
@click.pass_obj
def clear_cache(app: App, as_json: bool) -> None:
    """Delete cached features: the vectors of thumbnails and titles from base models.

    The next run computes the features that it needs again. This is useful after trying models that are no longer used;
    later rows reuse the space in the store.
    """
    from store.db import clear_cache as clear  # noqa: PLC0415

    with app.open_database() as database:
        vectors = clear(database)
    if as_json:
        app.console.print_json({"vectors": vectors})
    else:
        app.console.say(f"{vectors:,} cached vectors deleted")


@db.command(short_help="Rewrite an SQLite store to remove deleted data.")
@json_option
@click.pass_obj
def vacuum(app: App, as_json: bool) -> None:
    """Rewrite an SQLite store: no trace of deleted rows remains, and the file takes only the space it needs.

    This needs as much free space as the store takes, and blocks other writers.
    """
    from store.db import vacuum as rewrite  # noqa: PLC0415

    with app.open_database() as database:
        size = rewrite(database)
    if as_json:
        app.console.print_json({"store": str(database), "bytes": size})
    else:
        app.console.say(f"{database}: {counted(size, 'byte')}")


@db.command("delete-readings", short_help="Delete old readings of views, likes and comments.")
@click.option("--days", type=click.IntRange(0, 36500), required=True, metavar="N", help="Delete older readings.")
@json_option
@click.pass_obj
def delete_readings(app: App, days: int, as_json: bool) -> None:
    """Delete readings of videos' views, likes and comments that are older than N days.

    YouTube's terms limit how long they may be kept; see docs/terms.md.
    """
    from store.types import utc_now  # noqa: PLC0415
    from store.youtube import delete_readings as delete  # noqa: PLC0415

    with app.open_database() as database, database.write() as session:
        readings = delete(session, utc_now() - timedelta(days=days))
    if as_json:
        app.console.print_json({"readings": readings})
    else:
        app.console.say(f"{counted(readings, 'reading')} deleted")
