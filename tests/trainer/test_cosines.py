"""The basis of `trainer.data.negatives`: cosines that are equal in every way of computing them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.cosines import Cosines


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 900), st.sampled_from([1e-15, 1.0, 1e15]))
def test_approximate_and_exact_cosines_agree_within_the_error_bound(seed: int, n: int, d: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    vectors = (generator.normal(size=(n, d)) * size * generator.uniform(0.1, 10, size=(n, 1))).astype(np.float32)
    cosines, everything = Cosines(vectors), np.arange(n)
    bulk = cosines.between(everything, everything)
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    for row in range(n):
        exact = cosines.exactly(row, everything)
        np.testing.assert_allclose(exact, wide @ wide[row] / (lengths * lengths[row]), rtol=0, atol=1e-12)
        np.testing.assert_allclose(bulk[row], exact, rtol=0, atol=cosines._slack / 2)


def test_equal_vectors_have_equal_cosines_with_any_other() -> None:
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(7, 301)).astype(np.float32)[generator.integers(7, size=500)]
    cosines = Cosines(vectors)
    for row in (0, 1, 499):
        exact = cosines.exactly(row, np.arange(500))
        assert len(np.unique(exact)) == 7
        assert exact.max() <= 1
        assert all(cosines.exactly(row, np.asarray([other]))[0] == exact[other] for other in range(0, 500, 37))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 20, 1000, 5000])
def test_nearest_neighbours_are_in_order_and_without_missing_entries(count: int) -> None:
    """Half of these vectors are zero: a search may miss some of them."""
    generator = np.random.default_rng(5)
    vectors = np.zeros((1000, 16), dtype=np.float32)
    vectors[500:] = generator.normal(size=(500, 16))
    cosines = Cosines(vectors)
    met = []
    for row, (similar, columns) in enumerate(cosines.nearest(count)):
        assert len(similar) == len(columns) <= min(count, 1000)
        assert (np.diff(columns) > 0).all()
        assert columns.min() >= 0
        np.testing.assert_allclose(similar, cosines.exactly(row, columns), rtol=0, atol=cosines._slack)
        assert row < 500 or row in columns
        met.append(len(columns))
    assert len(met) == 1000
    # With many candidates, the recall of a search depends on the version of faiss.
    assert count >= 1000 or min(met) == count


def test_a_search_restores_the_number_of_threads() -> None:
    import faiss  # noqa: PLC0415 (as the module does)

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        assert len(list(Cosines(np.eye(8, dtype=np.float32)).nearest(3))) == 8
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
