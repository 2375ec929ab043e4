"""What a sweep searches: each setting fixed, one of several values, or a range; read from text and checked."""

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
"""{setting: value} of one trial: those that the sweep searches or fixes."""

_NAMES = ("lr", "epochs", "batch_size", "negatives", "temperature")
_WHOLE = ("epochs", "batch_size")
_LARGEST = 2**53
"""The sampler reckons in float64, which has no whole numbers between this one and the next but one."""


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included; real ones as likely at each order of magnitude."""

    low: float
    high: float

    def values(self) -> Sequence[Value] | None:
        """All values, where they can be counted: not one by one, as there may be a thousand million."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return range(self.low, self.high + 1)
        return None

    def ends(self) -> tuple[Value, ...]:
        """The values that have to be possible."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low!r}:{self.high!r}"


@dataclass(frozen=True)
class Choices:
    """One of these values; with one it is fixed."""

    of: tuple[Value, ...]

    def values(self) -> Sequence[Value] | None:
        """All values."""
        return self.of

    def ends(self) -> tuple[Value, ...]:
        """The values that have to be possible."""
        return self.of

    def __str__(self) -> str:
        return ",".join(str(value) for value in self.of)


Dimension = Range | Choices


def parse(name: str, text: str) -> Dimension:
    """Read `LOW:HIGH`, `VALUE` or `VALUE,VALUE,...`.

    Args:
        name: the setting: `lr`, `epochs`, `batch_size`, `negatives` or `temperature`.
        text: what the user wrote.

    Raises:
        BadSetting: it is none of these, or the range is empty or goes too far; the message quotes it.
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
        raise BadSetting(f"{option} {text!r} is not understood; write {words} as LOW:HIGH or VALUE,VALUE") from error
    if not low < high:
        raise BadSetting(f"{option} {text!r} is an empty range; write the lower end first, as LOW:HIGH")
    if name in _WHOLE and high > _LARGEST:
        raise BadSetting(f"{option} {text!r} goes too far; use whole numbers up to {_LARGEST}")
    return Range(low, high)


@dataclass(frozen=True)
class Space:
    """The settings that a sweep may try. The defaults are wide: what helps differs from channel to channel.

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
        """From {setting: text}, as `parse` reads it and `as_dict` writes it; what is not named has its default.

        Raises:
            BadSetting: see `parse`.
        """
        return cls(**{name: parse(name, text) for name, text in texts.items()})

    def as_dict(self) -> dict[str, str]:
        """{setting: text}, for the store."""
        return {name: str(dimension) for name, dimension in self.dimensions().items()}

    def dimensions(self) -> dict[str, Dimension]:
        """{setting: what it may be}."""
        return {name: getattr(self, name) for name in _NAMES}

    def strategies(self) -> list[str]:
        """The strategies among `negatives`."""
        return [str(value) for value in self.negatives.values() or ()]

    def searched(self) -> dict[str, Dimension]:
        """What there is to choose: settings that are not fixed."""
        fixed = self.fixed()
        return {name: dimension for name, dimension in self.dimensions().items() if name not in fixed}

    def fixed(self) -> dict[str, Any]:
        """{setting: value} of those that are not searched."""
        return {
            name: dimension.of[0]
            for name, dimension in self.dimensions().items()
            if isinstance(dimension, Choices) and len(dimension.of) == 1
        }

    def size(self) -> int | None:
        """How many settings there are; None where they can't be counted."""
        columns = [dimension.values() for dimension in self.dimensions().values()]
        return None if None in columns else math.prod(len(column) for column in columns if column is not None)

    def points(self) -> Iterator[dict[str, Any]]:
        """All settings, where they can be counted."""
        columns = [dimension.values() or () for dimension in self.dimensions().values()]
        return (dict(zip(_NAMES, values, strict=True)) for values in _each_with_each(columns))

    def point(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a run's settings are in this space."""
        return {name: settings[name] for name in _NAMES}


def _each_with_each(columns: Sequence[Sequence[Value]]) -> Iterator[tuple[Value, ...]]:
    """As `itertools.product`, which would hold every column in memory first."""
    if not columns:
        yield ()
        return
    for value in columns[0]:
        for others in _each_with_each(columns[1:]):
            yield (value, *others)
