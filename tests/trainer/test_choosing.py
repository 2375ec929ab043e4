"""Epochs and temperature that are chosen on held-out folds of the training rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import func, select

from store.db import Database
from store.tables import TrainingRun, TrainingStep
from tests.trainer.test_ridge import aligned
from tests.trainer.training import settings as settings_of
from trainer.fitting.fitter import Fitter
from trainer.fitting.projections import PooledTriplets
from trainer.models import TEXT, VISUAL, Projections
from trainer.runs.training import train
from trainer.settings import RECIPE, TrainSettings

N, D = 90, 8
GROUPS = [str(n) for n in range(N)]
STEPS = TrainSettings(train="projection")


def settled(settings: TrainSettings, groups: list[str]) -> TrainSettings:
    pictures, titles = (side.astype(np.float32) for side in aligned(N, D, 3, noise=0.2))
    at = np.arange(N)
    rows = PooledTriplets(pictures, titles, at.astype(np.int64), at, at, None)
    fitter = Fitter(Projections(torch.eye(D), torch.eye(D)), (VISUAL, TEXT), settings, "cpu")
    return fitter.settled(rows, groups).settings


@pytest.mark.slow
def test_more_epochs_are_chosen_if_they_help() -> None:
    chosen = settled(STEPS, GROUPS)
    assert chosen == settled(STEPS, GROUPS), "the same rows and seed give the same choice"
    assert chosen.epochs is not None
    assert 2 < chosen.epochs <= 32
    assert settled(replace(STEPS, epochs=3), GROUPS).epochs == 3
    assert settled(replace(STEPS, temperature=0.7), GROUPS).temperature == 0.7


def test_the_recipe_and_a_single_group_keep_the_published_values() -> None:
    recipe = TrainSettings(**RECIPE)
    assert settled(recipe, GROUPS) == recipe
    alone = settled(STEPS, ["a"] * N)
    assert (alone.epochs, alone.temperature) == (RECIPE["epochs"], RECIPE["temperature"])


@pytest.mark.slow
def test_a_run_records_the_chosen_settings_and_trains_with_them(filled: Database, tiny_clip: Path) -> None:
    run_id = train(filled, settings_of(tiny_clip, epochs=None, temperature=None)).run_id
    with filled.read() as session:
        recorded = session.get_one(TrainingRun, run_id).settings
        steps = session.scalar(select(func.count()).select_from(TrainingStep).where(TrainingStep.run_id == run_id))
        last = session.scalar(select(func.max(TrainingStep.epoch)).where(TrainingStep.run_id == run_id))
    assert (recorded["epochs"], recorded["temperature"]) == (None, None), "a later run chooses again"
    assert last == recorded["chosen"]["epochs"] >= 2
    assert steps
    assert recorded["chosen"]["temperature"] > 0
