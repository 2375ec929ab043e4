"""A training run's settings: the recipe's own as defaults, checked when built."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.errors import BadSetting

__all__ = ["DEFAULT_MODEL", "DEFAULT_TITLE_MODEL", "DEVICES", "STRATEGIES", "Strategy", "TrainSettings"]

Strategy = Literal["least-similar", "hard", "random", "none"]
STRATEGIES: tuple[Strategy, ...] = ("least-similar", "hard", "random", "none")
DEVICES = ("auto", "cpu", "cuda", "mps")

DEFAULT_MODEL = "sentence-transformers/clip-ViT-L-14"
"""What the recipe fine-tunes."""
DEFAULT_TITLE_MODEL = "sentence-transformers/all-mpnet-base-v2"
"""What the recipe compares titles with when it mines negatives."""


@dataclass(frozen=True)
class TrainSettings:
    """All that decides what a run does. The defaults are the recipe's.

    Args:
        model: hub name or folder of a CLIP-style model, or `N:base`, the base of run N.
        train: `projection`, `all`, or a regular expression searched for in parameter names.
        negatives: how each row's negative title is chosen.
        title_model: compares titles for `least-similar` and `hard`: hub name, folder, or `base` for the text tower
            of `model`.
        hard_max_similarity: `hard` takes titles at most this similar (cosine); more alike ones may be paraphrases.
        epochs: passes over the training split, at least 1.
        batch_size: rows a step, at least 2 (in-batch negatives need a second row).
        lr: AdamW's learning rate at the start; it falls linearly to 0.
        seed: of batch order, weights' randomness and `random` negatives. Splits don't depend on it.
        device: `auto`, `cpu`, `cuda` or `mps`.
        channels: train on these channel ids only; empty: on all.

    Raises:
        BadSetting: a value is out of its range; the message quotes it.
    """

    model: str = DEFAULT_MODEL
    train: str = "projection"
    negatives: Strategy = "least-similar"
    title_model: str = DEFAULT_TITLE_MODEL
    hard_max_similarity: float = 0.9
    epochs: int = 2
    batch_size: int = 16
    lr: float = 1e-4
    seed: int = 42
    device: str = "auto"
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()

    def _check_words(self) -> None:
        if not self.model.strip():
            raise BadSetting("the model is an empty name; give a folder or a hub name with --model")
        if not self.title_model.strip():
            raise BadSetting("the title model is an empty name; give a folder, a hub name or 'base'")
        if self.negatives not in STRATEGIES:
            raise BadSetting(f"negatives {self.negatives!r} are not known; use one of {', '.join(STRATEGIES)}")
        if self.device not in DEVICES:
            raise BadSetting(f"device {self.device!r} is not known; use one of {', '.join(DEVICES)}")
        try:
            re.compile(self.train)
        except (re.error, OverflowError, RecursionError) as error:
            raise BadSetting(
                f"--train {self.train!r} is not a regular expression ({error}); "
                "use projection, all, or an expression that matches parameter names"
            ) from error
        if not self.train:
            raise BadSetting("--train is empty; use projection, all, or an expression for parameter names")

    def _check_numbers(self) -> None:
        if self.epochs < 1:
            raise BadSetting(f"epochs {self.epochs!r} is too few; use 1 or more")
        if self.batch_size < 2:
            raise BadSetting(f"batch size {self.batch_size!r} is too small; use 2 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise BadSetting(f"learning rate {self.lr!r} is out of range; use a number above 0")
        if not 0 <= self.seed < 2**32:
            raise BadSetting(f"seed {self.seed!r} is out of range; use 0 to 4294967295")
        if not -1 <= self.hard_max_similarity <= 1:
            raise BadSetting(f"hard_max_similarity {self.hard_max_similarity!r} is out of range; use -1 to 1")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the store."""
        return {**asdict(self), "channels": list(self.channels)}
