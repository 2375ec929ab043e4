"""`thumbtune train`: fine-tune a model on the store's pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thumbtune.cli import App
from thumbtune.console import Console
from trainer.settings import DEVICES, STRATEGIES, TrainSettings

if TYPE_CHECKING:
    from trainer.runs import TrainResult

__all__ = ["Shown", "train"]

_DEFAULTS = TrainSettings()


class Shown:
    """The trainer's progress, on the console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a bar, or lines."""
        with self._console.progress(description, total) as bar:
            yield bar.advance

    def warn(self, text: str) -> None:
        """Show a line."""
        self._console.note(f"note: {text}")


@click.command()
@click.option(
    "--model",
    default=_DEFAULTS.model,
    show_default=True,
    metavar="NAME|DIR",
    help="The CLIP-style base model: a hub name or a folder; N:base is run N's.",
)
@click.option(
    "--train",
    "train_what",
    default=_DEFAULTS.train,
    show_default=True,
    metavar="WHAT",
    help="What to train: projection, all, or a regular expression over parameter names.",
)
@click.option(
    "--negatives",
    type=click.Choice(STRATEGIES),
    default=_DEFAULTS.negatives,
    show_default=True,
    help="How each row's negative title is chosen.",
)
@click.option(
    "--title-model",
    default=_DEFAULTS.title_model,
    show_default=True,
    metavar="NAME|DIR|base",
    help="What compares titles for least-similar and hard; base: the base model's own text tower.",
)
@click.option("--epochs", type=int, default=_DEFAULTS.epochs, show_default=True, help="Passes over the training split.")
@click.option("--batch-size", type=int, default=_DEFAULTS.batch_size, show_default=True, help="Rows a step.")
@click.option(
    "--lr",
    type=float,
    default=_DEFAULTS.lr,
    show_default=True,
    help="Learning rate at the start; it falls linearly to 0.",
)
@click.option(
    "--seed",
    type=int,
    default=_DEFAULTS.seed,
    show_default=True,
    help="Of all that is random in training. Splits don't depend on it.",
)
@click.option(
    "--device", type=click.Choice(DEVICES), default=_DEFAULTS.device, show_default=True, help="Where to compute."
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="ID|@HANDLE",
    help="Train on this channel only (repeatable); default: one model for all.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="DIR", help="Also write the whole model to this new folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def train(app: App, /, *, as_json: bool, output: Path | None, train_what: str, **options: Any) -> None:
    """Fine-tune a model on the store's pairs and record the run.

    The defaults are the published recipe's. The run keeps only the tensors that it trained; --output writes the whole
    model as a folder that SentenceTransformer(DIR) loads.
    """
    app.console.json_wanted = as_json
    settings = TrainSettings(train=train_what, **options)
    database = app.open_database()
    try:
        from trainer.runs import train as run_training  # noqa: PLC0415 (loads torch)

        result = run_training(database, settings, output=output, progress=Shown(app.console))
    finally:
        database.close()
    _report(app.console, result)
    if as_json:
        app.console.print_json(_document(result))


def _report(console: Console, result: TrainResult) -> None:
    share = 100 * result.trainable / result.total
    console.say(
        f"run {result.run_id}: {result.trainable:,} of {result.total:,} parameters trained ({share:.2f} %), "
        f"on snapshot {result.snapshot_id}"
    )
    base, tuned, low_high = result.base.table(), result.tuned.table(), result.tuned.intervals()
    rows = [
        (
            split,
            result.examples[split],
            f"{base[split]['recall@1']:.3f}",
            f"{tuned[split]['recall@1']:.3f}",
            f"{low_high[split]['recall@1'][0]:.3f} to {low_high[split]['recall@1'][1]:.3f}",
            f"{tuned[split]['recall@5']:.3f}",
            f"{tuned[split]['mrr']:.3f}",
            f"{tuned[split]['median_rank']:g}",
        )
        for split in tuned
    ]
    console.table(("split", "n", "base recall@1", "recall@1", "95 % interval", "recall@5", "mrr", "median rank"), rows)
    console.say(f"model: {result.model_path}")


def _document(result: TrainResult) -> dict[str, Any]:
    scored = {"base": result.base, "tuned": result.tuned}
    channels = sorted({score.scope for score in result.tuned.scores} - {"all"})
    return {
        "run_id": result.run_id,
        "snapshot_id": result.snapshot_id,
        "model_path": str(result.model_path),
        "parameters": {"total": result.total, "trainable": result.trainable},
        "examples": result.examples,
        "metrics": {name: scores.table() for name, scores in scored.items()},
        "intervals": {name: scores.intervals() for name, scores in scored.items()},
        "title_to_thumbnail": {name: scores.table("title_to_thumbnail") for name, scores in scored.items()},
        "by_channel": {
            channel: {name: scores.table(scope=channel) for name, scores in scored.items()} for channel in channels
        },
        "seconds": result.seconds,
        "warnings": result.warnings,
    }
