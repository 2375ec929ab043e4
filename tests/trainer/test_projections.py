"""The two projections as values: projecting, taking in maps, and serialisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from trainer.models import TEXT, VISUAL, Encoder, Projections


@pytest.fixture
def projections() -> Projections:
    torch.manual_seed(4)
    return Projections(torch.randn(4, 6), torch.randn(4, 5))


def test_projected_rows_have_length_1_for_any_block_size(projections: Projections) -> None:
    """More rows than are projected at a time."""
    pooled = np.random.default_rng(1).normal(size=(9000, 6)).astype(np.float32)
    found = projections.pictures(pooled)
    by_hand = pooled @ projections.visual.numpy().T
    assert found.dtype == np.float32
    assert np.allclose(found, by_hand / np.linalg.norm(by_hand, axis=1, keepdims=True), rtol=0, atol=1e-6)
    assert projections.titles(np.eye(5, dtype=np.float32)).shape == (5, 4)


def test_no_rows_give_no_embeddings(projections: Projections) -> None:
    assert projections.pictures(np.empty((0, 6), np.float32)).shape == (0, 4)
    assert projections.titles(np.empty((0, 0), np.float32)).shape == (0, 4), "as returned by an empty cache"


def test_a_vector_of_zeros_stays_finite(projections: Projections) -> None:
    assert projections.pictures(np.zeros((1, 6), np.float32)).tolist() == [[0, 0, 0, 0]]


def test_known_tensors_are_replaced_and_unknown_tensors_refused(projections: Projections) -> None:
    other = torch.ones(4, 5)
    replaced = projections.with_tensors({TEXT: other})
    assert replaced is not None
    assert torch.equal(replaced.text, other)
    assert replaced.visual is projections.visual
    same = projections.with_tensors({})
    assert same is not None
    assert same.text is projections.text
    assert projections.with_tensors({TEXT: torch.ones(5, 4)}) is None
    assert projections.with_tensors({TEXT: other, "0.model.logit_scale": torch.ones(())}) is None
    assert not torch.equal(projections.text, other), "the first ones stay"


def test_serialised_projections_are_restored_exactly(projections: Projections) -> None:
    transposed = Projections(projections.visual.T, projections.text)
    for mine in (projections, transposed):
        again = Projections.from_bytes(mine.as_bytes())
        assert again is not None
        assert torch.equal(again.visual, mine.visual)
        assert torch.equal(again.text, mine.text)
    assert set(load(projections.as_bytes())) == {VISUAL, TEXT}


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100, save({VISUAL: torch.ones(1, 1)})])
def test_other_bytes_are_refused(content: bytes) -> None:
    assert Projections.from_bytes(content) is None


def test_a_truncated_file_is_refused(projections: Projections) -> None:
    assert Projections.from_bytes(projections.as_bytes()[:-1]) is None


def test_the_projections_of_a_model_are_a_copy(encoder: Encoder) -> None:
    projections = Projections.of(encoder.model)
    weights = encoder.model.state_dict()
    assert torch.equal(projections.visual, weights[VISUAL])
    assert torch.equal(projections.text, weights[TEXT])
    weights[VISUAL].zero_()
    assert projections.visual.abs().sum() > 0
    assert not projections.visual.requires_grad
