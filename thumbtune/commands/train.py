"""`thumbtune train`: fine-tune a model on the store's pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from thumbtune.cli import App
from thumbtune.commands.engine import encode_first, engine_of, engine_options
from thumbtune.commands.options import full_option, json_option, looks
from thumbtune.commands.training_options import NewFolder, Size, training_options
from thumbtune.console import Console
from thumbtune.early import check_settings
from thumbtune.summary import meaning_of
from trainer.errors import BadSetting
from trainer.settings import FEATURES_IN_MEMORY, MODEL_BESIDE_CHAMPION, RECIPE, Place, TrainSettings

if TYPE_CHECKING:
    from trainer.cluster import Processes
    from trainer.runs import TrainResult
    from trainer.scoring import Scores

__all__ = ["document", "outcome", "report", "train"]


_NOT_GIVEN = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


@click.command()
@training_options(defaults=True)
@click.option("--test", is_flag=True, help="Also score the test split; the store counts how often.")
@click.option("--recipe", is_flag=True, help="Train with the settings of the published recipe.")
@click.option("--output", type=NewFolder(), metavar="DIR", help="Also write the whole model to the new folder DIR.")
@click.option(
    "--features-in-memory",
    type=Size(),
    default=FEATURES_IN_MEMORY,
    show_default="2GB",
    help="The most memory for encoded thumbnails and titles; more are read from a file next to the trained models.",
)
@engine_options
@full_option
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    /,
    *,
    as_json: bool,
    test: bool,
    full: bool,
    recipe: bool,
    output: Path | None,
    features_in_memory: int,
    **options: Any,
) -> int:
    """Fine-tune a model on the store's pairs and record the run.

    Each thumbnail and title is encoded only once: the vectors are kept in the store, so later runs take seconds. A run
    keeps only the tensors that it trained; --output writes the whole model to a folder that SentenceTransformer(DIR)
    loads.

    By default, both projections are fitted in closed form, which takes a second for some hundred pairs; --recipe
    trains as published. The first trained model that is better than its base model on held-out pairs becomes the
    champion, which 'search' and 'match' use. Later, 'thumbtune retrain' and 'thumbtune runs promote' change it.
    """
    app = ctx.find_object(App)
    assert app is not None
    if options["start"] == "champion" and ctx.get_parameter_source("model") not in _NOT_GIVEN:
        raise BadSetting(MODEL_BESIDE_CHAMPION)
    if recipe:
        options |= _recipe(ctx)
    place = Place.of(os.environ)
    engine = engine_of(options, place)
    settings = TrainSettings(**options)
    if place is not None and place.rank > 0:
        from trainer.cluster import run_worker  # noqa: PLC0415 (loads torch)

        return run_worker(place, settings.device, app.open_database)
    with ExitStack() as open_until:
        processes: Processes | None = None
        if place is not None:
            from trainer.cluster import joined  # noqa: PLC0415 (loads torch)

            processes = open_until.enter_context(joined(place, settings.device))
        database = open_until.enter_context(app.open_database())
        if engine.name == "ray":
            from trainer.cluster import RayProcesses  # noqa: PLC0415 (loads torch)

            processes = RayProcesses(database, engine)
        check_settings(database, settings, output)
        encode_first(app, database, engine, [settings])
        from trainer.runs import train as run_training  # noqa: PLC0415 (loads torch)

        result = run_training(
            database,
            settings,
            output=output,
            progress=app.console,
            test=test,
            processes=processes,
            features_in_memory=features_in_memory,
        )
    report(app.console, result, full=full)
    if result.champion is not None:
        app.console.say(_beside(result))
    if result.decision is not None:
        app.console.say(outcome(result, None))
    app.console.next_step('thumbtune search "what the thumbnail shows"')
    if as_json:
        app.console.print_json(document(result))
    return 0


def _recipe(ctx: click.Context) -> Mapping[str, Any]:
    """Return the recipe's settings; an option that contradicts them is an error."""
    given = [
        name
        for name, value in RECIPE.items()
        if ctx.get_parameter_source(name) not in _NOT_GIVEN and ctx.params[name] != value
    ]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise click.UsageError(f"--recipe sets {option} itself; leave out one of the two.")
    return RECIPE


def report(console: Console, result: TrainResult, *, full: bool = False) -> None:
    """Print a summary of a run's results, the results, and the path of its model."""
    base, tuned, low_high = result.base.table(), result.tuned.table(), result.tuned.intervals()
    held_out = next((split for split in ("test", "valid") if split in tuned), None)
    if held_out is not None:
        n = result.examples[held_out]
        right, before = (round(scores[held_out]["recall@1"] * n) for scores in (tuned, base))
        console.say(meaning_of(f"run {result.run_id}", right, n, held_out, before))
    if full or not console.on_terminal:
        share = 100 * result.trainable / result.total
        console.say(
            f"run {result.run_id}: {result.trainable:,} of {result.total:,} parameters trained ({share:.2f} %), "
            f"on snapshot {result.snapshot_id}"
        )
    beside = None if result.champion is None else result.champion.table()
    rows = [
        (
            split,
            result.examples[split],
            f"{base[split]['recall@1']:.3f}",
            # The champion may have been trained on train rows, so it is only scored on held-out splits.
            *([] if beside is None else [f"{beside[split]['recall@1']:.3f}" if split in beside else None]),
            f"{tuned[split]['recall@1']:.3f}",
            f"{low_high[split]['recall@1'][0]:.3f} to {low_high[split]['recall@1'][1]:.3f}",
            *(
                [
                    f"{tuned[split]['recall@5']:.3f}",
                    f"{tuned[split]['mrr']:.3f}",
                    f"{tuned[split]['median_rank']:g}",
                ]
                if full
                else []
            ),
        )
        for split in tuned
    ]
    others = ["base recall@1"] if beside is None else ["base recall@1", "champion's"]
    more = ("recall@5", "mrr", "median rank") if full else ()
    console.table(("split", "n", *others, "recall@1", "95 % interval", *more), rows)
    if result.reader is not None:
        console.say(_words_alone(result.reader, result.examples))
    if result.test_looks is not None:
        console.say(looks(result.test_looks))
    console.say(f"model: {result.model_path}")


def _words_alone(reader: Scores, examples: dict[str, int]) -> str:
    """Describe the recall@1 of the words on the thumbnails alone, and of chance."""
    parts = [
        f"{split} {values['recall@1']:.3f} (chance {1 / examples[split]:.3f})"
        for split, values in reader.table().items()
    ]
    return f"recall@1 of the words alone, nothing trained: {', '.join(parts)}"


def _beside(result: TrainResult) -> str:
    """Compare the new model with the champion, on the same rows."""
    assert result.champion is not None
    other, own = result.champion.table(), result.tuned.table()
    parts = [f"{split} {own[split]['recall@1']:.3f} against {other[split]['recall@1']:.3f}" for split in other]
    return (
        f"recall@1 against the champion's (run {result.champion_id}) on the same rows: {', '.join(parts)}; "
        f"to put this one into use: thumbtune runs promote {result.run_id}"
    )


def outcome(result: TrainResult, champion_id: int | None) -> str:
    """Say which model is in use after a comparison, and why.

    Args:
        result: the run.
        champion_id: the run that is in use now, or None for the base model.
    """
    decision, run_id = result.decision, result.run_id
    why = "" if decision is None else f": {decision.reason}"
    if result.promoted:
        return f"run {run_id} is in use now{why}"
    by_hand = f"to put run {run_id} into use: thumbtune runs promote {run_id}"
    if decision is not None and not decision.promote:
        stays = "the base model" if champion_id is None else f"run {champion_id}"
        return f"{stays} stays in use{why}; {by_hand}"
    other = "another run" if champion_id is None else f"run {champion_id}"
    return f"{other} came into use meanwhile and was not compared with run {run_id}{why}; {by_hand}"


def document(result: TrainResult) -> dict[str, Any]:
    """The JSON form of a run's result."""
    scored = {"base": result.base, "tuned": result.tuned}
    if result.champion is not None:
        scored["champion"] = result.champion
    if result.reader is not None:
        scored["reader"] = result.reader
    channels = sorted({score.scope for score in result.tuned.scores} - {"all"})
    return {
        "run_id": result.run_id,
        "snapshot_id": result.snapshot_id,
        "model_path": str(result.model_path),
        "parameters": {"total": result.total, "trainable": result.trainable},
        "examples": result.examples,
        "test_looks": result.test_looks,
        "metrics": {name: scores.table() for name, scores in scored.items()},
        "intervals": {name: scores.intervals() for name, scores in scored.items()},
        "title_to_thumbnail": {name: scores.table("title_to_thumbnail") for name, scores in scored.items()},
        "by_channel": {
            channel: {name: scores.table(scope=channel) for name, scores in scored.items()} for channel in channels
        },
        "titles_cut": result.titles_cut,
        "champion_run_id": result.champion_id,
        "promoted": result.promoted,
        "reason": None if result.decision is None else result.decision.reason,
        "seconds": result.seconds,
        "warnings": result.warnings,
    }
