"""A sweep's settings and search space. Each setting of the space is fixed, one of several values, or a range."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from trainer.errors import BadSetting
from trainer.settings import CCA, CLOSED_FORM, CROP_MODES, STRATEGIES, CropMode, TrainSettings

__all__ = ["Choices", "Dimension", "Point", "Range", "Space", "SweepSettings", "Value", "parse"]

Value = float | int | str
Point = Mapping[str, Any]
"""{setting: value} of one trial, for the settings that have an effect in combination with the others."""

_FOR_ALL = ("train", "fit", "with_reader")
_OF_STEPS = ("lr", "epochs", "batch_size", "negatives", "temperature")
"""The settings that have no effect on closed forms."""
_WHOLE = ("epochs", "batch_size")
_WORDS: Mapping[str, Mapping[str, Value]] = {
    "fit": {name: name for name in CROP_MODES},
    "with_reader": {"no": False, "yes": True},
    "negatives": {name: name for name in STRATEGIES},
}
"""{setting: {text: value}} of the settings that are words."""
_LARGEST = 2**53
"""The sampler computes in float64, which represents every integer up to this one, but not the next."""


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, inclusive; real numbers are sampled on a log scale."""

    low: float
    high: float

    def values(self) -> Sequence[Value] | None:
        """All values, if they can be counted; a `range`, because there may be a billion."""
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
        return ",".join({"True": "yes", "False": "no"}.get(str(value), str(value)) for value in self.of)


Dimension = Range | Choices


def parse(name: str, text: str) -> Dimension:
    """Read `LOW:HIGH`, `VALUE` or `VALUE,VALUE,...`.

    Args:
        name: a setting of `Space`.
        text: the user's text.

    Raises:
        BadSetting: the text has another form, or the range is empty or too large; the message quotes it.
    """
    option = "--" + name.replace("_", "-")
    if name == "train":
        return _ways_to_train(text)
    if name in _WORDS:
        known, parts = _WORDS[name], [part.strip() for part in text.split(",")]
        if unknown := [part for part in parts if part not in known]:
            raise BadSetting(f"{option} {unknown[0]!r} is invalid; use {', '.join(known)}")
        return Choices(tuple(dict.fromkeys(known[part] for part in parts)))
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


def _ways_to_train(text: str) -> Choices:
    """Parse `cca,projection` as two ways to train, and other text as one: regular expressions may contain commas."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    return Choices(parts if set(parts) <= {*CLOSED_FORM, "projection"} else (text,))


@dataclass(frozen=True)
class Space:
    """The settings that a sweep may try. Default ranges are wide, because the best settings differ between channels.

    A point of a closed form only has values for `train`, `fit` and `with_reader`: the other settings only affect
    training in steps.

    Args:
        train, fit, with_reader, lr, epochs, batch_size, negatives, temperature: as in `TrainSettings`.

    Raises:
        BadSetting: a value is out of the setting's range.
    """

    train: Choices = Choices((*CLOSED_FORM, "projection"))
    fit: Choices = Choices(("crop", "squash"))
    with_reader: Choices = Choices((False, True))
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
        """Parse {setting: text} as returned by `as_dict`; missing settings keep their defaults.

        Raises:
            BadSetting: see `parse`.
        """
        return cls(**{name: parse(name, text) for name, text in texts.items()})  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, str]:
        """{setting: text}, for the store."""
        return {name: str(dimension) for name, dimension in self.dimensions().items()}

    def dimensions(self) -> dict[str, Dimension]:
        """{setting: its possible values}."""
        return {name: getattr(self, name) for name in (*_FOR_ALL, *_OF_STEPS)}

    def fixed(self) -> dict[str, Any]:
        """{setting: value} of the fixed settings."""
        return {
            name: dimension.of[0]
            for name, dimension in self.dimensions().items()
            if isinstance(dimension, Choices) and len(dimension.of) == 1
        }

    def size(self) -> int | None:
        """The number of points; None if they can't be counted."""
        sizes = [_size(columns) for columns in self._columns()]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def left(self, tried: Collection[tuple[Value, ...]]) -> tuple[Value, ...]:
        """The ways to train that have untried points.

        Args:
            tried: the values of points.
        """
        done = Counter(values[0] for values in tried)
        sizes = zip(self.train.of, map(_size, self._columns()), strict=True)
        return tuple(way for way, size in sizes if size is None or done[way] < size)

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield all points, if they can be counted."""
        for way, columns in zip(self.train.of, self._columns(), strict=True):
            for values in _each_with_each([column or () for column in columns]):
                yield dict(zip(self.names(way), values, strict=True))

    def _columns(self) -> list[list[Sequence[Value] | None]]:
        """For each way to train, the values of each setting; None for a range of reals."""
        dimensions = {name: dimension.values() for name, dimension in self.dimensions().items()}
        return [[(way,), *(dimensions[name] for name in self.names(way)[1:])] for way in self.train.of]

    def names(self, train: Value = CCA) -> Sequence[str]:
        """The settings that have an effect with this way to train; by default, with every way to train."""
        return _FOR_ALL if train in CLOSED_FORM else (*_FOR_ALL, *_OF_STEPS)

    def point(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a run's settings as a point of this space."""
        return {name: settings[name] for name in self.names(settings["train"])}

    def applied(self, shared: TrainSettings, point: Point) -> TrainSettings:
        """Combine the point's settings with the shared settings."""
        if point["train"] in CLOSED_FORM:
            # As in `resolved`: negatives have no effect on closed forms, and random negatives need no title model.
            return replace(shared, **point, negatives="random")
        return replace(shared, **point)


@dataclass(frozen=True)
class SweepSettings:
    """The settings of a sweep.

    Args:
        shared: settings that all runs share. Its seed is the seed of the sampler and of each trial's first run. The
            settings of `space` replace its own.
        space: the settings to search.
        trials: number of trials.
        seeds: runs per trial, with the seeds `shared.seed`, `shared.seed + 1`, ...
        finalists: number of the best trials that are trained with more seeds.
        final_seeds: number of these additional seeds.

    Raises:
        BadSetting: a number is out of its range.
    """

    shared: TrainSettings = field(default_factory=lambda: TrainSettings(train="projection"))
    space: Space = field(default_factory=Space)
    trials: int = 100
    seeds: int = 3
    finalists: int = 5
    final_seeds: int = 5

    def __post_init__(self) -> None:
        for name, value, least in (
            ("trials", self.trials, 1),
            ("seeds", self.seeds, 1),
            ("finalists", self.finalists, 1),
            ("final-seeds", self.final_seeds, 0),
        ):
            if value < least:
                raise BadSetting(f"--{name} {value!r} is too small; use {least} or more")

    def search_seeds(self) -> list[int]:
        """The seeds of every trial."""
        return [(self.shared.seed + number) % 2**32 for number in range(self.seeds)]

    def all_seeds(self) -> list[int]:
        """The seeds of a finalist."""
        return [(self.shared.seed + number) % 2**32 for number in range(self.seeds + self.final_seeds)]

    def to_encode(self) -> list[TrainSettings]:
        """The settings that cover all vectors of the trials: each crop mode, with the reader only if all trials use it.

        Where only some trials use the reader, the sweep reads the thumbnails itself, if the reader is installed.
        """
        read = self.space.with_reader.of == (True,)
        return [replace(self.shared, fit=cast(CropMode, fit), with_reader=read) for fit in self.space.fit.of]

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, for the store."""
        counts = {name: getattr(self, name) for name in ("trials", "seeds", "finalists", "final_seeds")}
        return {"shared": self.shared.as_dict(), "space": self.space.as_dict(), **counts}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> SweepSettings:
        """Restore settings from the result of `as_dict`."""
        counts = {name: kept[name] for name in ("trials", "seeds", "finalists", "final_seeds")}
        shared = TrainSettings.from_dict(kept["shared"])
        # Older sweeps kept these settings for all trials.
        same = {"train": shared.train, "fit": shared.fit, "with_reader": "yes" if shared.with_reader else "no"}
        return cls(shared, Space.read({**same, **kept["space"]}), **counts)


def _size(columns: Sequence[Sequence[Value] | None]) -> int | None:
    return None if None in columns else math.prod(len(column or ()) for column in columns)


def _each_with_each(columns: Sequence[Sequence[Value]]) -> Iterator[tuple[Value, ...]]:
    """Like `itertools.product`, but without holding every column in memory."""
    if not columns:
        yield ()
        return
    for value in columns[0]:
        for others in _each_with_each(columns[1:]):
            yield (value, *others)
