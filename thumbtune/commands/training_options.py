"""The training options, declared once for every command that trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from thumbtune.commands.options import channel_option, device_option, resolved_model
from trainer.settings import BARS, FITS, LARGEST_SEED, PRECISIONS, STARTS, STRATEGIES, TrainSettings

__all__ = ["NewFolder", "UpTo", "training_options"]

F = TypeVar("F", bound=Callable[..., Any])


class UpTo(click.types.IntParamType):
    """A whole number up to a limit that no use reaches; the help does not show it.

    Args:
        limit: the largest. `TrainSettings` checks the smallest.
    """

    def __init__(self, limit: int) -> None:
        self._range = click.IntRange(max=limit)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number, or fail as click does."""
        return self._range.convert(value, param, ctx)


class NewFolder(click.Path):
    """A folder to write to. An empty name is refused: `Path` would take it for the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the path, or fail as click does."""
        if not os.fsdecode(value).strip():
            self.fail("the name is empty; name a folder, or '.' for the current one.", param, ctx)
        return super().convert(value, param, ctx)


_DEFAULTS = TrainSettings()

_CHANNELS = {True: "all channels", False: "each set of channels that has a model in use"}
"""{whether the defaults are passed: what is trained on where no channel is named}."""

# The field of `TrainSettings`, then what click takes.
_OPTIONS: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    (
        "model",
        ("--model",),
        {
            "metavar": "NAME|DIR",
            "help": "The CLIP-style base model: a hub name or a folder; N:base is run N's; reader: the words "
            "on thumbnails, compared with titles; demo: a small one that ships with thumbtune.",
        },
    ),
    (
        "train",
        ("--train",),
        {
            "metavar": "WHAT",
            "help": "cca (both projections, in closed form), ridge (a map from titles to thumbnails, in closed form), "
            "projection (both, in steps), all, lora, or a regular expression over parameter names.",
        },
    ),
    (
        "start",
        ("--from",),
        {"type": click.Choice(STARTS), "help": "Start from the base model, or from the champion."},
    ),
    (
        "negatives",
        ("--negatives",),
        {"type": click.Choice(STRATEGIES), "help": "How the negative title of each row is chosen."},
    ),
    (
        "title_model",
        ("--title-model",),
        {
            "metavar": "NAME|DIR|base",
            "help": "The model that compares titles for least-similar and hard; base: the base model's own text tower.",
        },
    ),
    (
        "hard_max_similarity",
        ("--hard-max-similarity",),
        {
            "type": float,
            "help": "For hard: the largest cosine of a negative title; more similar titles may be paraphrases.",
        },
    ),
    (
        "epochs",
        ("--epochs",),
        {
            "type": UpTo(1_000_000),
            "help": "Passes over the training split. Default: chosen on held-out folds for projections, else 2.",
        },
    ),
    ("batch_size", ("--batch-size",), {"type": UpTo(1_000_000), "help": "Rows in each step."}),
    (
        "lr",
        ("--lr",),
        {
            "type": float,
            "help": "Learning rate at the start; it falls linearly to 0. Default: by each projection's size.",
        },
    ),
    (
        "temperature",
        ("--temperature",),
        {"type": float, "help": "Divides the cosines in the loss. Default: chosen like the epochs, else 0.05."},
    ),
    (
        "mask",
        ("--mask/--no-mask",),
        {"help": "Leave a row's own title out of its in-batch candidates; --no-mask is the recipe's loss."},
    ),
    (
        "seed",
        ("--seed",),
        {"type": UpTo(LARGEST_SEED), "help": "Random seed of the training. Splits do not depend on it."},
    ),
    (
        "precision",
        ("--precision",),
        {
            "type": click.Choice(PRECISIONS),
            "help": "Precision of the frozen towers; auto: bf16 if the hardware supports it.",
        },
    ),
    (
        "fit",
        ("--fit",),
        {
            "type": click.Choice(FITS),
            "help": "How a wide thumbnail becomes a square: the model's own centre crop, or whole, padded or squashed.",
        },
    ),
    (
        "bars",
        ("--bars",),
        {
            "type": click.Choice(BARS),
            "help": "Cut the letterbox bars of 4:3 thumbnails off first; keep: leave them in a crop (the recipe).",
        },
    ),
    (
        "with_reader",
        ("--with-reader/--without-reader",),
        {"help": "Add the words on thumbnails to the model: its cosine and the reader's, weighted on held-out folds."},
    ),
    (
        "text_model",
        ("--text-model",),
        {
            "metavar": "NAME|DIR",
            "help": "What embeds titles instead of the model; with the reader: by what it compares words with titles.",
        },
    ),
    ("lora_rank", ("--lora-rank",), {"type": UpTo(10_000), "help": "With --train lora: the adapters' rank."}),
    (
        "lora_alpha",
        ("--lora-alpha",),
        {"type": float, "help": "With --train lora: the adapters' scale times the rank."},
    ),
    (
        "lora_targets",
        ("--lora-targets",),
        {"metavar": "REGEX", "help": "With --train lora: the linear layers, by their full names."},
    ),
)


def training_options(*, defaults: bool, without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Add the options; the command gets them by the names of `TrainSettings`' fields.

    Args:
        defaults: show the defaults and pass them; else an option that was not given is passed as None.
        without: fields to leave out.
    """

    def decorate(command: F) -> F:
        command = channel_option(_CHANNELS[defaults])(command)
        command = device_option(_DEFAULTS.device if defaults else None)(command)
        for field, names, options in reversed(_OPTIONS):
            if field not in without:
                value = getattr(_DEFAULTS, field) if defaults else None
                if field == "model":
                    options = {**options, "callback": lambda _ctx, _param, name: resolved_model(name)}  # noqa: PLW2901
                command = click.option(*names, field, default=value, show_default=defaults, **options)(command)
        return command

    return decorate
