"""`thumbtune retrain`: sync, train if enough is new, and put the better model into use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thumbtune.cli import App
from thumbtune.commands.engine import encode_first, engine_of, engine_options
from thumbtune.commands.options import OldArgument, json_option, note_old_spelling, resolved_model
from thumbtune.commands.train import document, outcome, report
from thumbtune.commands.training_options import NewFolder, training_options
from thumbtune.console import Console
from thumbtune.early import check_output, check_settings
from thumbtune.scopes import channel_names, scope_in_words
from thumbtune.syncing import Asked, Synced, read_request, sync_channels

if TYPE_CHECKING:
    from store.db import Database
    from trainer.runs import Inherited, Retrained

__all__ = ["retrain"]


def _note_channels(ctx: click.Context, _: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if value:
        note_old_spelling(ctx, "retrain CHANNEL", "sync CHANNEL, then retrain")
    return value


@click.command()
@click.argument("to_sync", cls=OldArgument, nargs=-1, callback=_note_channels)
@click.option(
    "--min-new",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="Train only if at least N pairs belong to new videos, or have a new title or thumbnail.",
)
@click.option("--force", is_flag=True, help="Train even if fewer pairs are new.")
@click.option("--no-sync", is_flag=True, help="Do not sync first.")
@training_options(defaults=False)
@click.option("--output", type=NewFolder(), metavar="DIR", help="Also write the whole model to the new folder DIR.")
@engine_options
@json_option
@click.pass_obj
def retrain(
    app: App,
    /,
    *,
    to_sync: tuple[str, ...],
    min_new: int,
    force: bool,
    no_sync: bool,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Sync, train if enough is new, and use the new model if it is better.

    This command is made for cron: if nothing is new, it only reads the feeds. It syncs every channel in the store that
    is not paused; 'thumbtune sync' and 'thumbtune channels add' add channels.

    Each set of channels with a champion is retrained on its own channels; with --channel, only the named set is. A
    model for fewer channels never replaces one for more channels. With fewer than 20 held-out pairs, the champion
    stays; 'thumbtune runs promote' changes it by hand.

    Settings that you do not give are those of the champion's run, or the defaults if there is none; --from and
    --device are never inherited. Both models are compared on the same held-out pairs, and the better one becomes the
    champion. 'thumbtune runs champions' lists these changes with their reasons.

    If YouTube no longer lists a channel, the others are still trained on, and the exit code is 1.

    Exit code 3 means that the sync stopped early (quota spent, some thumbnails failed) and training used the pairs in
    the store, that another process is training on this store, or that the command was interrupted.
    """
    from trainer.runs import retrain as run_retraining  # noqa: PLC0415
    from trainer.runs import scopes_to_retrain  # noqa: PLC0415 (SQLAlchemy is slow to import)

    if no_sync and to_sync:
        raise click.UsageError("--no-sync excludes channels to sync; use --channel to choose what to train on.")
    engine = engine_of(options)
    asked = None if no_sync or not (to_sync or _any_to_sync(app)) else read_request(to_sync)
    with app.open_database(create=bool(to_sync)) as database:
        # Also checked before the sync, so that a wrong option costs no quota.
        check_output(output)
        for scope in scopes_to_retrain(database, options["channels"]):
            settings = _inherited(app, database, options, scope).settings
            # An inherited model is only needed if there is something to train.
            if options["model"] is not None:
                check_settings(database, settings)
        synced = _sync(app, database, asked)
        if synced is not None and synced.stops_training:
            if as_json:
                app.console.print_json(_document(synced, min_new, []))
            return synced.exit_code
        scopes = scopes_to_retrain(database, options["channels"])
        if output is not None and len(scopes) > 1:
            raise click.UsageError(f"--output takes one model, and {len(scopes)} are in use; name one with --channel.")
        with database.read() as session:
            names = channel_names(session)
        retrained = []
        for scope in scopes:
            inherited = _inherited(app, database, options, scope)
            least = 0 if force else min_new
            if engine.name == "ray" and _count_new(database, inherited) >= least:
                encode_first(app, database, engine, [inherited.settings])
            done = run_retraining(database, inherited.settings, min_new=least, output=output, progress=app.console)
            if len(scopes) > 1:
                app.console.say(f"{scope_in_words(scope, names)}:")
            _tell(app.console, min_new, inherited, done)
            retrained.append((scope, inherited, done))
    if as_json:
        app.console.print_json(_document(synced, min_new, retrained))
    return 0 if synced is None else synced.exit_code


def _inherited(app: App, database: Database, options: Mapping[str, Any], scope: tuple[str, ...]) -> Inherited:
    """The settings of the run in use; without one, those given, and the model of thumbtune.toml."""
    from trainer.runs import inherited_settings  # noqa: PLC0415

    found = inherited_settings(database, options, scope)
    of_file = resolved_model(app.config.values.get("model"))
    if found.run_id is not None or of_file is None or options["model"] is not None or options["start"] == "champion":
        return found
    return inherited_settings(database, {**options, "model": of_file}, scope)


def _count_new(database: Database, inherited: Inherited) -> int:
    from trainer.runs import new_pairs  # noqa: PLC0415

    with database.read() as session:
        return new_pairs(session, inherited.settings.channels).total


def _any_to_sync(app: App) -> bool:
    """Whether the store has channels to sync. Imported and paused channels are not synced."""
    from store.youtube import channel_ids, followed_ids  # noqa: PLC0415

    with app.open_database() as database, database.read() as session:
        return bool(followed_ids(session)) or not channel_ids(session)


def _sync(app: App, database: Database, asked: Asked | None) -> Synced | None:
    if asked is None:
        return None
    from collector.sync import SyncOptions  # noqa: PLC0415 (aiohttp is slow to import)

    return sync_channels(app.console, database, asked, SyncOptions())


def _tell(console: Console, min_new: int, inherited: Inherited, done: Retrained) -> None:
    new, result = done.new, done.result
    kinds = f"{new.videos} of new videos, {new.changed} with a new title or thumbnail"
    found = f"{new.total} new pair{'s' * (new.total != 1)} ({kinds})"
    stays = "" if done.champion_id is None else f"; run {done.champion_id} stays in use"
    if result is None:
        console.say(f"{found}: fewer than --min-new {min_new}, nothing to train{stays}")
        return
    console.say(found)
    console.say(
        "settings that were not given: "
        + ("the defaults" if inherited.run_id is None else f"those of run {inherited.run_id}")
    )
    report(console, result)
    console.say(outcome(result, done.champion_id))


def _document(
    synced: Synced | None, min_new: int, retrained: Sequence[tuple[tuple[str, ...], Inherited, Retrained]]
) -> dict[str, Any]:
    """Return the JSON form: the first scope's results, and the results of all scopes under `scopes`."""
    each = [{"scope": list(scope), **_of_scope(min_new, inherited, done)} for scope, inherited, done in retrained]
    first = {**each[0]} if each else _of_scope(min_new, None, None)
    first.pop("scope", None)
    return {"sync": None if synced is None else synced.as_list(), **first, "scopes": each}


def _of_scope(min_new: int, inherited: Inherited | None, done: Retrained | None) -> dict[str, Any]:
    result = None if done is None else done.result
    decision = None if result is None else result.decision
    new = None if done is None else done.new
    return {
        "new_pairs": None if new is None else {"videos": new.videos, "changed": new.changed, "total": new.total},
        "min_new": min_new,
        "settings_from_run": None if inherited is None else inherited.run_id,
        "run": None if result is None else document(result),
        "promoted": result is not None and result.promoted,
        "reason": None if decision is None else decision.reason,
        "champion_run_id": None if done is None else done.champion_id,
    }
