"""Compute ranks and metrics from vectors, and check that vectors can be compared. Pure functions.

Only one block of the similarity matrix is in memory.

SciPy's `binomtest` gives the Wilson interval (Wilson 1927) and the exact McNemar test (a binomial test on the
discordant pairs): https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.binomtest.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from trainer.data import numbers_of

__all__ = [
    "Comparison",
    "Metric",
    "Ranking",
    "Spread",
    "collapsed",
    "mcnemar",
    "measure",
    "rank_rows",
    "spread",
    "why_unusable",
]

Vectors = NDArray[np.float32]

CUTOFFS = (1, 5, 10)
# Rows of the similarity matrix in memory: 1,024, or fewer if a row is long. Two blocks exist at a time.
_BLOCK_ROWS = 1024
_BLOCK_BYTES = 128 << 20
# Rows that are computed in float64 at a time.
_EXACT_ROWS = 4096
Spread = tuple[float, float]
"""The spread of a model's embeddings of thumbnails, and of titles. See `spread`."""

# Rounding changes the length of a normalised float32 vector by about 1e-7.
_LENGTH_SLACK = 1e-3
# Unit vectors at this distance have a cosine of 1 - 5e-7, which a float32 product can't distinguish from 1.
_TOO_CLOSE = 1e-3


@dataclass(frozen=True, eq=False)
class Ranking:
    """The ranking of n candidates for each of n queries.

    Args:
        rank: (n,) int, the rank of the query's best own candidate; 1 is first.
        score: (n,) float32, the cosine of each query with the candidate of the same row.
        top: (n,) int, the row of the first-ranked candidate.
        top_score: (n,) float32, the cosine of the first-ranked candidate.
    """

    rank: NDArray[np.int64]
    score: Vectors
    top: NDArray[np.int64]
    top_score: Vectors

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal."""
        return isinstance(other, Ranking) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric. `low` and `high` are the 95 % Wilson interval of a proportion, and None for other metrics."""

    name: str
    k: int | None
    value: float
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two models' recall@1 on the same queries, by the exact McNemar test.

    Args:
        n: number of queries.
        both, neither: number of queries that both models, or neither model, ranked correctly.
        only_a, only_b: number of queries that only one model ranked correctly: the discordant pairs.
        p: two-sided p-value; 1 without discordant pairs.
    """

    n: int
    both: int
    only_a: int
    only_b: int
    neither: int
    p: float


def rank_rows(queries: Vectors, candidates: Vectors, own: Sequence[Sequence[str]]) -> Ranking:
    """Rank the candidates of all rows for each query.

    A candidate is a query's own if their rows agree in any of the `own` labels. The result is the rank of the best own
    candidate. In a tie, other candidates come first, so that a model gets no credit for candidates that it can't
    distinguish.

    Args:
        queries: (n, d) float32 of length 1.
        candidates: (n, d) float32 of length 1. Row i belongs to query i.
        own: lists of n labels, for example the titles.
    """
    n = len(queries)
    labels = [numbers_of(column).astype(np.int32) for column in own]
    found = Ranking(np.empty(n, np.int64), np.empty(n, np.float32), np.empty(n, np.int64), np.empty(n, np.float32))
    step = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * max(1, n))))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        similar = queries[rows] @ candidates.T
        hits = np.zeros(similar.shape, dtype=bool)
        for label in labels:
            hits |= label[rows, None] == label[None, :]
        for row, of_row, hit in zip(range(start, rows.stop), similar, hits, strict=True):
            hit[row] = True
            found.score[row] = _exactly(queries[row], candidates, np.array([row]))[0]
            found.rank[row], found.top[row], found.top_score[row] = _ranked(
                row, queries[row], candidates, of_row, np.flatnonzero(hit)
            )
    return found


def _ranked(
    row: int, query: Vectors, candidates: Vectors, similar: Vectors, own: NDArray[np.intp]
) -> tuple[int, int, float]:
    """Return rank, first-ranked candidate and its cosine, for one query.

    A float32 product has an error of at most d 2^-24, which depends on the order of summation, and so on blocks,
    threads and processor. Cosines within twice that error of the query's best own candidate, or of its best other
    candidate, are computed again one by one, so that equal vectors have equal scores.

    Args:
        row: the number of the query, and of the candidate of its row.
        query: (d,) float32.
        candidates: (n, d) float32.
        similar: (n,) float32, their cosines from a product. They are changed.
        own: the query's own candidates, `row` among them.
    """
    slack = np.float32((len(query) + 16) * float(np.finfo(np.float32).eps))
    rough = similar[own]
    near = own[rough >= rough.max() - slack]
    scores = _exactly(query, candidates, near)
    score = scores.max()
    best = near[scores == score]
    low, high = rough.max() - slack, rough.max() + slack
    similar[own] = -np.inf
    ahead = int(np.count_nonzero(similar > high))
    if np.count_nonzero(similar >= low) > ahead:
        unclear = np.flatnonzero((similar >= low) & (similar <= high))
        ahead += int(np.count_nonzero(_exactly(query, candidates, unclear) >= score))
    if ahead == 0:
        # In a tie between own candidates, the candidate of the query's row.
        return 1, row if row in best else int(best[0]), float(score)
    near = np.flatnonzero(similar >= similar.max() - slack)
    scores = _exactly(query, candidates, near)
    first = int(scores.argmax())
    return 1 + ahead, int(near[first]), float(scores[first])


def _exactly(query: Vectors, candidates: Vectors, columns: NDArray[np.intp]) -> Vectors:
    """Return the cosines of some candidates: (m,) float32, each rounded from a float64 sum over exact products."""
    blocks = [columns[start : start + _EXACT_ROWS] for start in range(0, len(columns), _EXACT_ROWS)]
    parts = [np.multiply(candidates[block], query, dtype=np.float64).sum(axis=1).astype(np.float32) for block in blocks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def measure(ranks: NDArray[np.int64]) -> list[Metric]:
    """Return recall@1, 5 and 10 with 95 % Wilson intervals, mean reciprocal rank, and median rank.

    The list is empty if there are no ranks. With at most k candidates, recall@k is 1 by definition.
    """
    from scipy.stats import binomtest  # noqa: PLC0415 (not needed for a query; importing takes a second)

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
        ranks_a: {query: rank} by model A.
        ranks_b: {query: rank} by model B.
    """
    from scipy.stats import binomtest  # noqa: PLC0415 (as above)

    common = ranks_a.keys() & ranks_b.keys()
    hits = [(ranks_a[query] == 1, ranks_b[query] == 1) for query in common]
    only_a, only_b = hits.count((True, False)), hits.count((False, True))
    discordant = only_a + only_b
    p = float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return Comparison(len(hits), hits.count((True, True)), only_a, only_b, hits.count((False, False)), p)


def why_unusable(vectors: Vectors) -> str | None:
    """Return why embeddings can't be compared; None if they can.

    Args:
        vectors: (n, d) float32 of length 1, as expected. Normalising gives zeros if a length overflows or underflows.
    """
    apart = False
    for start in range(0, len(vectors), _EXACT_ROWS):
        block = vectors[start : start + _EXACT_ROWS]
        if not np.isfinite(block).all():
            return "not finite"
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
        apart = apart or bool((np.abs(lengths - 1) > _LENGTH_SLACK).any())
    return "not of unit length" if apart else None


def spread(vectors: Vectors | NDArray[np.float64], origin: Vectors | None = None) -> float:
    """Return the largest distance of (n, d) vectors from `origin`, or from the first vector; 0 for no vectors."""
    if not len(vectors):
        return 0.0
    centre = vectors[0] if origin is None else origin
    blocks = (vectors[start : start + _EXACT_ROWS] for start in range(0, len(vectors), _EXACT_ROWS))
    return max(float(np.sqrt(np.square(block - centre, dtype=np.float64).sum(axis=1).max())) for block in blocks)


def collapsed(before: Spread, after: Spread) -> bool:
    """Whether training gave all thumbnails, or all titles, the same embedding.

    False if the base model can't distinguish them either, for example because they are equal.
    """
    return any(new <= _TOO_CLOSE and new < old / 10 for old, new in zip(before, after, strict=True))
