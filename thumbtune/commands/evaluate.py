"""`thumbtune evaluate`: score a model on a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from thumbtune.cli import App
from thumbtune.commands.options import (
    OldArgument,
    device_option,
    full_option,
    json_option,
    looks,
    model_in_words,
    model_option,
    old_model,
)
from thumbtune.early import check_any_run, check_names
from thumbtune.scopes import channel_names, scope_in_words
from thumbtune.summary import meaning_of

if TYPE_CHECKING:
    from trainer.runs import Evaluated

__all__ = ["evaluate"]


@click.command()
@model_option(default="the newest finished run")
@click.argument("old", cls=OldArgument, required=False, expose_value=False, callback=old_model("the argument"))
@click.option("--test", is_flag=True, help="Also score the test split; the store counts how often.")
@device_option()
@full_option
@json_option
@click.pass_obj
def evaluate(app: App, model: str | None, test: bool, device: str, full: bool, as_json: bool) -> None:
    """Measure how often a model picks the right title.

    A run's model is scored on the pairs of its own snapshot, any other model on the newest snapshot of all channels,
    which is made if there is none. For a run, the output also says whether the figures equal the recorded ones. Except
    for looks at the test split, no figure is recorded.
    """
    with app.open_database() as database:
        check_names(database, model=model)
        if model is None:
            check_any_run(database)
        from trainer.runs import evaluate as score  # noqa: PLC0415 (loads torch)

        found = score(database, model, device, app.console, test=test)
        with database.read() as session:
            names = channel_names(session)
    rows = [
        (
            s.split,
            s.direction.replace("_", " "),
            names.get(s.scope, s.scope),
            s.metric.name,
            f"{s.metric.value:.3f}",
            _interval(s.metric.low, s.metric.high),
            s.metric.n,
        )
        for s in found.scores.scores
        if full or (s.scope == "all" and s.metric.name == "recall@1")
    ]
    name = found.name if found.run_id is not None else model_in_words(found.name)
    held_out = next((s for split in ("test", "valid") for s in found.scores.scores if _is_main(s, split)), None)
    if held_out is not None:
        n = held_out.metric.n
        app.console.say(meaning_of(name, round(held_out.metric.value * n), n, held_out.split))
    app.console.table(
        ("split", "direction", "channels", "metric", "value", "95 % interval", "n"),
        rows,
        title=f"{found.name} on snapshot {found.snapshot_id}" if full or not app.console.on_terminal else None,
    )
    counted = ", ".join(f"{n} {split}" for split, n in found.rows.items())
    scope = scope_in_words(found.channels, names)
    app.console.say(f"scored: {counted} rows of {'all channels' if scope == 'all' else scope}")
    if found.matches is not None:
        app.console.say(f"the figures {'equal' if found.matches else 'differ from'} the recorded figures of the run")
    if found.test_looks is not None:
        app.console.say(looks(found.test_looks))
    if as_json:
        app.console.print_json(_document(found))


def _is_main(score: Any, split: str) -> bool:
    return (score.split, score.scope, score.metric.name, score.direction) == (
        split,
        "all",
        "recall@1",
        "thumbnail_to_title",
    )


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _document(found: Evaluated) -> dict[str, object]:
    scores = found.scores
    return {
        "model": found.name,
        "run_id": found.run_id,
        "snapshot_id": found.snapshot_id,
        "equals_recorded": found.matches,
        "rows": found.rows,
        "channels": list(found.channels),
        "test_looks": found.test_looks,
        "metrics": scores.table(),
        "intervals": scores.intervals(),
        "title_to_thumbnail": scores.table("title_to_thumbnail"),
        "by_channel": {
            scope: scores.table(scope=scope) for scope in sorted({s.scope for s in scores.scores} - {"all"})
        },
    }
