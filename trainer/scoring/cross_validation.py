"""Grouped, repeated k-fold cross-validation, and the comparison of two models on held-out rows. Pure functions.

For a small channel, a split of 18 rows shows a difference between two models only if it is about a third. In
cross-validation, each row is held out once per repeat, and ranked by models fitted without the row and its group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data import numbers_of

__all__ = ["Fold", "Paired", "both_ways", "candidate_ranks", "folds", "out_of_fold", "paired", "reciprocal_ranks"]

Vectors = NDArray[np.floating]
Rows = NDArray[np.intp]

FOLDS = 5
_RESAMPLES = 2000


@dataclass(frozen=True)
class Fold:
    """A division of the rows into rows to fit on and held-out rows. No group is in both parts.

    Args:
        fit: the numbers of the rows to fit on, ascending.
        held_out: the numbers of the other rows, ascending.
    """

    fit: Rows
    held_out: Rows


def folds(groups: Sequence[str], k: int = FOLDS, seed: int = 0) -> list[Fold]:
    """Divide n rows into folds of similar size. Each row is held out once, together with its group.

    Args:
        groups: n group labels.
        k: number of folds; limited to the number of groups.
        seed: seed of the shuffle.

    Returns:
        The folds, without empty parts; an empty list for fewer than two groups.
    """
    number = numbers_of(groups)
    sizes = np.bincount(number)
    k = min(k, len(sizes))
    if k < 2:
        return []
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    # Large groups first, each into the smallest fold, so that the folds have similar sizes.
    home, room = np.empty(len(sizes), dtype=np.intp), np.zeros(k, dtype=np.intp)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        home[group] = room.argmin()
        room[home[group]] += sizes[group]
    at = home[number]
    return [Fold(np.flatnonzero(at != fold), np.flatnonzero(at == fold)) for fold in range(k)]


def candidate_ranks(pictures: Vectors, titles: Vectors, own: Rows, labels: Rows) -> NDArray[np.int64]:
    """Rank each thumbnail's own title among all titles. 1 is best; in a tie, the own title comes last.

    Scores that are not numbers, of a model that diverged, count as ties.

    Args:
        pictures: (m, d) vectors of thumbnails, of length 1.
        titles: (n, d) vectors of the rows' titles, of length 1.
        own: (m,) int, the row of each thumbnail's own title.
        labels: (n,) int, equal for equal titles, which are not rivals.

    Returns:
        (m,) int64.
    """
    scores = pictures @ titles.T
    mine = scores[np.arange(len(own)), own]
    rivals = labels[own][:, None] != labels[None, :]
    # The slack exceeds the rounding error of a product of unit vectors, so rounding counts as a tie.
    slack = 1e-6 if scores.dtype == np.float32 else 1e-12
    # Not `scores >= mine`, which is false for NaN: a model that diverged on a fold would rank all titles first.
    ranks: NDArray[np.int64] = 1 + (rivals & ~(scores < mine[:, None] - slack)).sum(axis=1)
    return ranks


def both_ways(pictures: Vectors, titles: Vectors, rows: Rows, labels: Rows) -> float:
    """Return the sum of `reciprocal_ranks`, thumbnail to title and title to thumbnail.

    Args:
        pictures: (n, d) vectors of all thumbnails, of length 1.
        titles: (n, d) vectors of all titles, of length 1.
        rows: the held-out rows.
        labels: (n,) int, equal for equal titles.
    """
    sides = (pictures, titles), (titles, pictures)
    return sum(reciprocal_ranks(one[rows], other, rows, labels) for one, other in sides)


def reciprocal_ranks(asked: Vectors, candidates: Vectors, rows: Rows, labels: Rows) -> float:
    """Return the sum of the reciprocal ranks of held-out rows, among all rows and among the held-out rows alone.

    A model moves the rows that it was fitted on towards their own titles and away from all others, so among all rows, a
    held-out row has fewer rivals the more closely a model fits. Among the held-out rows, all rivals are as new as
    title ideas are.

    Args:
        asked: (m, d) vectors of the held-out rows' thumbnails (or titles), of length 1.
        candidates: (n, d) vectors of all rows' titles (or thumbnails), of length 1.
        rows: (m,) the held-out rows.
        labels: (n,) int, equal for equal titles.
    """
    among_all = candidate_ranks(asked, candidates, rows, labels)
    among_new = candidate_ranks(asked, candidates[rows], np.arange(len(rows)), labels[rows])
    return float((1.0 / among_all + 1.0 / among_new).sum())


def out_of_fold(
    groups: Sequence[str],
    ranks_of: Callable[[Fold], NDArray[np.int64]],
    *,
    repeats: int = 1,
    each: Callable[[Callable[[Fold], NDArray[np.int64]], Sequence[Fold]], Iterable[NDArray[np.int64]]] = map,
) -> NDArray[np.int64]:
    """Return the rank of each row when it was held out: (repeats, n) int.

    Args:
        groups: n group labels.
        ranks_of: fits on the `fit` rows of a fold, and returns the ranks of its `held_out` rows, in the same order.
        repeats: number of times that the rows are divided into folds.
        each: applies `ranks_of` to all folds, and returns the results in their order.

    Raises:
        ValueError: there are fewer than two groups.
    """
    cut = [(repeat, fold) for repeat in range(repeats) for fold in folds(groups, seed=repeat)]
    if not cut:
        raise ValueError("cross-validation needs at least two groups")
    found = np.zeros((repeats, len(groups)), dtype=np.int64)
    for (repeat, fold), ranks in zip(cut, each(ranks_of, [fold for _, fold in cut]), strict=True):
        found[repeat, fold.held_out] = ranks
    return found


@dataclass(frozen=True, slots=True)
class Paired:
    """Recall@1 of two models on the same held-out rows.

    Args:
        n: number of rows.
        old, new: recall@1, as the mean over the repeats.
        difference: new - old.
        low, high: 95 % interval of the difference, by bootstrap over groups of rows.
    """

    n: int
    old: float
    new: float
    difference: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """Whether the new model has the higher recall@1. A tie is not better."""
        return self.difference > 0


def paired(old: NDArray[np.int64], new: NDArray[np.int64], groups: Sequence[str]) -> Paired:
    """Compare two models by the ranks of the same rows.

    Args:
        old: (n,) or (repeats, n) ranks of at least one row by the old model; 1 is a hit.
        new: ranks by the new model, in the same shape.
        groups: n group labels. Whole groups are resampled, because rows of one group are not independent.
    """
    hits = [np.atleast_2d(ranks == 1).mean(axis=0) for ranks in (old, new)]
    change = hits[1] - hits[0]
    number = numbers_of(groups)
    sums, sizes = np.bincount(number, weights=change), np.bincount(number)
    drawn = np.random.default_rng(0).integers(len(sizes), size=(_RESAMPLES, len(sizes)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    # Computed from numbers of hits: with equal numbers, a difference of means could differ from 0 by rounding.
    total = round(float(np.atleast_2d(new == 1).sum() - np.atleast_2d(old == 1).sum()))
    difference = total / np.atleast_2d(new).size
    return Paired(len(change), float(hits[0].mean()), float(hits[1].mean()), difference, float(low), float(high))
