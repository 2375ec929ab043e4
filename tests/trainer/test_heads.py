"""The two projections as values: projecting, taking in maps, and serialisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from trainer.models import TEXT, VISUAL, Encoder, Heads
from trainer.models.projections import heads_of


@pytest.fixture
def heads() -> Heads:
    torch.manual_seed(4)
    return Heads(torch.randn(4, 6), torch.randn(4, 5))


def test_projected_rows_have_length_1_whatever_the_block(heads: Heads) -> None:
    """More rows than are projected at a time."""
    pooled = np.random.default_rng(1).normal(size=(9000, 6)).astype(np.float32)
    found = heads.pictures(pooled)
    by_hand = pooled @ heads.visual.numpy().T
    assert found.dtype == np.float32
    assert np.allclose(found, by_hand / np.linalg.norm(by_hand, axis=1, keepdims=True), rtol=0, atol=1e-6)
    assert heads.titles(np.eye(5, dtype=np.float32)).shape == (5, 4)


def test_no_rows_are_no_rows(heads: Heads) -> None:
    assert heads.pictures(np.empty((0, 6), np.float32)).shape == (0, 4)
    assert heads.titles(np.empty((0, 0), np.float32)).shape == (0, 4), "as a cache with nothing in it gives"


def test_a_vector_of_zeros_stays_finite(heads: Heads) -> None:
    assert heads.pictures(np.zeros((1, 6), np.float32)).tolist() == [[0, 0, 0, 0]]


def test_some_are_replaced_and_strangers_refused(heads: Heads) -> None:
    other = torch.ones(4, 5)
    replaced = heads.with_tensors({TEXT: other})
    assert replaced is not None
    assert torch.equal(replaced.text, other)
    assert replaced.visual is heads.visual
    same = heads.with_tensors({})
    assert same is not None
    assert same.text is heads.text
    assert heads.with_tensors({TEXT: torch.ones(5, 4)}) is None
    assert heads.with_tensors({TEXT: other, "0.model.logit_scale": torch.ones(())}) is None
    assert not torch.equal(heads.text, other), "the first ones stay"


def test_they_come_back_from_bytes_to_the_bit(heads: Heads) -> None:
    transposed = Heads(heads.visual.T, heads.text)
    for mine in (heads, transposed):
        again = Heads.from_bytes(mine.as_bytes())
        assert again is not None
        assert torch.equal(again.visual, mine.visual)
        assert torch.equal(again.text, mine.text)
    assert set(load(heads.as_bytes())) == {VISUAL, TEXT}


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100, save({VISUAL: torch.ones(1, 1)})])
def test_other_bytes_are_no_heads(content: bytes) -> None:
    assert Heads.from_bytes(content) is None


def test_a_truncated_file_is_no_heads(heads: Heads) -> None:
    assert Heads.from_bytes(heads.as_bytes()[:-1]) is None


def test_a_models_heads_are_a_copy(encoder: Encoder) -> None:
    heads = heads_of(encoder.model)
    weights = encoder.model.state_dict()
    assert torch.equal(heads.visual, weights[VISUAL])
    assert torch.equal(heads.text, weights[TEXT])
    weights[VISUAL].zero_()
    assert heads.visual.abs().sum() > 0
    assert not heads.visual.requires_grad
