"""`thumbtune sweep`: try many settings on cached features, and train the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from store.wording import counted
from thumbtune.cli import App
from thumbtune.commands.engine import encode_first, engine_of, engine_options
from thumbtune.commands.options import json_option
from thumbtune.commands.training_options import UpTo, training_options
from thumbtune.console import Console
from thumbtune.early import check_settings
from trainer.settings import LARGEST_SEED, TrainSettings
from trainer.sweep import Space, SweepSettings

if TYPE_CHECKING:
    from store.training import Recall
    from trainer.sweep import Standing, SweepResult

__all__ = ["sweep"]

_SPACE = Space().as_dict()
_SWEEP = SweepSettings()
_SHOWN = 10
_RESUMED = ("resume", "trials", "timeout", "as_json")
"""The options that can be combined with --resume."""


@click.command()
@click.option(
    "--trials", type=UpTo(1_000_000), default=_SWEEP.trials, show_default=True, help="Number of settings to try."
)
@click.option(
    "--seeds",
    type=UpTo(1_000),
    default=_SWEEP.seeds,
    show_default=True,
    help="Runs of each setting, with different seeds.",
)
@click.option(
    "--finalists",
    type=UpTo(1_000_000),
    default=_SWEEP.finalists,
    show_default=True,
    help="Number of the best settings to run with more seeds.",
)
@click.option(
    "--final-seeds",
    type=UpTo(1_000),
    default=_SWEEP.final_seeds,
    show_default=True,
    help="Number of additional seeds.",
)
@click.option("--timeout", type=float, metavar="MIN", help="Start no further trial after this many minutes.")
@click.option("--resume", type=int, metavar="ID", help="Resume sweep ID, up to --trials in total.")
@click.option(
    "--train",
    default=_SPACE["train"],
    show_default=True,
    metavar="SPACE",
    help="What to train: cca (both projections, in closed form), ridge (a map from titles to thumbnails, in closed "
    "form), projection (both projections, in steps), or a regular expression over the projections' names.",
)
@click.option("--fit", default=_SPACE["fit"], show_default=True, metavar="SPACE", help="Crop modes to try.")
@click.option(
    "--with-reader",
    default=_SPACE["with_reader"],
    show_default=True,
    is_flag=False,
    flag_value="yes",
    metavar="SPACE",
    help="Whether to add the cosine of the words on the thumbnail; left out if the reader is not installed.",
)
@click.option("--lr", default=_SPACE["lr"], show_default=True, metavar="SPACE", help="Learning rates to try.")
@click.option("--epochs", default=_SPACE["epochs"], show_default=True, metavar="SPACE", help="Epochs to try.")
@click.option(
    "--batch-size", default=_SPACE["batch_size"], show_default=True, metavar="SPACE", help="Batch sizes to try."
)
@click.option(
    "--negatives",
    default=_SPACE["negatives"],
    show_default=True,
    metavar="SPACE",
    help="Strategies for negatives to try.",
)
@click.option(
    "--temperature", default=_SPACE["temperature"], show_default=True, metavar="SPACE", help="Temperatures to try."
)
@click.option(
    "--seed",
    type=UpTo(LARGEST_SEED),
    default=_SWEEP.shared.seed,
    show_default=True,
    help="Seed of the search; the runs' seeds count up from it.",
)
@training_options(
    defaults=True,
    without=(
        "train",
        "fit",
        "with_reader",
        "lr",
        "epochs",
        "batch_size",
        "negatives",
        "temperature",
        "seed",
        "start",
        "lora_rank",
        "lora_alpha",
        "lora_targets",
    ),
)
@engine_options
@json_option
@click.pass_context
def sweep(
    ctx: click.Context,
    /,
    *,
    trials: int,
    seeds: int,
    finalists: int,
    final_seeds: int,
    timeout: float | None,
    resume: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Try many settings on cached features, and train with the best.

    SPACE is LOW:HIGH, one VALUE, or VALUE,VALUE,... Settings are compared by their recall@1 on the valid split,
    averaged over seeds. Each trial is recorded as one run per seed; these runs are not scored on the test split and
    keep no model. The best settings are run with more seeds. The best over all seeds are then used to train once more,
    as 'thumbtune train' does; this model becomes the current one if it is better on held-out pairs. The closed forms
    (cca and ridge) ignore the settings of training in steps.

    --resume continues a stopped sweep. This query ranks the trials of sweep 1:

    \b
    SELECT trial, count(*) AS runs, avg(valid_recall_at_1) AS mean,
           min(valid_recall_at_1) AS low, max(valid_recall_at_1) AS high
    FROM run_history WHERE sweep_id = 1 AND trial IS NOT NULL
    GROUP BY trial ORDER BY mean DESC
    """  # noqa: D301 (click needs the character itself, which keeps the lines of the query)
    app = ctx.find_object(App)
    assert app is not None
    if timeout is not None and not timeout > 0:
        raise click.UsageError(f"--timeout {timeout:g} is not a valid time; give minutes.")
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if resume is not None and given - set(_RESUMED):
        raise click.UsageError(
            "--resume uses the sweep's own settings; it can only be combined with --trials and --timeout."
        )
    engine = engine_of(options)
    settings = _settings(options, trials=trials, seeds=seeds, finalists=finalists, final_seeds=final_seeds)
    with app.open_database() as database:
        if resume is None:
            check_settings(database, settings.shared)
        from trainer.sweep import resume_sweep, run_sweep  # noqa: PLC0415 (loads torch)

        timeout_s = None if timeout is None else timeout * 60
        encode_first(app, database, engine, settings.to_encode())
        if resume is None:
            result = run_sweep(database, settings, timeout_s=timeout_s, progress=app.console)
        else:
            wanted = trials if "trials" in given else None
            result = resume_sweep(database, resume, trials=wanted, timeout_s=timeout_s, progress=app.console)
    _report(app.console, result)
    if as_json:
        app.console.print_json(_document(result))


def _settings(options: dict[str, Any], **counts: int) -> SweepSettings:
    space = Space.read({name: options.pop(name) for name in _SPACE})
    return SweepSettings(TrainSettings(train="projection", **options), space, **counts)


def _report(console: Console, result: SweepResult) -> None:
    diverged = f"; {result.failed} diverged" if result.failed else ""
    tried = len(result.standings) + result.failed
    for text in result.warnings:
        console.say(f"note: {text}")
    console.say(
        f"sweep {result.sweep_id}: {counted(tried, 'trial')}, {counted(result.runs, 'run')} in {result.seconds:.0f} s, "
        f"ranked on {counted(result.n_valid, 'valid pair')}{diverged}"
    )
    shown = result.standings[:_SHOWN]
    differing = [name for name in _SPACE if len({standing.settings[name] for standing in shown}) > 1]
    console.table(
        ("trial", *(name.replace("_", " ") for name in differing), "seeds", "valid recall@1", "sd", "mrr"),
        [_line(standing, differing) for standing in shown],
        title=f"the best of {len(result.standings)}",
    )
    for fit, recall in result.base_recalls.items():
        console.say(f"the base model, --fit {fit}: valid recall@1 {recall:.3f}")
    best, tuned, base = result.standings[0], result.recalls["tuned"], result.recalls["base"]
    spread = "" if best.sd is None else f" (sd {best.sd:.3f})"
    console.say(
        f"winner: trial {best.trial}, valid recall@1 {best.recall_at_1:.3f}{spread} over {counted(best.seeds, 'seed')}"
    )
    # The base model is shown for this run only: if pairs changed since the sweep started, the trials ranked other rows.
    for split in ("valid", "test"):
        if split in tuned:
            console.say(
                f"run {result.run_id}: {split} recall@1 {_with_interval(tuned[split])}, "
                f"base model {_with_interval(base[split])}"
            )
    why = "" if result.reason is None else f": {result.reason}"
    if result.in_use:
        console.say(f"run {result.run_id} is in use now{why}")
    else:
        by_hand = f"to put it into use: thumbtune runs promote {result.run_id}"
        console.say(f"run {result.run_id} is not in use{why}; {by_hand}")


def _line(standing: Standing, names: Sequence[str]) -> tuple[object, ...]:
    used = Space().point(standing.settings)
    tried = [_shown(used.get(name)) for name in names]
    return (standing.trial, *tried, standing.seeds, standing.recall_at_1, standing.sd, standing.mrr)


def _shown(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _with_interval(recall: Recall) -> str:
    return f"{recall.value:.3f} (95 % {recall.low:.3f} to {recall.high:.3f}, n = {recall.n})"


def _document(result: SweepResult) -> dict[str, Any]:
    document = asdict(result)
    document["trials"] = len(result.standings) + result.failed
    document["recall_at_1"] = document.pop("recalls")
    document["base_recall_at_1"] = document.pop("base_recalls")
    return document
