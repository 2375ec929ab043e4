"""Scoring rejects embeddings that can't be compared."""

from __future__ import annotations

import numpy as np
import pytest

from store.training import ExampleRow
from trainer.errors import Diverged
from trainer.scoring import require_apart, score_vectors

ROWS = [ExampleRow(n, f"v{n}", "UC1", n, f"g{n}", "test", f"title {n}", f"{n:064d}", None) for n in range(3)]
UNIT = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize("damaged", ["pictures", "titles"])
def test_embeddings_that_can_not_be_compared_are_no_hits(damaged: str) -> None:
    broken = UNIT.copy()
    assert score_vectors(ROWS, UNIT, UNIT).table()["test"]["recall@1"] == 1.0
    for value in (np.nan, 0.0):
        broken[1, 1] = value
        with pytest.raises(Diverged):
            score_vectors(ROWS, *((broken, UNIT) if damaged == "pictures" else (UNIT, broken)))


@pytest.mark.parametrize("damaged", ["pictures", "titles"])
def test_a_model_that_tells_nothing_apart_any_more_is_refused(damaged: str) -> None:
    same = np.repeat(UNIT[:1], 3, axis=0)
    base = score_vectors(ROWS, UNIT, UNIT)
    after = score_vectors(ROWS, *((same, UNIT) if damaged == "pictures" else (UNIT, same)))
    require_apart(base, base)
    with pytest.raises(Diverged):
        require_apart(base, after)
    require_apart(after, after)
