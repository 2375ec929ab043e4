"""`thumbtune encode`: fill the cache of vectors for the current pairs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from store.wording import counted
from thumbtune.cli import App
from thumbtune.commands.engine import engine_of, engine_options
from thumbtune.commands.options import json_option
from thumbtune.commands.training_options import training_options
from thumbtune.early import check_settings
from trainer.settings import TrainSettings

__all__ = ["encode"]

_OF_TRAINING = (
    "train",
    "start",
    "negatives",
    "negatives_within",
    "title_model",
    "hard_max_similarity",
    "epochs",
    "batch_size",
    "lr",
    "temperature",
    "mask",
    "seed",
    "lora_rank",
    "lora_alpha",
    "lora_targets",
)
"""Training options that do not affect vectors."""


@click.command()
@training_options(defaults=True, without=_OF_TRAINING)
@engine_options
@json_option
@click.pass_obj
def encode(app: App, /, *, as_json: bool, **options: Any) -> None:
    """Encode the thumbnails and titles of the current pairs that were not encoded yet.

    The vectors are kept in the store: 'thumbtune train', 'retrain', 'sweep' and 'search' with the same model use them.
    An interrupted encoding continues where it stopped. With --engine ray, the machines of a Ray cluster read thumbnails
    from the store and write vectors to it; each needs this version of thumbtune and of the model libraries.
    """
    engine = engine_of(options)
    settings = TrainSettings(**options)
    with app.open_database() as database:
        check_settings(database, settings)
        from trainer.runs import encode_pairs  # noqa: PLC0415 (loads torch)

        done = encode_pairs(database, settings, engine, app.console)
    app.console.say(
        f"encoded: {counted(done.thumbnails, 'thumbnail')} and {counted(done.titles, 'title')}; "
        f"{counted(done.new, 'new vector')}"
    )
    if as_json:
        app.console.print_json(asdict(done))
