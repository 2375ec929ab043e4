"""A sweep's settings: what is shared, what is searched, how many trials and seeds; checked when built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import BadSetting
from trainer.search_space import Space
from trainer.settings import TrainSettings

__all__ = ["SweepSettings"]


@dataclass(frozen=True)
class SweepSettings:
    """What a sweep does.

    Args:
        shared: what all its runs share; its seed is the sampler's, and the first of the runs'. What `space` says
            replaces `lr`, `epochs`, `batch_size`, `negatives` and `temperature`.
        space: the settings to try.
        trials: how many.
        seeds: runs of each: seeds `shared.seed`, `shared.seed + 1`, ...
        finalists: how many of the best are trained with more seeds.
        final_seeds: how many more.

    Raises:
        BadSetting: a number is out of its range.
    """

    shared: TrainSettings = field(default_factory=TrainSettings)
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

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the store."""
        counts = {name: getattr(self, name) for name in ("trials", "seeds", "finalists", "final_seeds")}
        return {"shared": self.shared.as_dict(), "space": self.space.as_dict(), **counts}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> SweepSettings:
        """What `as_dict` gave, read back."""
        counts = {name: kept[name] for name in ("trials", "seeds", "finalists", "final_seeds")}
        return cls(TrainSettings.from_dict(kept["shared"]), Space.read(kept["space"]), **counts)
