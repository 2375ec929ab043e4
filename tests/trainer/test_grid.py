"""The choice of one of a few values on folds."""

from __future__ import annotations

from collections.abc import Callable

from trainer.fitting.grid import best_on_folds
from trainer.scoring import Fold

GROUPS = list("abcdefghij")


def scoring(scores: dict[str | None, float]) -> Callable[[Fold], Callable[[str | None], float]]:
    return lambda fold: lambda value: scores[value] * len(fold.held_out)


def test_the_best_value_is_chosen_and_the_first_one_in_a_tie() -> None:
    assert best_on_folds(["weak", "strong"], GROUPS, scoring({None: 1, "weak": 2, "strong": 3})) == "strong"
    assert best_on_folds(["weak", "strong"], GROUPS, scoring({None: 1, "weak": 2, "strong": 2})) == "weak"


def test_none_is_chosen_if_nothing_is_better_than_the_untrained_model_or_nothing_can_be_held_out() -> None:
    assert best_on_folds(["weak", "strong"], GROUPS, scoring({None: 2, "weak": 1, "strong": 2})) is None
    assert best_on_folds(["weak", "strong"], ["a"] * 9, scoring({None: 1, "weak": 2, "strong": 3})) is None


def test_each_value_is_scored_on_every_held_out_row_once_by_a_model_without_it() -> None:
    held_out: dict[str | None, list[int]] = {None: [], "only": []}

    def fitted_on(fold: Fold) -> Callable[[str | None], float]:
        assert {*fold.fit.tolist()}.isdisjoint(fold.held_out.tolist())

        def score(value: str | None) -> float:
            held_out[value] += fold.held_out.tolist()
            return 0.0

        return score

    best_on_folds(["only"], GROUPS, fitted_on)
    assert all(sorted(rows) == list(range(len(GROUPS))) for rows in held_out.values())
