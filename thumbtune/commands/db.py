"""`thumbtune db`: look after the store itself."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from thumbtune.cli import App

__all__ = ["db"]


@click.group()
def db() -> None:
    """Upgrade, check, back up or rewrite the store, or clear its cache."""


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def upgrade(app: App, as_json: bool) -> None:
    """Make the store, or bring it to this version's schema.

    Other commands do this by themselves before they first write; run it after an update to choose the moment.
    """
    from store.migrate import current_revision, head_revision  # noqa: PLC0415

    database = app.open_database(create=True)
    with database.read() as session:
        revision = current_revision(session.connection())
    database.close()
    if as_json:
        app.console.print_json({"store": str(database), "revision": revision, "newest": head_revision()})
    else:
        app.console.say(f"{database} is at revision {revision}, the newest")


@db.command(short_help="Look for damage in the store; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def check(app: App, as_json: bool) -> int:
    """Check the store: file structure, references, schema, and every picture's digest. Changes nothing."""
    from store.maintenance import check as look  # noqa: PLC0415

    app.console.json_wanted = as_json
    database = app.open_database(read_only=True)
    checks = []
    for result in look(database):
        checks.append(result)
        state = "ok" if not result.problems else f"{len(result.problems)} problems"
        app.console.say(f"{result.name}: {state}{f' ({result.detail})' if result.detail else ''}")
        for problem in result.problems:
            app.console.say(f"  {problem}")
    database.close()
    sound = not any(result.problems for result in checks)
    if as_json:
        found = {result.name: list(result.problems) for result in checks}
        app.console.print_json({"store": str(database), "sound": sound, "problems": found})
    return 0 if sound else 1


@db.command(short_help="Copy an SQLite store to a new file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def backup(app: App, file: Path, as_json: bool) -> None:
    """Copy an SQLite store to the new FILE, consistent even while a sync or a training run goes on.

    What runs trained is not in it: copy the folder thumbtune-models, or THUMBTUNE_MODELS, as well. A PostgreSQL store
    is backed up by pg_dump. docs/service.md says how to restore either.
    """
    from store.maintenance import backup as copy  # noqa: PLC0415

    database = app.open_database(read_only=True)
    size = copy(database, file)
    database.close()
    if as_json:
        app.console.print_json({"file": str(file), "bytes": size})
    else:
        app.console.say(f"{file}: {size:,} bytes")


@db.command("clear-cache", short_help="Delete cached features.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def clear_cache(app: App, as_json: bool) -> None:
    """Delete cached features: what models' frozen towers made of thumbnails and titles.

    Nothing is lost but time: the next run encodes again what it needs. Worth it when models were tried that are no
    longer used; the room in the store is used for later rows.
    """
    from store.maintenance import clear_cache as clear  # noqa: PLC0415

    database = app.open_database()
    vectors = clear(database)
    database.close()
    if as_json:
        app.console.print_json({"vectors": vectors})
    else:
        app.console.say(f"{vectors:,} cached vectors deleted")


@db.command(short_help="Rewrite an SQLite store without what was deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def vacuum(app: App, as_json: bool) -> None:
    """Rewrite an SQLite store: traces of deleted rows vanish from the file, and it takes no more room than it needs.

    This needs as much free room as the store takes, and others can't write meanwhile.
    """
    from store.maintenance import vacuum as rewrite  # noqa: PLC0415

    database = app.open_database()
    try:
        size = rewrite(database)
    finally:
        database.close()
    if as_json:
        app.console.print_json({"store": str(database), "bytes": size})
    else:
        app.console.say(f"{database}: {size:,} bytes")


@db.command("delete-readings", short_help="Delete old readings of views, likes and comments.")
@click.option("--days", type=click.IntRange(0, 36500), required=True, metavar="N", help="Delete what is older.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def delete_readings(app: App, days: int, as_json: bool) -> None:
    """Delete readings of videos' views, likes and comments that are older than N days.

    YouTube's terms limit how long they may be kept; see docs/terms.md.
    """
    from store.readings import delete_readings as delete  # noqa: PLC0415
    from store.types import utc_now  # noqa: PLC0415

    database = app.open_database()
    try:
        with database.write() as session:
            readings = delete(session, utc_now() - timedelta(days=days))
    finally:
        database.close()
    if as_json:
        app.console.print_json({"readings": readings})
    else:
        app.console.say(f"{readings:,} readings deleted")
