"""Embeddings of a diverged training are recognised as not comparable."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.scoring import why_unusable
from trainer.scoring.metrics import collapsed, spread

UNIT = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((0, 0, np.nan), "not finite"),
        ((0, np.inf, 0), "not finite"),
        ((0, 0, 0), "not of unit length"),
        ((1e-20, 0, 0), "not of unit length"),
        ((0.9, 0, 0), "not of unit length"),
        ((0.6, 0.8, 0), None),
    ],
)
def test_one_row_can_be_compared(row: tuple[float, ...], reason: str | None) -> None:
    vectors = UNIT.copy()
    vectors[1] = row
    assert why_unusable(vectors) == reason


def test_rounding_of_many_dimensions_keeps_the_length() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 4096)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert why_unusable(vectors) is None
    assert why_unusable(np.empty((0, 5), np.float32)) is None


def test_spread() -> None:
    assert spread(UNIT) == pytest.approx(2**0.5)
    assert spread(np.ones((4, 1), np.float32)) == 0
    assert spread(UNIT[:1]) == spread(np.empty((0, 5), np.float32)) == 0


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((0.2, 0.3), (0.0, 0.3), True),
        ((0.2, 0.3), (0.2, 1e-6), True),
        ((0.2, 0.3), (0.01, 0.01), False),
        ((0.0, 0.3), (0.0, 0.3), False),
        ((2e-3, 0.3), (9e-4, 0.3), False),
    ],
    ids=["thumbnails", "titles", "near", "equal thumbnails", "alike thumbnails"],
)
def test_collapse(before: tuple[float, float], after: tuple[float, float], expected: bool) -> None:
    assert collapsed(before, after) == expected
