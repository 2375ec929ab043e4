"""Folds that keep groups whole, ranks by hand, and comparisons of two models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.scoring import candidate_ranks, folds
from trainer.scoring.cross_validation import Fold, both_ways, out_of_fold, paired, reciprocal_ranks

GROUPS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60)


@given(GROUPS, st.integers(2, 7), st.integers(0, 5))
def test_each_row_is_held_out_once_with_its_group(groups: list[str], k: int, seed: int) -> None:
    cut = folds(groups, k, seed)
    distinct = len(set(groups))
    assert len(cut) == (min(k, distinct) if distinct > 1 else 0)
    for fold in cut:
        assert sorted([*fold.fit, *fold.held_out]) == list(range(len(groups)))
        assert {groups[row] for row in fold.fit}.isdisjoint({groups[row] for row in fold.held_out})
        assert len(fold.fit) * len(fold.held_out) > 0
    if cut:
        assert sorted(row for fold in cut for row in fold.held_out) == list(range(len(groups)))


def test_folds_have_equal_sizes_and_depend_on_the_seed() -> None:
    groups = [str(n) for n in range(103)]
    sizes = [len(fold.held_out) for fold in folds(groups)]
    assert (min(sizes), max(sizes)) == (20, 21)
    first, again, other = (folds(groups, seed=seed)[0].held_out.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_ranks_of_an_example_computed_by_hand() -> None:
    titles = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
    pictures = np.array([[0.8, 0.6], [0.0, 0.0], [0.0, 1.0]])
    own = np.array([0, 1, 2])
    assert candidate_ranks(pictures, titles, own, np.arange(4)).tolist() == [3, 4, 1], "equal ones come first"
    assert candidate_ranks(pictures, titles, own, np.array([0, 1, 2, 0])).tolist() == [2, 4, 1], "equal titles are one"


def test_held_out_rows_are_ranked_among_all_rows_and_among_themselves() -> None:
    titles = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    asked, held_out = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 3])
    # Row 1 has the ranks 2 (behind row 0) and 1; row 3 has the ranks 2 (behind row 2) and 1.
    assert reciprocal_ranks(asked, titles, held_out, np.arange(4)) == 3.0
    # Row 2 has the title of row 3, so row 3 is first twice.
    assert reciprocal_ranks(asked, titles, held_out, np.array([0, 1, 3, 3])) == 3.5
    assert reciprocal_ranks(asked[::-1], titles, held_out, np.arange(4)) == 1 / 3 + 1 / 2 + 1 / 3 + 1 / 2
    assert both_ways(titles, titles, held_out, np.arange(4)) == 8.0


def test_a_model_gains_nothing_by_moving_the_rows_that_it_was_fitted_on_away() -> None:
    """Among all rows, the held-out row is found because no other row is near; among new rows, it is not."""
    fitted_on, new = np.array([[0.0, 0.0, 1.0]] * 8), np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0]])
    titles, held_out = np.concatenate([fitted_on, new]), np.array([8, 9])
    confused = reciprocal_ranks(new[::-1], titles, held_out, np.arange(10))
    assert confused == 2 * (1 / 2 + 1 / 2)
    assert reciprocal_ranks(new, titles, held_out, np.arange(10)) == 4.0


def test_rounding_does_not_affect_ranks() -> None:
    titles = np.array([[0.6, 0.8], [0.6, np.nextafter(np.float32(0.8), np.float32(0))]], np.float32)
    for own in (0, 1):
        assert candidate_ranks(titles[:1], titles, np.array([own]), np.arange(2)).tolist() == [2]


@pytest.mark.parametrize("damaged", ["thumbnail", "own title", "other title", "everything"])
def test_scores_that_are_not_numbers_are_no_hits(damaged: str) -> None:
    """A model that diverged on a fold would otherwise find every title of the fold."""
    titles, pictures = np.eye(3), np.eye(3)[:1]
    if damaged in ("thumbnail", "everything"):
        pictures = np.full_like(pictures, np.nan)
    if damaged != "thumbnail":
        titles[{"own title": [0], "other title": [1], "everything": [0, 1, 2]}[damaged]] = np.nan
    ranks = candidate_ranks(pictures, titles, np.array([0]), np.arange(3))
    assert ranks.tolist() == [2 if damaged == "other title" else 3]


def test_every_row_is_ranked_by_a_model_fitted_without_its_group() -> None:
    groups = ["a", "a", "b", "c", "d", "e"]

    def ranks_of(fold: Fold) -> np.ndarray:
        assert {groups[row] for row in fold.fit}.isdisjoint({groups[row] for row in fold.held_out})
        return fold.held_out + 1

    assert out_of_fold(groups, ranks_of, repeats=3).tolist() == [[1, 2, 3, 4, 5, 6]] * 3
    with pytest.raises(ValueError, match="two groups"):
        out_of_fold(["a", "a"], ranks_of)


def test_a_comparison_computed_by_hand() -> None:
    old, new = np.array([1, 1, 2, 5]), np.array([[1, 2, 1, 1], [1, 1, 1, 1]])
    found = paired(np.array([old, old]), new, list("abcd"))
    assert (found.n, found.old, found.new, found.difference) == (4, 0.5, 0.875, 0.375)
    assert found.low < 0.375 < found.high
    assert found.better


def test_a_tie_is_not_better_and_equal_ranks_have_an_empty_interval() -> None:
    ranks = np.array([1, 2, 3, 1])
    found = paired(ranks, ranks, list("abcd"))
    assert (found.difference, found.low, found.high, found.better) == (0, 0, 0, False)
    assert not paired(np.array([1, 2, 2]), np.array([2, 1, 2]), list("abc")).better


def test_rows_of_one_group_count_as_one_for_the_interval() -> None:
    old, new = np.full(40, 2), np.tile([1, 2], 20)
    alone = paired(old, new, [str(n) for n in range(40)])
    together = paired(np.sort(old), np.sort(new), [str(n // 10) for n in range(40)])
    assert alone.difference == together.difference
    assert together.high - together.low > alone.high - alone.low
