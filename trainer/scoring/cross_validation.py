"""Grouped, repeated k-fold cross-validation, pure: which rows are held out when, and what a comparison over them says.

Of a small channel, one split of 18 rows tells two models apart only where they differ by a third. Here every row is
held out once in each repeat, and both models are asked about it while they have not seen it, nor any row of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data import numbers_of

__all__ = ["FOLDS", "Fold", "Paired", "candidate_ranks", "folds", "out_of_fold", "paired"]

Vectors = NDArray[np.floating]
Rows = NDArray[np.intp]

FOLDS = 5
_RESAMPLES = 2000


@dataclass(frozen=True)
class Fold:
    """One part held out.

    Args:
        fit: the numbers of the rows to fit on, ascending.
        held_out: the others; no group is in both.
    """

    fit: Rows
    held_out: Rows


def folds(groups: Sequence[str], k: int = FOLDS, seed: int = 0) -> list[Fold]:
    """Cut n rows into at most k folds of about the same size; each row is held out once, its group with it.

    Args:
        groups: n labels.
        k: folds; fewer where there are fewer groups.
        seed: of the shuffle.

    Returns:
        The folds, none of them empty on either side; an empty list for fewer than two groups.
    """
    number = numbers_of(groups)
    sizes = np.bincount(number)
    k = min(k, len(sizes))
    if k < 2:
        return []
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    # Large groups first, each to the smallest fold, so that one of many rows does not make a fold far too large.
    home, room = np.empty(len(sizes), dtype=np.intp), np.zeros(k, dtype=np.intp)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        home[group] = room.argmin()
        room[home[group]] += sizes[group]
    at = home[number]
    return [Fold(np.flatnonzero(at != fold), np.flatnonzero(at == fold)) for fold in range(k)]


def candidate_ranks(pictures: Vectors, titles: Vectors, own: Rows, labels: Rows) -> NDArray[np.int64]:
    """Rank each thumbnail's own title among all titles, 1 is best; a foreign title that scores the same comes first.

    Args:
        pictures: (m, d) of m thumbnails.
        titles: (n, d) of n rows' titles.
        own: (m,) the row of each thumbnail's title.
        labels: (n,) numbers that are equal for equal titles: those are no rivals.
    """
    scores = pictures @ titles.T
    mine = scores[np.arange(len(own)), own]
    rivals = labels[own][:, None] != labels[None, :]
    # Rounding decides no rank: a product of float32 vectors of length 1 is off by less than this.
    slack = 1e-6 if scores.dtype == np.float32 else 1e-12
    ranks: NDArray[np.int64] = 1 + (rivals & (scores >= mine[:, None] - slack)).sum(axis=1)
    return ranks


def out_of_fold(
    groups: Sequence[str], ranks_of: Callable[[Fold], NDArray[np.int64]], *, repeats: int = 1, k: int = FOLDS
) -> NDArray[np.int64]:
    """The rank of every row while it was held out: (repeats, n) int.

    Args:
        groups: n labels.
        ranks_of: fits on a fold's `fit` rows and ranks its `held_out` rows, in that order.
        repeats: how often all is cut anew.
        k: folds of each.

    Raises:
        ValueError: there are fewer than two groups.
    """
    found = np.zeros((repeats, len(groups)), dtype=np.int64)
    for repeat, fold in _repeated(groups, repeats, k):
        found[repeat, fold.held_out] = ranks_of(fold)
    return found


def _repeated(groups: Sequence[str], repeats: int, k: int) -> Iterator[tuple[int, Fold]]:
    for repeat in range(repeats):
        cut = folds(groups, k, seed=repeat)
        if not cut:
            raise ValueError("fewer than two groups can't be cross-validated")
        yield from ((repeat, fold) for fold in cut)


@dataclass(frozen=True, slots=True)
class Paired:
    """Recall@1 of two models on the same held-out rows.

    Args:
        n: rows.
        old, new: recall@1, the mean over the repeats.
        difference: new - old.
        low, high: its 95 % interval, by bootstrap over groups of rows.
    """

    n: int
    old: float
    new: float
    difference: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """Whether the new model is right more often than the old one; a tie is not better."""
        return self.difference > 0


def paired(old: NDArray[np.int64], new: NDArray[np.int64], groups: Sequence[str], seed: int = 0) -> Paired:
    """Compare two models by the ranks of the same rows.

    Args:
        old: (n,) or (repeats, n) ranks of n rows, at least one; 1 is a hit.
        new: the same of the other model.
        groups: n labels; the interval resamples whole groups, as rows of one group are not independent.
        seed: of the resampling.
    """
    hits = [np.atleast_2d(ranks == 1).mean(axis=0) for ranks in (old, new)]
    change = hits[1] - hits[0]
    number = numbers_of(groups)
    sums, sizes = np.bincount(number, weights=change), np.bincount(number)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(_RESAMPLES, len(sizes)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    # Counted in whole hits: a mean of equal numbers of them differs from zero by rounding otherwise.
    total = round(float(np.atleast_2d(new == 1).sum() - np.atleast_2d(old == 1).sum()))
    difference = total / np.atleast_2d(new).size
    return Paired(len(change), float(hits[0].mean()), float(hits[1].mean()), difference, float(low), float(high))
