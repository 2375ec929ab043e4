"""Vectors in files: the same rows and the same training as with vectors in memory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from store.db import Database
from store.training import evaluations
from tests.trainer.training import artifact, losses, settings
from thumbtune.commands.training_options import Size
from trainer.fitting import Step
from trainer.fitting.cca import Cca, Strength
from trainer.fitting.fitter import Fitter
from trainer.fitting.projections import PooledTriplets
from trainer.fitting.ridge import Ridge
from trainer.models import Projections, VectorFile, Vectors
from trainer.runs import train
from trainer.settings import TrainSettings

GENERATOR = np.random.default_rng(5)
N = 300


def drawn(n: int, width: int) -> Vectors:
    return GENERATOR.standard_normal((n, width), dtype=np.float32)


def in_file(folder: Path, vectors: Vectors, budget: int) -> VectorFile:
    found = VectorFile(folder, len(vectors), vectors.shape[1], budget)
    for start in range(0, len(vectors), 7):
        found.put(start, vectors[start : start + 7])
    return found


def triplets(*, mined: bool) -> PooledTriplets:
    """Rows of which some share a thumbnail or a title."""
    anchor, positive = (GENERATOR.integers(0, size, N) for size in (250, 280))
    labels = np.arange(280, dtype=np.int64)
    negative = GENERATOR.permutation(positive) if mined else None
    return PooledTriplets(drawn(250, 24), drawn(280, 16), labels, anchor, positive, negative)


def test_rows_are_read_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.models.vector_files._MAPPED_BYTES", 4 * 24 * 9)
    vectors = drawn(100, 24)
    kept = in_file(tmp_path, vectors, 0)
    rows = GENERATOR.integers(0, 100, 333)
    assert np.array_equal(kept[rows], vectors[rows])
    assert kept[rows[:0]].shape == (0, 24)
    assert (len(kept), kept.shape) == (100, (100, 24))
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: write(file, memoryview(data).cast("B")[:101], offset))
    vectors = drawn(100, 24)
    assert np.array_equal(in_file(tmp_path, vectors, 0)[np.arange(100)], vectors)


@pytest.mark.slow
@pytest.mark.parametrize("mined", [True, False])
@pytest.mark.parametrize("given", [{"epochs": 3}, {}])
def test_steps_on_files_equal_steps_on_arrays_bit_for_bit(tmp_path: Path, mined: bool, given: dict[str, int]) -> None:
    """Both read the same batches in the same order, and compute them in the same way."""
    rows = triplets(mined=mined)
    budget = 4 * 4 * 40 * 50  # parts of 48 rows or fewer
    pictures, titles = (in_file(tmp_path, np.asarray(each), budget) for each in (rows.pictures, rows.titles))
    there = replace(rows, pictures=pictures, titles=titles)
    fitter = Fitter(
        Projections(torch.from_numpy(drawn(8, 24)), torch.from_numpy(drawn(8, 16))),
        ["0.model.visual_projection.weight", "0.model.text_projection.weight"],
        TrainSettings(train="projection", batch_size=16, **given),  # type: ignore[arg-type]
        "cpu",
    )
    groups = [str(row) for row in range(N)]
    done: list[list[Step]] = [[], []]
    fitted = [fitter.fit(each, groups, steps.append) for each, steps in zip((rows, there), done, strict=True)]
    assert done[0] == done[1]
    assert len(done[0]) >= 2 * 19
    assert torch.equal(fitted[0].visual, fitted[1].visual)
    assert torch.equal(fitted[0].text, fitted[1].text)


def test_closed_forms_of_blocks_equal_those_of_all_rows() -> None:
    pictures, titles = (drawn(N, 12).astype(np.float64) for _ in range(2))
    cut = [slice(0, 100), slice(100, 101), slice(101, N)]
    strength = Strength(0.01, 1)
    for found, wanted in zip(
        Cca.of_blocks((pictures[part], titles[part]) for part in cut).maps(strength),
        Cca(pictures, titles).maps(strength),
        strict=True,
    ):
        np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, rtol=1e-9, atol=1e-12)
    ridge = Ridge.of_blocks((titles[part], pictures[part]) for part in cut)
    np.testing.assert_allclose(ridge.map(0.01), Ridge(titles, pictures).map(0.01), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["projection", "cca", "ridge"])
def test_a_run_on_files_equals_a_run_in_memory(filled: Database, tiny_clip: Path, what: str) -> None:
    chosen = settings(tiny_clip, train=what)
    runs = [train(filled, chosen, features_in_memory=most).run_id for most in (10**9, 1000)]
    assert losses(filled, runs[0]) == losses(filled, runs[1])
    first, second = (artifact(filled, run) for run in runs)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    with filled.read() as session:
        scores = [{(row.model, row.split, row.metric): row.value for row in evaluations(session, run)} for run in runs]
    assert all(scores[1][key] == value for key, value in scores[0].items())


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5k", 1500), ("4096", 4096), ("0", 0)]
)
def test_sizes_are_parsed_with_units(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "GB", "-1", "2GiB", "1e9", "two"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)
