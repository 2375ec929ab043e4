"""Scoring, pure: vectors in, ranks and metrics out. Memory is one block of the similarity matrix, not all of it.

Wilson's interval (Wilson 1927) and the exact McNemar test (a binomial test on the discordant pairs) are SciPy's
`binomtest`: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.binomtest.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data import numbers_of

__all__ = ["CUTOFFS", "Comparison", "Metric", "Ranking", "mcnemar", "measure", "rank_rows"]

Vectors = NDArray[np.float32]

CUTOFFS = (1, 5, 10)
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Ranking:
    """Where each of n queries found its own counterpart among n candidates.

    Args:
        rank: (n,) int, 1 is first.
        score: (n,) float32, cosine of each query with its own row's candidate.
        top: (n,) int, the row of the candidate that won; one of the query's own when the rank is 1.
        top_score: (n,) float32, the winner's cosine.
    """

    rank: NDArray[np.int64]
    score: Vectors
    top: NDArray[np.int64]
    top_score: Vectors


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure; `low` and `high` are a proportion's 95 % Wilson interval, else None."""

    name: str
    k: int | None
    value: float
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same queries, recall@1, by the exact McNemar test.

    Args:
        n: queries.
        both, neither: hits of both, of none.
        only_a, only_b: hits of one alone: the discordant pairs, `b` and `c` in the literature.
        p: two-sided p-value; 1 when nothing is discordant.
    """

    n: int
    both: int
    only_a: int
    only_b: int
    neither: int
    p: float


def rank_rows(queries: Vectors, candidates: Vectors, own: Sequence[Sequence[str]]) -> Ranking:
    """Rank every row's candidate for every query.

    A candidate counts as a query's own when their rows agree in any of the `own` labels. The rank is that of the best
    own candidate; one that is not its own and scores the same comes first, so that a model which can't tell
    candidates apart is not credited for it.

    Args:
        queries: (n, d) float32 of length 1.
        candidates: (n, d) float32 of length 1; row i belongs to query i.
        own: lists of n labels, for example the titles.
    """
    n = len(queries)
    labels = [numbers_of(column) for column in own]
    rank, top = np.empty(n, np.int64), np.empty(n, np.int64)
    score, top_score = np.empty(n, np.float32), np.empty(n, np.float32)
    for start in range(0, n, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, n))
        at = np.arange(len(rows))
        similar = queries[rows] @ candidates.T
        hits = np.zeros(similar.shape, dtype=bool)
        hits[at, rows] = True
        for label in labels:
            hits |= label[rows, None] == label[None, :]
        _settle(similar, hits, queries[rows], candidates)
        score[rows] = similar[at, rows]
        # The row's own candidate first among its equals, for the winner shown.
        best_own = np.where(hits, similar, -np.inf).argmax(axis=1)
        own_score = similar[at, best_own]
        best_own = np.where(score[rows] == own_score, rows, best_own)
        others = np.where(hits, -np.inf, similar)
        rank[rows] = 1 + (others >= own_score[:, None]).sum(axis=1)
        best_other = others.argmax(axis=1)
        top[rows] = np.where(rank[rows] == 1, best_own, best_other)
        top_score[rows] = similar[at, top[rows]]
    return Ranking(rank, score, top, top_score)


def _settle(similar: NDArray[np.float32], hits: NDArray[np.bool_], queries: Vectors, candidates: Vectors) -> None:
    """Sum again in float64 where rounding could decide a rank or a winner, in place.

    A float32 product is off by at most d 2^-24 in some order of summation, which blocks, threads and processors choose.
    Cells within twice that of the row's best own candidate, or of its best other one, are summed each by itself, so
    that equal vectors have equal scores.
    """
    slack = np.float32((queries.shape[1] + 16) * float(np.finfo(np.float32).eps))
    own = np.where(hits, similar, -np.inf).max(axis=1, keepdims=True)
    other = np.where(hits, -np.inf, similar).max(axis=1, keepdims=True)
    near = (np.abs(similar - own) <= slack) | (~hits & (similar >= other - slack))
    for row in range(len(similar)):
        columns = np.flatnonzero(near[row])
        similar[row, columns] = np.multiply(candidates[columns], queries[row], dtype=np.float64).sum(axis=1)


def measure(ranks: NDArray[np.int64]) -> list[Metric]:
    """Recall@1, 5 and 10 with 95 % Wilson intervals, mean reciprocal rank and median rank; nothing for no ranks.

    A recall whose cut-off reaches the number of candidates is 1 by definition: read it with its n.
    """
    from scipy.stats import binomtest  # noqa: PLC0415 (a query needs no statistics, and importing takes a second)

    n = len(ranks)
    if n == 0:
        return []
    metrics = []
    for k in CUTOFFS:
        hits = int((ranks <= k).sum())
        interval = binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
        metrics.append(Metric(f"recall@{k}", k, hits / n, n, float(interval.low), float(interval.high)))
    metrics.append(Metric("mrr", None, float((1.0 / ranks).mean()), n))
    metrics.append(Metric("median_rank", None, float(np.median(ranks)), n))
    return metrics


def mcnemar(ranks_a: Mapping[str, int], ranks_b: Mapping[str, int]) -> Comparison:
    """Compare recall@1 of two models on the queries that both ranked.

    Args:
        ranks_a: {query: rank} of one model.
        ranks_b: the same of the other.
    """
    from scipy.stats import binomtest  # noqa: PLC0415 (as above)

    common = ranks_a.keys() & ranks_b.keys()
    hits = [(ranks_a[query] == 1, ranks_b[query] == 1) for query in common]
    only_a, only_b = hits.count((True, False)), hits.count((False, True))
    discordant = only_a + only_b
    p = float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return Comparison(len(hits), hits.count((True, True)), only_a, only_b, hits.count((False, False)), p)
