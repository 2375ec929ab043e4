"""Whole runs: the saved model is the scored model, and nothing is encoded twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from sqlalchemy import delete, func, select

from store.db import Database
from store.tables import Feature, KnownModel, Picture, Video
from tests.trainer.tiny import build_clip, fill
from tests.trainer.training import artifact, embedded_plainly, losses, ranks, settings, vectors
from trainer.data.likeness import ALTERED, SKETCHES
from trainer.data.pictures import decoded
from trainer.errors import DamagedModel, TrainingInterrupted
from trainer.models import TEXT, VISUAL, pick_precision
from trainer.progress import Silent
from trainer.runs import evaluate, export_model, train
from trainer.runs.recorded import embedder_of, load_run_model
from trainer.scoring import Scores

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet")]

MLP = r"vision_model.*layers\.1\..*mlp"


def contents(database: Database) -> tuple[list[str], list[str]]:
    """All digests and titles."""
    with database.read() as session:
        digests = session.scalars(select(Picture.sha256).order_by(Picture.sha256)).all()
        return list(digests), list(session.scalars(select(Video.title).order_by(Video.title)))


def in_order(scores: Scores) -> list[dict[str, Any]]:
    return sorted(scores.rank_rows(), key=lambda row: (row["direction"], row["video_id"]))


def is_what_was_scored(database: Database, run_id: int, folder: Path) -> None:
    """The model from cached features, loaded whole, and exported gives the same vectors, and the recorded scores."""
    digests, titles = contents(database)
    cached = vectors(embedder_of(database, run_id), database, digests, titles)
    whole = load_run_model(database, run_id)
    assert np.allclose(embedded_plainly(whole.model, database, digests, titles), cached, rtol=0, atol=1e-5)
    export_model(database, folder, run_id)
    exported = SentenceTransformer(str(folder), device="cpu")
    assert np.allclose(embedded_plainly(exported, database, digests, titles), cached, rtol=0, atol=1e-5)
    for name, which in (("tuned", str(run_id)), ("base", f"{run_id}:base")):
        found = evaluate(database, which, "cpu")
        assert found.matches is True
        recorded = ranks(database, run_id, name)
        again = in_order(found.scores)
        for key in ("direction", "video_id", "split", "rank", "top_video_id"):
            assert [row[key] for row in again] == [row[key] for row in recorded], key
        for key in ("score", "top_score"):
            assert [row[key] for row in again] == pytest.approx([row[key] for row in recorded], abs=1e-5)
    assert [row["score"] for row in ranks(database, run_id, "tuned")] != [
        row["score"] for row in ranks(database, run_id, "base")
    ]


@pytest.mark.parametrize("what", ["projection", "visual_projection", "all", MLP, "lora"])
def test_the_saved_model_equals_the_scored_model(filled: Database, tiny_clip: Path, tmp_path: Path, what: str) -> None:
    result = train(filled, settings(tiny_clip, train=what, lora_rank=2), output=tmp_path / "output")
    is_what_was_scored(filled, result.run_id, tmp_path / "exported")
    digests, titles = contents(filled)
    written, exported = (
        embedded_plainly(SentenceTransformer(str(tmp_path / name), device="cpu"), filled, digests, titles)
        for name in ("output", "exported")
    )
    assert np.allclose(written, exported, rtol=0, atol=1e-6)
    kept = artifact(filled, result.run_id)
    names = [name for name, _ in load_run_model(filled, result.run_id, "base").model.named_parameters()]
    expected = {
        "projection": {VISUAL, TEXT},
        "visual_projection": {VISUAL},
        "all": set(names),
        MLP: {name for name in names if "vision_model" in name and ".layers.1.mlp." in name},
    }
    if what == "lora":
        assert all(".lora_A." in name or ".lora_B." in name for name in kept)
        assert sum(tensor.numel() for tensor in kept.values()) == result.trainable < result.total / 10
    else:
        assert set(kept) == expected[what]
        assert sum(tensor.numel() for tensor in kept.values()) == result.trainable


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("what", ["projection", MLP])
def test_every_crop_mode_trains_and_gives_the_recorded_scores(
    filled: Database, tiny_clip: Path, fit: str, what: str
) -> None:
    """An exported folder has no crop mode, so it is not compared here."""
    crop = train(filled, settings(tiny_clip, train=what))
    result = train(filled, settings(tiny_clip, train=what, fit=fit))
    assert losses(filled, result.run_id) != losses(filled, crop.run_id)
    digests, titles = contents(filled)
    cached = vectors(embedder_of(filled, result.run_id), filled, digests, titles)
    whole = load_run_model(filled, result.run_id)
    assert whole.crop_mode == fit
    assert np.allclose(vectors(whole, filled, digests, titles), cached, rtol=0, atol=1e-5)
    assert evaluate(filled, str(result.run_id), "cpu").matches is True


def decoded_by_name(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of the thumbnails that are decoded from now on, as they are."""
    names: list[str] = []

    def counted(file: bytes, name: str) -> Image.Image:
        names.append(name)
        return decoded(file, name)

    for module in ("trainer.data.pictures", "trainer.data.likeness"):
        monkeypatch.setattr(f"{module}.decoded", counted)
    return names


def test_a_rerun_loads_no_model_and_decodes_no_thumbnail(
    database: Database, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, 40)
    first = train(database, settings(tiny_clip))

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("trainer.models.loading.SentenceTransformer", refuse)
    read = decoded_by_name(monkeypatch)
    again = train(database, settings(tiny_clip))
    assert (again.tuned, again.base) == (first.tuned, first.base)
    assert losses(database, again.run_id) == losses(database, first.run_id)
    assert train(database, settings(tiny_clip, seed=7, epochs=1, negatives="hard")).tuned.scores
    assert evaluate(database, str(first.run_id), "cpu").matches is True
    assert read == []
    with pytest.raises(DamagedModel, match="a model was loaded"):
        train(database, settings(tiny_clip, train=MLP))


def test_a_rerun_decodes_only_thumbnails_of_new_videos_and_of_similar_ones(
    filled: Database, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(filled, settings(tiny_clip))
    with filled.read() as session:
        known = set(session.scalars(select(Picture.sha256)))
    fill(filled, 5, "UC2")
    read = decoded_by_name(monkeypatch)
    assert sum(train(filled, settings(tiny_clip)).examples.values()) == 45
    assert len(set(read) - known) == 5
    assert len(known & set(read)) <= 2 * 5, "only those that may be the originals of the new ones"
    with filled.read() as session:
        assert session.scalar(select(func.count()).select_from(Feature).where(ENCODED)) == 3 * 45


ENCODED = Feature.fingerprint.not_in((SKETCHES, ALTERED))
"""What was made of a picture, of a title, and of its length; not what pictures look like, which is kept beside it."""


class StopsInside(Silent):
    """Progress that interrupts a phase after its first item."""

    def __init__(self, phase: str) -> None:
        self._phase = phase

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        def count(n: int) -> None:
            if n and description == self._phase:
                raise KeyboardInterrupt

        yield count


@pytest.mark.parametrize(("phase", "kept"), [("Encoding thumbnails", 32), ("Encoding titles", 40 + 32)])
def test_an_interrupted_run_keeps_its_vectors(
    database: Database, tiny_clip: Path, phase: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 of each, 32 at a time; the next run needs no picture that was read before."""
    fill(database, 40)
    with pytest.raises(TrainingInterrupted, match="run 1 was interrupted"):
        train(database, settings(tiny_clip), progress=StopsInside(phase))
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Feature).where(ENCODED)) == kept
        done = set(session.scalars(select(Feature.digest).where(Feature.tower == "vision", ENCODED)))
    read = decoded_by_name(monkeypatch)
    assert train(database, settings(tiny_clip)).run_id == 2
    assert len(done) + len(set(read)) == 40
    assert not done & set(read)


def test_an_empty_cache_changes_no_result(filled: Database, tiny_clip: Path) -> None:
    first = train(filled, settings(tiny_clip))
    with filled.write() as session:
        session.execute(delete(Feature))
        session.execute(delete(KnownModel))
    again = train(filled, settings(tiny_clip))
    assert (again.tuned, again.base) == (first.tuned, first.base)
    assert losses(filled, again.run_id) == losses(filled, first.run_id)


def test_the_cache_does_not_affect_the_initial_adapters(filled: Database, tiny_clip: Path) -> None:
    """The first run loads and encodes before its adapters are initialised; the second run does not need to."""
    found = [losses(filled, train(filled, settings(tiny_clip, train="lora")).run_id) for _ in range(2)]
    torch.rand(9)
    found.append(losses(filled, train(filled, settings(tiny_clip, train="lora")).run_id))
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[1] == found[2]
    other = losses(filled, train(filled, settings(tiny_clip, train="lora", seed=8)).run_id)
    assert other != pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("what", ["projection", "all"])
def test_a_run_with_bf16_features_gives_the_recorded_scores_again(filled: Database, tiny_clip: Path, what: str) -> None:
    if pick_precision("auto", "cpu") != "bf16":
        pytest.skip("this processor has no bfloat16")
    result = train(filled, settings(tiny_clip, train=what, precision="bf16"))
    for which, model in ((str(result.run_id), "tuned"), (f"{result.run_id}:base", "base")):
        found = evaluate(filled, which, "cpu")
        assert found.matches is True
        recorded = [row["score"] for row in ranks(filled, result.run_id, model)]
        assert [row["score"] for row in in_order(found.scores)] == pytest.approx(recorded, abs=1e-5)


def test_a_clip_model_with_an_additional_module_is_trained_after_it(filled: Database, tmp_path: Path) -> None:
    """The model does not end with its own projections, so it gets a matrix for thumbnails and one for titles."""
    torch.manual_seed(0)
    plain = SentenceTransformer(str(build_clip(tmp_path / "plain")), device="cpu")
    SentenceTransformer(modules=[plain[0], Dense(16, 8)]).save_pretrained(str(tmp_path / "dense"))
    result = train(filled, settings(tmp_path / "dense"))
    assert {name: tuple(value.shape) for name, value in artifact(filled, result.run_id).items()} == {
        VISUAL: (8, 8),
        TEXT: (8, 8),
    }
    is_what_was_scored(filled, result.run_id, tmp_path / "exported")
