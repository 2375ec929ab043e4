"""Ranks and metrics against plain definitions; McNemar against the binomial formula."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.models import Vectors
from trainer.scoring import metrics as evaluation
from trainer.scoring.metrics import mcnemar, measure, rank_rows


def unit(rows: list[list[float]]) -> Vectors:
    vectors: Vectors = np.asarray(rows, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 4), min_size=1, max_size=25), st.integers(1, 9))
def test_ranks_equal_their_definition(seed: int, titles: list[int], block: int) -> None:
    """Small integer vectors, which have many ties and exact sums."""
    generator = np.random.default_rng(seed)
    n = len(titles)
    queries = generator.integers(-1, 2, (n, 3)).astype(np.float32)
    candidates = generator.integers(-1, 2, (n, 3)).astype(np.float32)
    labels = [str(title) for title in titles]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_BLOCK_ROWS", block)
        found = rank_rows(queries, candidates, [labels])
    for i in range(n):
        scores = [float(queries[i] @ candidates[j]) for j in range(n)]
        own = [j for j in range(n) if labels[j] == labels[i]]
        best = max(scores[j] for j in own)
        ahead = [j for j in range(n) if j not in own and scores[j] >= best]
        assert found.rank[i] == 1 + len(ahead)
        assert found.score[i] == scores[i]
        assert found.top_score[i] == max(scores)
        assert scores[found.top[i]] == max(scores)
        assert (found.top[i] in own) == (not ahead)


def test_equal_scores_give_the_last_rank() -> None:
    same = unit([[1, 0]] * 4)
    assert rank_rows(same, same, [list("abcd")]).rank.tolist() == [4, 4, 4, 4]


def test_an_equal_title_ranked_first_is_a_hit() -> None:
    queries = unit([[1, 0], [0, 1], [1, 1]])
    candidates = unit([[0, 1], [1, 0], [1, 1]])
    found = rank_rows(queries, candidates, [["same", "same", "other"]])
    assert found.rank.tolist() == [1, 1, 1]
    assert found.top.tolist() == [1, 0, 2]
    assert found.score.tolist() == pytest.approx([0, 0, 1])
    assert found.top_score.tolist() == pytest.approx([1, 1, 1])


def test_a_shared_label_is_a_hit_but_not_transitive() -> None:
    """Rows 0 and 1 share a title, rows 1 and 2 a thumbnail: 0 and 2 are still wrong for each other."""
    queries = unit([[1, 0], [0, 1], [0, 1]])
    candidates = unit([[0, 1], [0, 1], [1, 0]])
    found = rank_rows(queries, candidates, [["t", "t", "u"], ["p", "q", "q"]])
    assert found.rank.tolist() == [2, 1, 2]
    assert found.top.tolist() == [2, 1, 0]


def test_labels_are_compared_to_the_last_character() -> None:
    """A NUL at the end distinguishes titles, too."""
    queries = unit([[1, 0], [0, 1]])
    assert rank_rows(queries, queries[::-1], [["a", "a\0"]]).rank.tolist() == [2, 2]
    assert rank_rows(queries, queries[::-1], [["a\0", "a\0"]]).rank.tolist() == [1, 1]


@pytest.mark.slow
def test_a_long_label_does_not_enlarge_the_others() -> None:
    """In a fixed-width array, each of the 1,000 titles would take 400 kB."""
    same = unit([[1, 0]] * 1000)
    labels = ["long " * 20_000, *map(str, range(999))]
    tracemalloc.start()
    try:
        assert rank_rows(same, same, [labels]).rank.tolist() == [1000] * 1000
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_metrics_of_known_ranks() -> None:
    found = {metric.name: metric for metric in measure(np.array([1, 1, 2, 6, 11]))}
    assert {name: metric.value for name, metric in found.items()} == {
        "recall@1": 0.4,
        "recall@5": 0.6,
        "recall@10": 0.8,
        "mrr": pytest.approx((1 + 1 + 1 / 2 + 1 / 6 + 1 / 11) / 5),
        "median_rank": 2.0,
    }
    assert all(metric.n == 5 for metric in found.values())
    assert found["mrr"].low is None


def test_no_ranks_give_no_metrics() -> None:
    assert measure(np.array([], dtype=np.int64)) == []


def test_nine_of_twelve_has_a_wide_interval() -> None:
    first = measure(np.array([1] * 9 + [2] * 3))[0]
    assert (first.value, first.k, first.n) == (0.75, 1, 12)
    assert first.low == pytest.approx(0.468, abs=5e-4)
    assert first.high == pytest.approx(0.911, abs=5e-4)


@given(st.integers(1, 60), st.data())
def test_intervals_equal_the_formula_of_wilson(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    first = measure(np.array([1] * hits + [2] * (n - hits)))[0]
    z, p = 1.959963984540054, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert first.low == pytest.approx(middle - half, abs=1e-9)
    assert first.high == pytest.approx(middle + half, abs=1e-9)


@given(st.dictionaries(st.integers(0, 30).map(str), st.tuples(st.integers(1, 3), st.integers(1, 3))))
def test_mcnemar_equals_a_binomial_test_on_discordant_pairs(ranks: dict[str, tuple[int, int]]) -> None:
    found = mcnemar({k: a for k, (a, _) in ranks.items()}, {k: b for k, (_, b) in ranks.items()})
    b = sum(first == 1 and second > 1 for first, second in ranks.values())
    c = sum(first > 1 and second == 1 for first, second in ranks.values())
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert (found.n, found.only_a, found.only_b) == (len(ranks), b, c)
    assert found.both + found.neither + b + c == len(ranks)
    assert found.p == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_uses_common_queries_only() -> None:
    found = mcnemar({"a": 1, "b": 1, "x": 1}, {"a": 1, "b": 4, "y": 1})
    assert (found.n, found.both, found.only_a, found.only_b, found.neither) == (2, 1, 1, 0, 0)


def test_equal_vectors_have_equal_scores_at_any_position() -> None:
    """A float32 product may give equal vectors different scores by their position: rounding would decide."""
    generator = np.random.default_rng(8)
    base = generator.standard_normal((40, 513)).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    # Every candidate occurs twice, far apart: neither can be distinguished from the other, so no rank is 1.
    candidates = np.concatenate([base, base])
    found = rank_rows(candidates, candidates, [[str(row) for row in range(80)]])
    assert (found.rank == 2).all()
    for rows in (slice(0, 1), slice(3, 20), slice(39, 80)):
        part = rank_rows(candidates[rows], candidates[rows], [[str(row) for row in range(80)[rows]]])
        assert (part.score == found.score[rows]).all()
