"""A sweep's search space: each setting is fixed, one of several values, or a range; parsed from text and validated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.errors import BadSetting
from trainer.settings import STRATEGIES, TrainSettings

__all__ = ["Choices", "Dimension", "Point", "Range", "Space", "Value", "parse"]

Value = float | int | str
Point = Mapping[str, Any]
"""{setting: value} of one trial, for the settings that are searched or fixed."""

_NAMES = ("lr", "epochs", "batch_size", "negatives", "temperature")
_WHOLE = ("epochs", "batch_size")
_LARGEST = 2**53
"""The sampler computes in float64, which represents every integer up to this one, but not the next."""


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, inclusive; real numbers are sampled on a log scale."""

    low: float
    high: float

    def values(self) -> Sequence[Value] | None:
        """All values, if they can be counted; as a `range`, because there may be a thousand million."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return range(self.low, self.high + 1)
        return None

    def ends(self) -> tuple[Value, ...]:
        """The values that must be valid."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low!r}:{self.high!r}"


@dataclass(frozen=True)
class Choices:
    """One of these values; a single value is fixed."""

    of: tuple[Value, ...]

    def values(self) -> Sequence[Value] | None:
        """All values."""
        return self.of

    def ends(self) -> tuple[Value, ...]:
        """The values that must be valid."""
        return self.of

    def __str__(self) -> str:
        return ",".join(str(value) for value in self.of)


Dimension = Range | Choices


def parse(name: str, text: str) -> Dimension:
    """Read `LOW:HIGH`, `VALUE` or `VALUE,VALUE,...`.

    Args:
        name: the setting: `lr`, `epochs`, `batch_size`, `negatives` or `temperature`.
        text: the user's text.

    Raises:
        BadSetting: the text has another form, or the range is empty or too large; the message quotes it.
    """
    option = "--" + name.replace("_", "-")
    if name == "negatives":
        return Choices(tuple(dict.fromkeys(part.strip() for part in text.split(","))))
    number, words = (int, "whole numbers") if name in _WHOLE else (float, "numbers")
    try:
        if ":" not in text:
            return Choices(tuple(dict.fromkeys(number(part) for part in text.split(","))))
        low, high = (number(part) for part in text.split(":"))
    except ValueError as error:
        raise BadSetting(f"{option} {text!r} is invalid; write {words} as LOW:HIGH or VALUE,VALUE") from error
    if not low < high:
        raise BadSetting(f"{option} {text!r} is an empty range; write the lower end first, as LOW:HIGH")
    if name in _WHOLE and high > _LARGEST:
        raise BadSetting(f"{option} {text!r} is too large; use whole numbers up to {_LARGEST}")
    return Range(low, high)


@dataclass(frozen=True)
class Space:
    """The settings that a sweep may try. The default ranges are wide: what helps differs from channel to channel.

    Args:
        lr, epochs, batch_size, negatives, temperature: as in `TrainSettings`.

    Raises:
        BadSetting: a value is out of the setting's range.
    """

    lr: Dimension = Range(1e-5, 1e-2)
    epochs: Dimension = Range(1, 10)
    batch_size: Dimension = Choices((8, 16, 32, 64))
    negatives: Dimension = Choices(STRATEGIES)
    temperature: Dimension = Range(0.01, 0.2)

    def __post_init__(self) -> None:
        for name, dimension in self.dimensions().items():
            for value in dimension.ends():
                replace(TrainSettings(), **{name: value})  # type: ignore[arg-type]

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> Space:
        """Parse {setting: text}, as `as_dict` writes it; missing settings keep their defaults.

        Raises:
            BadSetting: see `parse`.
        """
        return cls(**{name: parse(name, text) for name, text in texts.items()})

    def as_dict(self) -> dict[str, str]:
        """{setting: text}, for the store."""
        return {name: str(dimension) for name, dimension in self.dimensions().items()}

    def dimensions(self) -> dict[str, Dimension]:
        """{setting: its possible values}."""
        return {name: getattr(self, name) for name in _NAMES}

    def strategies(self) -> list[str]:
        """The strategies that `negatives` contains."""
        return [str(value) for value in self.negatives.values() or ()]

    def searched(self) -> dict[str, Dimension]:
        """The settings that are not fixed."""
        fixed = self.fixed()
        return {name: dimension for name, dimension in self.dimensions().items() if name not in fixed}

    def fixed(self) -> dict[str, Any]:
        """{setting: value} of the fixed settings."""
        return {
            name: dimension.of[0]
            for name, dimension in self.dimensions().items()
            if isinstance(dimension, Choices) and len(dimension.of) == 1
        }

    def size(self) -> int | None:
        """The number of points; None if they can't be counted."""
        columns = [dimension.values() for dimension in self.dimensions().values()]
        return None if None in columns else math.prod(len(column) for column in columns if column is not None)

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield all points, if they can be counted."""
        columns = [dimension.values() or () for dimension in self.dimensions().values()]
        return (dict(zip(_NAMES, values, strict=True)) for values in _each_with_each(columns))

    def point(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a run's settings as a point of this space."""
        return {name: settings[name] for name in _NAMES}


def _each_with_each(columns: Sequence[Sequence[Value]]) -> Iterator[tuple[Value, ...]]:
    """Like `itertools.product`, which would first hold every column in memory."""
    if not columns:
        yield ()
        return
    for value in columns[0]:
        for others in _each_with_each(columns[1:]):
            yield (value, *others)
