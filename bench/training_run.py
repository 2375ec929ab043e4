"""One `thumbtune train` in a process of its own: from opening the store to the run's last row."""

from __future__ import annotations

from typing import Any

from bench.clock import Clock
from store.database import open_database
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
        The run's own phases ({"phases": {name: seconds}}), and recall@1 and rows as `bench.recipe.run` has them.
    """
    with clock.phase("train"):
        database = open_database(store)
        result = train(database, TrainSettings(**settings))
        database.close()
    scored = {"base": result.base.table(), "tuned": result.tuned.table()}
    recall = {name: {split: row["recall@1"] for split, row in found.items()} for name, found in scored.items()}
    return {"phases": result.seconds, "recall@1": recall, "rows": result.examples}
