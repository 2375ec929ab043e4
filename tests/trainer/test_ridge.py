"""The ridge map against an independent solution, and the choice of its penalty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.fitting.ridge import Ridge, choose_penalty, unit
from trainer.scoring import candidate_ranks

Matrix = NDArray[np.float64]


def aligned(n: int, d: int, seed: int, noise: float = 0.5) -> tuple[Matrix, Matrix]:
    """Titles, and thumbnails that are rotated titles with noise."""
    random = np.random.default_rng(seed)
    titles = unit(random.normal(size=(n, d)))
    turned, _ = np.linalg.qr(np.eye(d) + 0.8 * random.normal(size=(d, d)) / np.sqrt(d))
    return unit(titles @ turned.T + noise * random.normal(size=(n, d)) / np.sqrt(d)), titles


@given(n=st.integers(1, 30), d=st.integers(1, 12), exponent=st.floats(-4, 2), seed=st.integers(0, 1000))
def test_the_map_is_the_least_squares_solution(n: int, d: int, exponent: float, seed: int) -> None:
    """The penalty as d additional rows: sqrt(n * penalty) M = sqrt(n * penalty) I."""
    pictures, titles = aligned(n, d, seed)
    weight = np.sqrt(n * 10**exponent)
    rows, wanted = np.vstack([pictures, weight * np.eye(d)]), np.vstack([titles, weight * np.eye(d)])
    expected = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    assert np.allclose(Ridge(pictures, titles).map(10**exponent), expected, atol=1e-7)


@given(st.integers(0, 100))
def test_no_nearby_map_has_a_smaller_loss(seed: int) -> None:
    pictures, titles = aligned(15, 6, seed)

    def cost(found: Matrix) -> float:
        return float(((pictures @ found - titles) ** 2).sum() / 15 + 0.1 * ((found - np.eye(6)) ** 2).sum())

    best = Ridge(pictures, titles).map(0.1)
    step = 1e-3 * np.random.default_rng(seed).normal(size=(6, 6))
    assert cost(best) <= min(cost(best + step), cost(best - step))


@pytest.mark.parametrize("n", [3, 40])
def test_mapping_without_computing_the_map_gives_the_same(n: int) -> None:
    pictures, titles = aligned(n, 8, 0)
    ridge, (other, _) = Ridge(titles, pictures), aligned(5, 8, 1)
    assert np.allclose(ridge.mapped(other, ridge.project(other), 0.1), other @ ridge.map(0.1))


def test_a_large_penalty_gives_the_base_model() -> None:
    assert np.allclose(Ridge(*aligned(20, 8, 0)).map(1e9), np.eye(8), atol=1e-8)


def test_equal_pairs_give_the_identity() -> None:
    _, titles = aligned(20, 8, 0)
    assert np.allclose(Ridge(titles, titles).map(1e-3), np.eye(8))


def test_a_small_penalty_is_chosen_if_it_helps() -> None:
    pictures, titles = aligned(200, 8, 3, noise=0.3)
    penalty = choose_penalty(pictures, titles, [str(n) for n in range(200)], np.arange(200))
    assert penalty is not None
    assert penalty <= 0.1
    (more, own), at = aligned(60, 8, 4, noise=0.3), np.arange(60)
    mapped = unit(own @ Ridge(titles, pictures).map(penalty))
    before, after = (candidate_ranks(more, candidates, at, at) for candidates in (own, mapped))
    assert (1 / after).mean() > (1 / before).mean() + 0.1


def test_no_penalty_is_chosen_for_a_perfect_model() -> None:
    _, titles = aligned(40, 8, 3)
    assert choose_penalty(titles, titles, [str(n) for n in range(40)], np.arange(40)) is None


def test_no_penalty_is_chosen_for_a_single_group() -> None:
    assert choose_penalty(*aligned(3, 8, 3), groups=["a"] * 3, labels=np.arange(3)) is None


def test_a_zero_vector_stays_zero() -> None:
    assert not unit(np.zeros((2, 3)) @ Ridge(*aligned(20, 3, 0)).map(0.1)).any()
