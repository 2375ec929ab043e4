"""The training options, declared once for every command that trains."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from thumbtune.commands.options import channel_option, device_option, resolved_model
from trainer.settings import BARS, CROP_MODES, LARGEST_SEED, PRECISIONS, STARTS, STRATEGIES, WITHIN, TrainSettings

__all__ = ["NewFolder", "Size", "UpTo", "training_options"]

F = TypeVar("F", bound=Callable[..., Any])


class UpTo(click.types.IntParamType):
    """A whole number with an upper limit, which the help does not show.

    Args:
        limit: the largest number. `TrainSettings` checks the smallest.
    """

    def __init__(self, limit: int) -> None:
        self._range = click.IntRange(max=limit)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number, or fail as click does."""
        return self._range.convert(value, param, ctx)


class Size(click.types.IntParamType):
    """A number of bytes, as `2GB`, `500MB`, `64kB` or `1000000`; units are powers of 1,000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the size, or fail as click does."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)\s*([kmgt]?)b?", str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is not a size; use a number of bytes, or one such as 2GB or 500MB.", param, ctx)
        return int(float(found[1]) * 1000 ** " kmgt".index(found[2] or " "))


class NewFolder(click.Path):
    """A folder to write to. An empty name is refused, because `Path` would treat it as the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the path, or fail as click does."""
        if not os.fsdecode(value).strip():
            self.fail("the name is empty; name a folder, or '.' for the current one.", param, ctx)
        return super().convert(value, param, ctx)


_DEFAULTS = TrainSettings()

_CHANNELS = {True: "all channels", False: "each set of channels with a champion"}
"""{whether the defaults are passed: description of the channels to train on if no channel is named}."""

# A field of `TrainSettings`, and the arguments of `click.option`.
_OPTIONS: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    (
        "model",
        ("--model",),
        {
            "metavar": "NAME|DIR",
            "help": "The CLIP-style base model: a Hugging Face Hub name, a folder, N:base for run N's base model, demo "
            "for the small one that ships with thumbtune, or reader to compare the words on thumbnails with titles.",
        },
    ),
    (
        "train",
        ("--train",),
        {
            "metavar": "WHAT",
            "help": "What to train: cca (both projections, in closed form), ridge (a linear map from titles to "
            "thumbnails, in closed form), projection (both, in steps), all, lora, or a regular expression that matches "
            "parameter names.",
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
        {"type": click.Choice(STRATEGIES), "help": "How a wrong title is chosen for each training pair."},
    ),
    (
        "negatives_within",
        ("--negatives-within",),
        {
            "type": click.Choice(WITHIN),
            "help": "Choose wrong titles from all channels of the run, or from each pair's own channel, which is fast "
            "for many channels. Always from the pair's own split.",
        },
    ),
    (
        "title_model",
        ("--title-model",),
        {
            "metavar": "NAME|DIR|base",
            "help": "The model that compares titles for least-similar and hard; base is the base model's text tower.",
        },
    ),
    (
        "hard_max_similarity",
        ("--hard-max-similarity",),
        {
            "type": float,
            "help": "With hard: the largest cosine similarity of a wrong title; closer titles may be paraphrases.",
        },
    ),
    (
        "epochs",
        ("--epochs",),
        {
            "type": UpTo(1_000_000),
            "help": "How many times to go through the training pairs. Default: chosen on held-out folds for "
            "projections, else 2.",
        },
    ),
    (
        "batch_size",
        ("--batch-size",),
        {"type": UpTo(1_000_000), "help": "Pairs per training step, over all processes."},
    ),
    (
        "lr",
        ("--lr",),
        {
            "type": float,
            "help": "The learning rate at the start; it falls linearly to 0. Default: by the projections' size.",
        },
    ),
    (
        "temperature",
        ("--temperature",),
        {
            "type": float,
            "help": "The temperature, by which the loss divides the cosine similarities. Default: chosen with the "
            "epochs, else 0.05.",
        },
    ),
    (
        "mask",
        ("--mask/--no-mask",),
        {"help": "Do not count a pair's own title as a wrong one within a batch; --no-mask is the recipe's loss."},
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
            "help": "The precision of the frozen towers; auto uses bf16 if the hardware supports it.",
        },
    ),
    (
        "fit",
        ("--fit",),
        {
            "type": click.Choice(CROP_MODES),
            "help": "How a wide thumbnail becomes square: cropped at the centre, padded, or squashed.",
        },
    ),
    (
        "bars",
        ("--bars",),
        {
            "type": click.Choice(BARS),
            "help": "Whether to cut off the letterbox bars of 4:3 thumbnails first; the recipe keeps them.",
        },
    ),
    (
        "with_reader",
        ("--with-reader/--without-reader",),
        {"help": "Also compare the words on thumbnails with titles, by CCA; the weight is fitted on held-out folds."},
    ),
    (
        "text_model",
        ("--text-model",),
        {
            "metavar": "NAME|DIR",
            "help": "A sentence model that embeds titles instead of the base model; with the reader, the model that "
            "compares words with titles.",
        },
    ),
    ("lora_rank", ("--lora-rank",), {"type": UpTo(10_000), "help": "With --train lora: the adapters' rank."}),
    (
        "lora_alpha",
        ("--lora-alpha",),
        {"type": float, "help": "With --train lora: the adapters' scale times their rank."},
    ),
    (
        "lora_targets",
        ("--lora-targets",),
        {
            "metavar": "REGEX",
            "help": "With --train lora: a regular expression that matches the full names of linear layers.",
        },
    ),
)


def training_options(*, defaults: bool, without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Add the options, which the command receives under the names of `TrainSettings`' fields.

    Args:
        defaults: show and pass the defaults; if false, an omitted option is passed as None.
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
