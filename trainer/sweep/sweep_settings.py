"""A sweep's settings: shared settings, search space, numbers of trials and seeds; validated when constructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from trainer.errors import BadSetting
from trainer.settings import Fit, TrainSettings
from trainer.sweep.search_space import Space

__all__ = ["SweepSettings"]


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
                raise BadSetting(f"--{name} {value!r} is too few; use {least} or more")

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
        return [replace(self.shared, fit=cast(Fit, fit), with_reader=read) for fit in self.space.fit.of]

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
