"""Choose one of a few values by models that are fitted on folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from trainer.fitting.threads import concurrently, raise_if_cancelled
from trainer.scoring import Fold, folds

__all__ = ["best_on_folds"]

_Value = TypeVar("_Value")


def best_on_folds(
    grid: Sequence[_Value], groups: Sequence[str], fitted_on: Callable[[Fold], Callable[[_Value | None], float]]
) -> _Value | None:
    """Return the value with the highest sum of scores over five grouped folds; in a tie, the first one.

    Args:
        grid: the values.
        groups: the group of each row. A group is held out as a whole.
        fitted_on: fits on the `fit` rows of a fold, and returns a function that scores a value, or with None the
            untrained model, on the `held_out` rows.

    Returns:
        One of `grid`; None if none is better than the untrained model, or if there are fewer than two groups.
    """

    def scores(fold: Fold) -> list[float]:
        score = fitted_on(fold)
        found = [score(None)]
        for value in grid:
            raise_if_cancelled()
            found.append(score(value))
        return found

    found = concurrently(scores, folds(groups))
    if not found:
        return None
    untrained, *totals = np.sum(found, axis=0).tolist()
    best = int(np.argmax(totals))
    return grid[best] if totals[best] > untrained else None
