"""`thumbtune runs champions` and `runs promote`: the history of champions, and promoting a run by hand."""

from __future__ import annotations

import click

from thumbtune.cli import App
from thumbtune.commands.options import json_option
from thumbtune.console import printable

__all__ = ["champions", "promote"]


@click.command(short_help="List every run that is or was the champion.")
@json_option
@click.pass_obj
def champions(app: App, as_json: bool) -> None:
    """List every run that is or was the champion: when, why, and its recall@1."""
    from thumbtune.answers.stored import list_champions  # noqa: PLC0415 (SQLAlchemy is slow to import)

    with app.open_database() as database, database.read() as session:
        rows = list_champions(session)
    if as_json:
        app.console.print_json({"champions": rows})
        return
    if not rows:
        app.console.say("no trained run is in use yet; run 'thumbtune train' first")
        return
    app.console.table(
        ("run", "in use from", "until", "valid recall@1", "test recall@1", "reason"),
        [
            (
                row["run_id"],
                row["promoted_at"],
                row["replaced_at"] or "now",
                row["valid_recall_at_1"],
                row["test_recall_at_1"],
                printable(row["reason"], limit=160),
            )
            for row in rows
        ],
    )


@click.command(short_help="Make a run the champion.")
@click.argument("run_id", metavar="ID", type=int)
@click.option("--reason", default="by hand", show_default=True, metavar="TEXT", help="Stored with the promotion.")
@json_option
@click.pass_obj
def promote(app: App, run_id: int, reason: str, as_json: bool) -> None:
    """Make run ID the champion: search, match, export and the next retraining then use its model.

    The run must be done, and its model available; this is checked first.
    """
    from trainer.runs import promote_run  # noqa: PLC0415 (SQLAlchemy is slow to import)

    if not reason.strip():
        raise click.UsageError("--reason is empty; give a reason, or omit the option.")
    with app.open_database() as database:
        done = promote_run(database, run_id, reason)
    if not done.changed:
        app.console.say(f"run {run_id} is already in use")
    elif done.replaced is None:
        app.console.say(f"run {run_id} is now in use; it is the first")
    else:
        app.console.say(f"run {run_id} is now in use instead of run {done.replaced}")
    if as_json:
        app.console.print_json({"run_id": run_id, "replaced_run_id": done.replaced, "changed": done.changed})
