"""Scoring rejects embeddings that can't be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from store.training import ExampleRow
from trainer.errors import Diverged
from trainer.models import Vectors
from trainer.scoring import Scores, require_apart, score_embedded

ROWS = [ExampleRow(n, f"v{n}", "UC1", n, f"g{n}", "test", f"title {n}", f"{n:064d}", None) for n in range(3)]
UNIT = np.eye(3, dtype=np.float32)


def score_vectors(rows: Sequence[ExampleRow], pictures: Vectors, texts: Vectors) -> Scores:
    at = {row.position: number for number, row in enumerate(rows)}

    def embed(some: Sequence[ExampleRow]) -> tuple[Vectors, Vectors]:
        chosen = [at[row.position] for row in some]
        return pictures[chosen], texts[chosen]

    return score_embedded(rows, embed)


@pytest.mark.parametrize("damaged", ["pictures", "titles"])
def test_embeddings_that_cannot_be_compared_are_an_error(damaged: str) -> None:
    broken = UNIT.copy()
    assert score_vectors(ROWS, UNIT, UNIT).table()["test"]["recall@1"] == 1.0
    for value in (np.nan, 0.0):
        broken[1, 1] = value
        with pytest.raises(Diverged):
            score_vectors(ROWS, *((broken, UNIT) if damaged == "pictures" else (UNIT, broken)))


@pytest.mark.parametrize("damaged", ["pictures", "titles"])
def test_a_collapsed_model_is_refused(damaged: str) -> None:
    same = np.repeat(UNIT[:1], 3, axis=0)
    base = score_vectors(ROWS, UNIT, UNIT)
    after = score_vectors(ROWS, *((same, UNIT) if damaged == "pictures" else (UNIT, same)))
    require_apart(base, base)
    with pytest.raises(Diverged):
        require_apart(base, after)
    require_apart(after, after)


def many(n: int) -> tuple[list[ExampleRow], Vectors, Vectors]:
    """Rows of three channels and splits, and vectors of which about half rank right."""
    generator = np.random.default_rng(1)
    splits = generator.choice(["train", "valid", "test"], n, p=[0.6, 0.2, 0.2])
    rows = [
        ExampleRow(at, f"v{at}", f"UC{at % 3}", at, f"g{at}", str(split), f"title {at % (n - 5)}", f"{at:064d}", None)
        for at, split in enumerate(splits)
    ]
    pictures = generator.standard_normal((n, 8), dtype=np.float32)
    texts = pictures + 0.5 * generator.standard_normal((n, 8), dtype=np.float32)
    pictures, texts = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (pictures, texts))
    return rows, pictures, texts


def test_scoring_in_parts_gives_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, pictures, texts = many(200)
    together = score_vectors(rows, pictures, texts)
    assert {score.scope for score in together.scores} == {"all", "UC0", "UC1", "UC2"}
    assert 0.1 < together.table()["test"]["recall@1"] < 0.9
    monkeypatch.setattr("trainer.scoring.scoring._AT_ONCE", 10)
    monkeypatch.setattr("trainer.scoring.metrics._BLOCK_BYTES", 4 * 7 * 40)
    monkeypatch.setattr("trainer.scoring.metrics._EXACT_ROWS", 3)
    in_parts = score_vectors(rows, pictures, texts)
    assert in_parts.scores == together.scores
    assert list(in_parts.rank_rows()) == list(together.rank_rows())


def test_a_large_training_split_is_scored_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, pictures, texts = many(200)
    whole = score_vectors(rows, pictures, texts)
    monkeypatch.setattr("trainer.scoring.scoring.MOST_TRAIN", 30)
    found = score_vectors(rows, pictures, texts)
    counts = Counter((row["split"], row["direction"]) for row in found.rank_rows())
    assert {n for (split, _), n in counts.items() if split == "train"} == {30}
    assert list(found.rank_rows()) == list(score_vectors(rows, pictures, texts).rank_rows()), "always the same rows"
    for split in ("valid", "test"):
        assert found.ranks(split, "title_to_thumbnail") == whole.ranks(split, "title_to_thumbnail")
        assert found.table()[split] == whole.table()[split]
