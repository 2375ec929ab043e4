"""`thumbtune runs`: list, show, compare and plot training runs, and promote one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from store.training import count_test_looks, current_models, hide_run, mistakes, recalls_of, scope_of
from store.wording import counted
from thumbtune.answers.stored import list_runs, run_details
from thumbtune.cli import App
from thumbtune.commands.champions import champions, promote
from thumbtune.commands.options import full_option, json_option, looks, model_in_words
from thumbtune.console import Console, printable
from thumbtune.scopes import channel_names, scope_in_words
from thumbtune.summary import run_in_words
from trainer.settings import TrainSettings

if TYPE_CHECKING:
    from trainer.scoring import Compared

__all__ = ["runs"]

_LISTED = ("run_id", "started_at", "status", "base_model", "trained", "snapshot_id", "n_train", "n_valid")
_OF_SWEEP = ("trial", "seed", "lr", "epochs", "batch_size", "negatives", "temperature", "valid_recall_at_1", "seconds")
_SHOWN_CHANGES = 20
_SHOWN_ERRORS = 10
_REMOVED = "(removed)"
"""Shown instead of the title of a video whose channel was removed."""


@click.group(invoke_without_command=True)
@click.option(
    "--sweep",
    "sweep_id",
    type=int,
    metavar="ID",
    help="List the trials of this sweep.  [default: runs that are not trials]",
)
@click.option("--wide", is_flag=True, help="Show every column.")
@click.option("--all", "with_hidden", is_flag=True, help="List hidden runs too.")
@json_option
@click.pass_context
def runs(ctx: click.Context, sweep_id: int | None, wide: bool, with_hidden: bool, as_json: bool) -> None:
    """List, show and compare training runs, and choose the champion: the run whose model 'search' and 'match' use.

    In the list, * marks a champion. "n valid" is the number of held-out thumbnails, and "recall@1" the share of
    them for which the right title is ranked first: by the base model -> by the trained model, with its 95 % interval.
    """
    if ctx.invoked_subcommand is not None:
        return
    app = ctx.find_object(App)
    assert app is not None
    with app.open_database() as database, database.read() as session:
        rows = list_runs(session, sweep_id, hidden=with_hidden)
        all_hidden = not rows and bool(list_runs(session, sweep_id, hidden=True))
        looked = count_test_looks(session)
        names = channel_names(session)
    if as_json:
        app.console.print_json({"runs": rows, "test_looks": looked})
        return
    if not rows:
        hidden = "all runs are hidden; 'thumbtune runs --all' lists them"
        app.console.say(hidden if all_hidden else "there are no runs yet; run 'thumbtune train' first")
        return
    if sweep_id is not None:
        app.console.table(("run", "status", *_OF_SWEEP), [_sweep_line(row) for row in rows])
        return
    if not wide:
        app.console.table(
            ("run", "date", "channels", "model", "n valid", "recall@1 (95 %)"),
            [_short_line(row, names) for row in rows],
        )
        _note_failures(app.console, rows, looked)
        return
    app.console.table(
        (
            "run",
            "in use",
            "started",
            "status",
            "base model",
            "trained",
            "other settings",
            "snapshot",
            "n train",
            "n valid",
            "base valid recall@1",
            "valid recall@1",
            "95 % interval",
            "test recall@1",
            "seconds",
            "channels",
        ),
        [[*_line(row), scope_in_words(row["scope"], names)] for row in rows],
    )
    _note_failures(app.console, rows, looked)


def _note_failures(console: Console, rows: list[dict[str, Any]], looked: int) -> None:
    """Write a line for each failed run (cut on a terminal), and how often the test split was scored."""
    for row in rows:
        if row["error"]:
            line = f"run {row['run_id']} {row['status']}: {row['error']}"
            console.say(printable(line, limit=79) if console.on_terminal else line)
    if console.on_terminal and any(row["error"] for row in rows):
        console.note("'thumbtune runs show ID' shows the whole error; 'thumbtune runs hide ID' hides the run")
    if looked:
        console.say(looks(looked))


def _short_line(row: dict[str, Any], names: dict[str, str]) -> list[object]:
    """Return a run's row of the table for a terminal of 80 columns."""
    base, tuned = row["base_valid_recall_at_1"], row["valid_recall_at_1"]
    low, high = row["valid_recall_at_1_low"], row["valid_recall_at_1_high"]
    interval = "" if low is None else f" ({low:.2f}-{high:.2f})"
    figures = row["status"] if tuned is None else f"{_share(base)} -> {_share(tuned)}{interval}"
    return [
        f"{row['run_id']} *" if row["in_use"] else str(row["run_id"]),
        str(row["started_at"])[:10],
        printable(scope_in_words(row["scope"], names), limit=12),
        printable(model_in_words(row["base_model"]), limit=13),
        row["n_valid"],
        figures,
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _sweep_line(row: dict[str, Any]) -> list[object]:
    facts = {**row, **row["settings"]}
    return [row["run_id"], row["status"], *(facts[name] for name in _OF_SWEEP)]


def _line(row: dict[str, Any]) -> list[object]:
    low, high = row["valid_recall_at_1_low"], row["valid_recall_at_1_high"]
    first: list[object] = [row[column] for column in _LISTED]
    first[1] = str(first[1])[:16]
    first[3] = str(first[3]) if len(str(first[3])) <= 40 else "…" + str(first[3])[-39:]
    return [
        first[0],
        "*" if row["in_use"] else "",
        *first[1:5],
        _others(row),
        *first[5:],
        row["base_valid_recall_at_1"],
        row["valid_recall_at_1"],
        None if low is None else f"{low:.3f} to {high:.3f}",
        row["test_recall_at_1"],
        row["seconds"],
    ]


def _others(row: dict[str, Any]) -> str:
    """Describe the settings that differ from the defaults and have no column, and the sweep that the run won."""
    shown = asdict(TrainSettings())
    kept = row["settings"]
    differing = [
        f"{name.replace('_', ' ')} {_rounded(kept[name])}"
        for name, default in shown.items()
        if name not in ("model", "title_model", "train", "channels", "device") and kept.get(name, default) != default
    ]
    return ", ".join([*differing, *([f"sweep {row['sweep_id']}"] if row["sweep_id"] else [])])


def _rounded(value: object) -> object:
    """Format a number with as many digits as in a table."""
    return f"{value:.4g}" if isinstance(value, float) else value


@runs.command(short_help="Show a run.")
@click.argument("run_id", metavar="ID", type=int)
@full_option
@json_option
@click.pass_obj
def show(app: App, run_id: int, full: bool, as_json: bool) -> None:
    """Show a summary of run ID.

    --full shows its settings, library versions, metrics and losses, and the thumbnails for which it picks a wrong
    title.
    """
    with app.open_database() as database, database.read() as session:
        found = run_details(session, run_id)
        wrong = {split: mistakes(session, run_id, "tuned", split) for split in ("valid", "test")}
        recalls = recalls_of(session, run_id)
        names = channel_names(session)
        in_use = [one.scope for one in current_models(session) if one.run.id == run_id]
    facts, metrics, losses = found.facts, found.metrics, found.steps
    if as_json:
        app.console.print_json(
            {**facts, "metrics": metrics, "steps": losses, **{f"{split}_errors": rows for split, rows in wrong.items()}}
        )
        return
    meaning = run_in_words(run_id, recalls)
    if meaning is not None:
        app.console.say(meaning)
    if not full:
        _summarise(app.console, facts, names, in_use, wrong)
        return
    app.console.table(("fact", "value"), [(name, _short(value)) for name, value in facts.items()])
    if metrics:
        lines = [tuple({**row, "scope": names.get(row["scope"], row["scope"])}.values()) for row in metrics]
        app.console.table(tuple(metrics[0]), lines, title="metrics")
    if losses:
        app.console.say(f"loss: {losses[0]['loss']:.4f} at step 1, {losses[-1]['loss']:.4f} at step {len(losses)}")
    for split, rows in wrong.items():
        if rows:
            shown = [(row["rank"], row["title"] or _REMOVED, row["top_title"] or _REMOVED) for row in rows]
            app.console.table(
                ("rank", "own title", "ranked first"),
                shown[:_SHOWN_ERRORS],
                title=f"{split} thumbnails ranked wrong: {len(rows)}",
            )


def _summarise(
    console: Console,
    facts: dict[str, Any],
    names: dict[str, str],
    in_use: Sequence[Sequence[str]],
    wrong: dict[str, list[dict[str, Any]]],
) -> None:
    """Print a summary of a run, in at most 15 lines including the line before it."""
    lines: list[tuple[str, object]] = [
        ("status", facts["status"]),
        ("started", facts["started_at"]),
        ("base model", model_in_words(facts["base_model"])),
        ("trained", facts["trained"]),
        ("channels", scope_in_words(scope_of(facts["settings"]), names)),
        ("in use for", "; ".join(scope_in_words(scope, names) for scope in in_use) or "nothing"),
        ("decision", facts["decision"]),
        ("error", facts["error"]),
        ("model", facts["artifact_path"]),
        (
            "ranked wrong",
            ", ".join(counted(len(rows), f"{split} thumbnail") for split, rows in wrong.items() if rows) or "none",
        ),
    ]
    console.table(("fact", "value"), [(name, value) for name, value in lines if value is not None])
    console.note(f"'thumbtune runs show {facts['run_id']} --full' shows everything recorded")


@runs.command(short_help="Hide a run from the list.")
@click.argument("run_id", metavar="ID", type=int)
@click.option("--undo", is_flag=True, help="List the run again.")
@json_option
@click.pass_obj
def hide(app: App, run_id: int, undo: bool, as_json: bool) -> None:
    """Hide run ID, such as a failed one, from the list of 'thumbtune runs'. Nothing is deleted."""
    with app.open_database() as database, database.write() as session:
        hide_run(session, run_id, hidden=not undo)
    app.console.say(f"run {run_id} is {'listed again' if undo else 'hidden'}")
    if as_json:
        app.console.print_json({"run_id": run_id, "hidden": not undo})


def _short(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict) else value


@runs.command(short_help="Compare two runs' models on the same thumbnails.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--split",
    type=click.Choice(("train", "valid", "test")),
    default="valid",
    show_default=True,
    help="The split to compare on.",
)
@json_option
@click.pass_obj
def compare(app: App, a: str, b: str, split: str, as_json: bool) -> None:
    """Compare two runs' models on the thumbnails that both ranked; N:base is the base model as run N scored it.

    The difference in recall@1 is tested with the exact McNemar test, in which only the thumbnails count that one model
    gets right and the other wrong.
    """
    from trainer.scoring import compare as look  # noqa: PLC0415 (loads SciPy)

    with app.open_database() as database:
        found = look(database, a, b, split)
    _tell(app.console, found)
    if as_json:
        app.console.print_json(
            {
                "a": asdict(found.a),
                "b": asdict(found.b),
                "split": found.split,
                "same_pool": found.same_pool,
                "mcnemar": asdict(found.test),
                "changed": [{**asdict(change), "flipped": change.flipped} for change in found.changes],
            }
        )


def _tell(console: Console, found: Compared) -> None:
    test = found.test
    sides = f"A = {found.a.name} ranked {found.a.ranked}, B = {found.b.name} {found.b.ranked}"
    console.say(f"{found.split}: {counted(test.n, 'thumbnail')} in common ({sides})")
    if not found.same_pool:
        console.say("the two runs ranked different sets of titles, so their ranks can't be compared exactly")
    hits_a, hits_b = test.both + test.only_a, test.both + test.only_b
    console.say(f"recall@1: A {hits_a / test.n:.3f}, B {hits_b / test.n:.3f}")
    console.say(f"right with A only: b = {test.only_a}; with B only: c = {test.only_b}; exact McNemar p = {test.p:.4g}")
    flipped = [change for change in found.changes if change.flipped]
    console.say(
        f"{counted(len(flipped), 'thumbnail')} changed between right and wrong, {len(found.changes)} changed rank"
    )
    if flipped:
        console.table(
            ("video", "rank A", "rank B", "title", "B ranked first"),
            [
                (
                    *(c.video_id, c.rank_a, c.rank_b),
                    *(printable(title or _REMOVED, limit=50) for title in (c.title, c.top_b)),
                )
                for c in flipped[:_SHOWN_CHANGES]
            ],
        )
    if len(flipped) > _SHOWN_CHANGES:
        console.say(f"... and {len(flipped) - _SHOWN_CHANGES} more; --json lists all")


@runs.command(short_help="Draw recall@1 over time, and the newest losses.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    default="thumbtune-runs.png",
    show_default=True,
    help="Where to write: .png, .svg or .pdf. An existing file is replaced.",
)
@json_option
@click.pass_obj
def plot(app: App, out: Path, as_json: bool) -> None:
    """Draw recall@1 of all finished runs over time, and the losses of the newest run.

    The plot shows the trained models on the valid and test splits with 95 % intervals, their base models as dashed
    lines, and a star for each run that is or was the champion. A sweep's trials are left out.
    """
    from trainer.publish import plot_runs  # noqa: PLC0415 (loads NumPy)

    with app.open_database() as database:
        drawn = plot_runs(database, out)
    app.console.say(f"{counted(drawn, 'run')}: {out}")
    if as_json:
        app.console.print_json({"plot": str(out), "runs": drawn})


runs.add_command(champions)
runs.add_command(promote)
