"""Training from the champion: it starts with its tensors, and saves the tensors that differ from the base model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import select

from store.db import Database
from store.tables import Picture, Video
from store.training import champion, get_run, promote
from tests.store.builders import list_runs
from tests.trainer.tiny import build_clip
from tests.trainer.training import artifact, losses, settings, train_in_use, vectors
from trainer.errors import BadSetting, RunUnusable
from trainer.models import TEXT, VISUAL
from trainer.runs import evaluate, train
from trainer.runs.recorded import embedder_of, load_run_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet")]

MLP = r"vision_model.*layers\.1\..*mlp"
STILL = 1e-12
"""A learning rate at which nothing moves: what comes out is what it started from."""


def embedded(database: Database, run_id: int) -> np.ndarray:
    with database.read() as session:
        digests = session.scalars(select(Picture.sha256)).all()
        titles = session.scalars(select(Video.title)).all()
    found: np.ndarray = vectors(embedder_of(database, run_id), database, digests, titles)
    return found


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("projection", "projection", {VISUAL, TEXT}),
        ("projection", "visual_projection", {VISUAL, TEXT}),
        ("visual_projection", "text_projection", {VISUAL, TEXT}),
        ("visual_projection", "visual_projection", {VISUAL}),
        ("projection", "lora", {VISUAL, TEXT}),
        ("projection", MLP, {VISUAL, TEXT}),
        (MLP, "projection", {VISUAL, TEXT}),
        ("all", "projection", None),
        (MLP, "lora", set()),
    ],
)
def test_training_starts_from_the_weights_of_the_champion(
    filled: Database, tiny_clip: Path, first: str, second: str, kept: set[str] | None
) -> None:
    before = train_in_use(filled, settings(tiny_clip, train=first, epochs=4))
    on = train(filled, settings(Path("elsewhere"), train=second, start="champion", lr=STILL, epochs=1))
    assert np.allclose(embedded(filled, on.run_id), embedded(filled, before.run_id), rtol=0, atol=1e-5)
    assert on.base == before.base, "the base model is the champion's base model"
    with filled.read() as session:
        rows = [get_run(session, result.run_id) for result in (before, on)]
    assert rows[0].base_model == rows[1].base_model
    assert rows[0].base_fingerprint == rows[1].base_fingerprint
    names = {name for name in artifact(filled, on.run_id) if ".lora_" not in name}
    mine = set(artifact(filled, before.run_id))
    trained = {name for name in names - mine if "mlp" in name}
    if kept is None:
        assert names == mine
    else:
        assert kept | mine | trained == names
        assert bool(trained) == (second == MLP)
    assert on.champion is not None
    assert evaluate(filled, str(on.run_id), "cpu").matches is True


def test_losses_continue_where_those_of_the_champion_ended(filled: Database, tiny_clip: Path) -> None:
    train_in_use(filled, settings(tiny_clip, epochs=8))
    anew = train(filled, settings(tiny_clip))
    on = train(filled, settings(tiny_clip, start="champion"))
    assert losses(filled, on.run_id)[0] < losses(filled, anew.run_id)[0]


def test_both_learners_continue_from_projections_alike(filled: Database, tiny_clip: Path) -> None:
    """With an additional frozen scale, the whole model is trained; the steps are the same."""
    train_in_use(filled, settings(tiny_clip, epochs=8))
    on = train(filled, settings(tiny_clip, start="champion"))
    whole = train(filled, settings(tiny_clip, start="champion", train="_projection|logit_scale"))
    assert losses(filled, whole.run_id) == pytest.approx(losses(filled, on.run_id), rel=1e-5)
    assert set(artifact(filled, whole.run_id)) == {VISUAL, TEXT, "0.model.logit_scale"}
    assert np.allclose(embedded(filled, whole.run_id), embedded(filled, on.run_id), rtol=0, atol=1e-4)


def test_continuing_from_adapters_is_refused(filled: Database, tiny_clip: Path) -> None:
    train_in_use(filled, settings(tiny_clip, train="lora"))
    for what in ("projection", "lora", "all"):
        with pytest.raises(RunUnusable, match="run 1 trained LoRA adapters"):
            train(filled, settings(tiny_clip, train=what, start="champion"))
    with filled.read() as session:
        assert [run.id for run in list_runs(session)] == [1], "before any work"
        in_use = champion(session)
    assert in_use is not None
    assert in_use.id == 1


def test_adapters_trained_on_a_champion_are_loaded_with_it(filled: Database, tiny_clip: Path) -> None:
    """Trained for real: the champion's own projections have adapters on them."""
    before = train_in_use(filled, settings(tiny_clip, epochs=4))
    on = train(filled, settings(tiny_clip, train="lora", start="champion"))
    assert evaluate(filled, str(on.run_id), "cpu").matches is True
    kept = artifact(filled, on.run_id)
    assert torch.equal(kept[VISUAL], artifact(filled, before.run_id)[VISUAL])
    loaded = load_run_model(filled, on.run_id).model.state_dict()
    assert not torch.equal(loaded[VISUAL], kept[VISUAL]), "with the adapter added"


def test_a_missing_champion_is_an_error(filled: Database, tiny_clip: Path) -> None:
    with pytest.raises(BadSetting, match="no champion"):
        train(filled, settings(tiny_clip, start="champion"))


def test_a_champion_with_a_missing_base_model_is_refused(filled: Database, tmp_path: Path) -> None:
    base = build_clip(tmp_path / "base")
    train_in_use(filled, settings(base))
    base.rename(tmp_path / "moved")
    with pytest.raises(RunUnusable, match=f"the base model of run 1 was not found at {base}"):
        train(filled, settings(tmp_path / "moved", start="champion"))
    with filled.read() as session:
        assert [run.id for run in list_runs(session)] == [1]


@pytest.mark.parametrize("what", ["projection", "all"])
def test_a_champion_with_a_changed_base_model_is_refused(filled: Database, tmp_path: Path, what: str) -> None:
    base = build_clip(tmp_path / "base")
    train_in_use(filled, settings(base))
    build_clip(base, seed=5)
    with pytest.raises(RunUnusable, match=r"run 1 .*fingerprint"):
        train(filled, settings(base, start="champion", train=what))
    assert train(filled, settings(base, train=what)).champion is None


def test_training_starts_from_the_newest_champion(filled: Database, tiny_clip: Path) -> None:
    runs = [train(filled, settings(tiny_clip, seed=seed, epochs=3)).run_id for seed in (1, 2)]
    with filled.write() as session:
        promote(session, runs[1], "by hand")
    on = train(filled, settings(tiny_clip, start="champion", lr=STILL, epochs=1))
    kept, expected = artifact(filled, on.run_id), artifact(filled, runs[1])
    assert all(torch.allclose(kept[name], expected[name], rtol=0, atol=1e-9) for name in expected)
