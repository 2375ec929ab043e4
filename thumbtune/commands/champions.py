"""`thumbtune runs champions` and `runs promote`: the history of champions, and promoting a run by hand."""

from __future__ import annotations

import click

from thumbtune.cli import App
from thumbtune.commands.options import channel_option, json_option
from thumbtune.console import printable
from thumbtune.early import check_names
from thumbtune.scopes import channel_names, scope_in_words

__all__ = ["champions", "promote"]


@click.command(short_help="List every run that is or was the champion.")
@json_option
@click.pass_obj
def champions(app: App, as_json: bool) -> None:
    """List every run that is or was the champion: when, why, and its recall@1."""
    from store.training import scope_from_text  # noqa: PLC0415 (SQLAlchemy is slow to import)
    from thumbtune.answers.stored import list_champions  # noqa: PLC0415

    with app.open_database() as database, database.read() as session:
        names = channel_names(session)
        rows = list_champions(session)
    if as_json:
        app.console.print_json({"champions": rows})
        return
    if not rows:
        app.console.say("no trained run is in use; run 'thumbtune train', or 'thumbtune runs promote ID'")
        return
    app.console.table(
        ("run", "channels", "in use from", "until", "valid recall@1", "test recall@1", "reason"),
        [
            (
                row["run_id"],
                scope_in_words(scope_from_text(row["scope"]), names),
                row["promoted_at"],
                row["replaced_at"] or "now",
                _in_short(row["valid_recall_at_1"]),
                _in_short(row["test_recall_at_1"]),
                printable(row["reason"], limit=160),
            )
            for row in rows
        ],
    )


def _in_short(recall: float | None) -> str | None:
    return None if recall is None else f"{recall:.3f}"


@click.command(short_help="Make a run the champion.")
@click.argument("run_id", metavar="ID", type=int)
@click.option("--reason", default="by hand", show_default=True, metavar="TEXT", help="The reason to record.")
@channel_option("the channels that it was trained on", "Use the model for this channel")
@click.option("--all-channels", is_flag=True, help="Use the model for all channels.")
@json_option
@click.pass_obj
def promote(app: App, run_id: int, reason: str, channels: tuple[str, ...], all_channels: bool, as_json: bool) -> None:
    """Make run ID the champion, which 'search', 'match', 'export' and the next retraining use.

    Each set of channels can have its own champion; the champions of other sets do not change. A command uses the
    model of the smallest set that contains all channels that the command is about.

    The run must be finished, and its model must be available.
    """
    if not reason.strip():
        raise click.UsageError("--reason is empty; give a reason, or omit the option.")
    if channels and all_channels:
        raise click.UsageError("--channel and --all-channels exclude each other; give one of them.")
    with app.open_database() as database:
        check_names(database, channels, run_id=run_id)
        from store.training import get_run, scope_of  # noqa: PLC0415
        from trainer.runs import promote_run, scopes_to_retrain  # noqa: PLC0415

        scope = scopes_to_retrain(database, channels)[0] if channels else () if all_channels else None
        done = promote_run(database, run_id, reason, scope)
        with database.read() as session:
            its_own = scope_of(get_run(session, run_id).settings)
            whose = scope_in_words(its_own if scope is None else scope, channel_names(session))
    whose = "all channels" if whose == "all" else whose
    if not done.changed:
        app.console.say(f"run {run_id} is already the champion of {whose}")
    elif done.replaced is None:
        app.console.say(f"run {run_id} is now the champion of {whose}, which had none")
    else:
        app.console.say(f"run {run_id} is now the champion of {whose} instead of run {done.replaced}")
    if as_json:
        app.console.print_json({"run_id": run_id, "replaced_run_id": done.replaced, "changed": done.changed})
