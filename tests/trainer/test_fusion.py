"""The weighted sum of two models: the weights compared with a search, models without knowledge, combined vectors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.scoring.fusion import Weights, fit_weights, side_by_side

N = 60
OWN, RIVALS = range(N), ~np.eye(N, dtype=bool)


def cosines(signal: float, seed: int) -> NDArray[np.float64]:
    return np.asarray(signal * np.eye(N) + np.random.default_rng(seed).normal(0, 0.15, (N, N)))


def likelihood(first: float, second: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    logits = first * a + second * b
    return float((np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)).mean())


def test_fitted_weights_maximise_the_likelihood() -> None:
    a, b = cosines(0.3, 1), cosines(0.15, 2)
    found, loss = fit_weights(a, b, OWN, RIVALS)
    best = likelihood(found.scale * found.first, found.scale * found.second, a, b)
    assert loss == pytest.approx(best, abs=2e-2)
    others = [likelihood(x, y, a, b) for x in np.linspace(0, 60, 31) for y in np.linspace(0, 60, 31)]
    assert best <= min(others) + 2e-3
    assert found.first > found.second > 0
    assert found.first + found.second == pytest.approx(1)


def test_a_model_without_information_gets_weight_0() -> None:
    found, _ = fit_weights(cosines(0.4, 1), -cosines(0.4, 2), OWN, RIVALS)
    assert (found.first, found.second) == (1.0, 0.0)
    noise, _ = fit_weights(cosines(0.4, 1), cosines(0.0, 2), OWN, RIVALS)
    assert noise.second < 0.2


def test_a_perfect_model_has_a_finite_scale() -> None:
    found, _ = fit_weights(np.eye(N), np.zeros((N, N)), OWN, RIVALS)
    assert np.isfinite(found.scale)
    assert found.first > 0.99


def test_equal_titles_are_not_rivals() -> None:
    a, b = cosines(0.3, 1), cosines(0.15, 2)
    rivals = np.hstack([RIVALS, np.zeros_like(RIVALS)])
    (one, _), (two, _) = fit_weights(a, b, OWN, RIVALS), fit_weights(np.hstack([a, a]), np.hstack([b, b]), OWN, rivals)
    assert two.first == pytest.approx(one.first, abs=1e-6)


def test_without_rows_the_weights_are_equal() -> None:
    nothing = np.empty((0, 3))
    assert fit_weights(nothing, nothing, [], nothing.astype(bool))[0] == Weights(0.5, 0.5, 1.0)
    flat = np.zeros((3, 3))
    assert fit_weights(flat, flat, range(3), ~np.eye(3, dtype=bool))[0].first == 0.5


def test_products_of_the_vectors_are_the_weighted_cosines() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(size=(5, width)) for width in (4, 7, 4, 7)]
    a, b, c, d = ((part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32) for part in parts)
    weights = Weights(0.3, 0.7, 10)
    b[2] = 0
    pictures, titles = side_by_side(a, b, weights), side_by_side(c, d, weights)
    assert np.allclose(pictures @ titles.T, 0.3 * a @ c.T + 0.7 * b @ d.T, atol=1e-6)
    assert np.allclose(np.linalg.norm(titles, axis=1), 1, atol=1e-6)
    order = np.argsort(pictures[2] @ titles.T)
    assert (order == np.argsort(a[2] @ c.T)).all(), "without words the other model decides"
