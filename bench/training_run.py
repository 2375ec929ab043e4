"""One `thumbtune train` in a separate process, from opening the store to the run's last row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.clock import Clock
from store.db import open_database
from trainer.runs import train
from trainer.settings import TrainSettings

__all__ = ["run"]


def run(clock: Clock, *, store: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Train once.

    Args:
        clock: times the process.
        store: the store's URL.
        settings: fields of `TrainSettings`.

    Returns:
        The run's phases ({"phases": {name: seconds}}), and recall@1 and rows like `bench.recipe.run`.
    """
    with clock.phase("train"), open_database(store) as database:
        result = train(database, TrainSettings(**settings), progress=_Timed(clock))
    scored = {"base": result.base.table(), "tuned": result.tuned.table()}
    recall = {name: {split: row["recall@1"] for split, row in found.items()} for name, found in scored.items()}
    # The run's clock includes torch's imports at the first optimiser step; this clock does not.
    phases = {**result.seconds, "fit": clock.phases["Training"]}
    return {"phases": phases, "recall@1": recall, "rows": result.examples}


@dataclass(frozen=True)
class _Timed:
    """A progress display that times the phases."""

    clock: Clock

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        with self.clock.phase(description):
            yield lambda _n: None

    def warn(self, text: str) -> None:
        pass
