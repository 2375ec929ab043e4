"""A run against the model in use, on small real stores: the rows of the comparison, and the model in use after it."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from sqlalchemy import delete, update

from store.db import Database
from store.tables import Evaluation, Promotion, Rank, TrainingRun, TrainingStep, Video
from store.training import champion
from tests.store.builders import add_channel, add_video, change_video
from tests.trainer.tiny import COLOURS, SHAPES, build_clip, fill
from tests.trainer.training import settings, train_in_use
from trainer.errors import RunUnusable
from trainer.runs import TrainResult, train
from trainer.runs.in_use import open_in_use
from trainer.runs.promotion import Decision
from trainer.runs.recorded import export_model
from trainer.settings import TrainSettings

pytestmark = pytest.mark.slow

Make = Callable[..., TrainSettings]

LEARNT = {"epochs": 60, "lr": 0.03}
"""Settings that find more held-out titles of 60 pairs than the base does."""
UNTOUCHED = {"epochs": 1, "lr": 1e-12}
"""Settings that leave the base as it was."""
WHOLE = {"train": "all", "epochs": 40, "lr": 0.003}
"""Settings that train the whole model, and find more held-out titles than the base does."""


@pytest.fixture
def make(tiny_clip: Path) -> Make:
    """Return settings for the tiny CLIP, with changes."""

    def made(**other: Any) -> TrainSettings:
        return settings(tiny_clip, **other)

    return made


@pytest.fixture
def filled(sqlite_database: Database) -> Database:
    """A store of 60 pairs: 51 of train and valid, 9 of test."""
    fill(sqlite_database, 60)
    return sqlite_database


def in_use(database: Database) -> int | None:
    with database.read() as session:
        run = champion(session)
    return None if run is None else run.id


def decision_of(result: TrainResult) -> Decision:
    assert result.decision is not None
    assert result.promoted is result.decision.promote
    return result.decision


def figures(reason: str) -> list[float]:
    """The figures of a comparison: the new model's recall@1, the old one's, n, difference, low, high."""
    found = re.search(
        r"recall@1 ([\d.]+), .* ([\d.]+), on the same (\d+) pairs?.*: (\S+) \(95 % interval (\S+) to (\S+)\)", reason
    )
    assert found is not None, reason
    return [float(figure) for figure in found.groups()]


def test_a_model_equal_to_its_base_leaves_the_base_model_in_use(filled: Database, make: Make, tmp_path: Path) -> None:
    result = train(filled, make(**UNTOUCHED))
    new, old, n, *rest = figures(decision_of(result).reason)
    assert (new, n, rest) == (old, 51, [0, 0, 0])
    assert (result.promoted, in_use(filled)) == (False, None)
    opened = open_in_use(filled, device="cpu")
    assert (opened.name, opened.run_id) == ("run 1, base", 1)
    with pytest.raises(RunUnusable, match="--run"):
        export_model(filled, tmp_path / "model", device="cpu")
    assert not (tmp_path / "model").exists()
    assert export_model(filled, tmp_path / "model", 1, device="cpu") == 1


def test_a_better_model_comes_into_use_with_the_figures_as_reason(filled: Database, make: Make) -> None:
    result = train(filled, make(**LEARNT))
    decision = decision_of(result)
    new, old, n, difference, low, high = figures(decision.reason)
    assert decision.reason.startswith("cross-validated ")
    assert (result.promoted, in_use(filled), n) == (True, 1, 51)
    assert new > old
    assert difference == pytest.approx(new - old, abs=0.0011)
    assert low <= difference <= high
    assert low < high
    assert open_in_use(filled, device="cpu").name == "run 1"


def poster(colour: str, shape: str, ground: str) -> bytes:
    """A thumbnail whose colour, shape and background its title names."""
    image = Image.new("RGB", (48, 36), ground)
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((13, 6, 35, 28), fill=colour)
    elif shape == "square":
        pen.rectangle((13, 6, 33, 26), fill=colour)
    else:
        pen.rectangle((0, 12, 48, 20), fill=colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def publish_posters(database: Database, numbers: range) -> None:
    drawn = [
        (colour, shape, ground) for colour in COLOURS for shape in SHAPES for ground in COLOURS if colour != ground
    ]
    random.Random(0).shuffle(drawn)
    with database.write() as session:
        if numbers.start == 0:
            add_channel(session)
        for number in numbers:
            title = " ".join((*drawn[number], str(number)))
            add_video(session, f"v{number:03}", day=number, title=title, picture=poster(*drawn[number]))


@pytest.mark.parametrize("what", [{"train": "cca"}, LEARNT], ids=["cca", "projection"])
def test_a_champion_is_replaced_by_the_same_settings_only_with_more_pairs(
    sqlite_database: Database, make: Make, what: dict[str, Any]
) -> None:
    """The champion is fitted again on the pairs that it had, not on those that came later."""
    publish_posters(sqlite_database, range(20))
    train_in_use(sqlite_database, make(**what))
    same = train(sqlite_database, make(**what), compete=True)
    assert figures(decision_of(same).reason)[3:] == [0, 0, 0]
    assert in_use(sqlite_database) == 1
    publish_posters(sqlite_database, range(20, 150 if what != LEARNT else 70))
    more = train(sqlite_database, make(**what), compete=True)
    assert decision_of(more).reason.startswith("cross-validated ")
    assert in_use(sqlite_database) == more.run_id
    again = train(sqlite_database, make(**what), compete=True)
    assert figures(decision_of(again).reason)[3:] == [0, 0, 0]
    assert in_use(sqlite_database) == more.run_id


@pytest.mark.parametrize("what", [WHOLE, {"train": "lora"}], ids=["all", "lora"])
def test_whole_models_are_compared_on_the_valid_split(
    filled: Database, make: Make, what: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.runs.promotion.FEWEST", 9)
    result = train(filled, make(**what))
    decision = decision_of(result)
    new, old, n, *_ = figures(decision.reason)
    assert decision.reason.startswith("valid ")
    assert n == result.examples["valid"] == 9
    assert [new, old] == pytest.approx(
        [scores.table()["valid"]["recall@1"] for scores in (result.tuned, result.base)], abs=6e-4
    )
    assert result.promoted is (new > old)
    # A whole model can't be fitted again on folds as a champion either.
    beside = train_in_use(filled, make(**what)) if not result.promoted else result
    assert in_use(filled) == beside.run_id
    later = train(filled, make(**UNTOUCHED), compete=True)
    assert decision_of(later).reason.startswith("valid ")


def test_a_large_valid_split_decides(filled: Database, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.runs.contest.ENOUGH_VALID", 9)
    result = train_in_use(filled, make(**LEARNT))
    assert decision_of(result).reason.startswith("valid ")


def test_valid_rows_that_the_champion_was_trained_on_do_not_count(
    filled: Database, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 9 valid pairs is left out; the other 8 are too few for a decision, unless the limit is 8."""
    train_in_use(filled, make(**UNTOUCHED))
    with filled.write() as session:
        videos = session.query(Video).order_by(Video.id)
        trained, held_out = (next(video for video in videos if video.split == split) for split in ("train", "valid"))
        title = trained.title
        change_video(session, trained.id, title="nothing like it")
        change_video(session, held_out.id, title=title)
    monkeypatch.setattr("trainer.runs.contest.ENOUGH_VALID", 8)
    result = train(filled, make(**UNTOUCHED), compete=True)
    assert decision_of(result).reason.startswith("valid ")
    assert "8 pairs (1 more left out" in decision_of(result).reason
    monkeypatch.setattr("trainer.runs.contest.ENOUGH_VALID", 9)
    folded = train(filled, make(**UNTOUCHED), compete=True)
    assert decision_of(folded).reason.startswith("cross-validated ")


@pytest.mark.parametrize("what", [LEARNT, WHOLE], ids=["folds", "valid"])
def test_test_rows_do_not_affect_the_decision(
    filled: Database, make: Make, what: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.runs.promotion.FEWEST", 9)
    before = train(filled, make(**what), test=True)
    with filled.write() as session:
        for video in session.query(Video).filter(Video.split == "test"):
            change_video(session, video.id, title=f"pink pink {video.id}")
    after = train(filled, make(**what), compete=True, test=True)
    assert after.base.table()["test"] != before.base.table()["test"], "otherwise, this test proves nothing"
    untouched = figures(decision_of(before).reason)
    new, old, n, difference, *_ = figures(decision_of(after).reason)
    assert (new, old, n, difference) == (untouched[0], untouched[0], untouched[2], 0)
    assert in_use(filled) == before.run_id


@pytest.mark.parametrize("lost", ["base", "tensors"])
@pytest.mark.parametrize("valid", [True, False], ids=["valid rows", "no valid rows"])
def test_a_champion_with_missing_files_stays_in_use(
    filled: Database, make: Make, tmp_path: Path, lost: str, valid: bool
) -> None:
    """The folds could still compare its settings, but its files may be back tomorrow."""
    base = build_clip(tmp_path / "base")
    if not valid:
        with filled.write() as session:
            session.execute(update(Video).values(split="train"))
            session.execute(update(Video).where(Video.id == "UC1-059").values(split="test"))
    kept = train_in_use(filled, make(model=str(base), **UNTOUCHED))
    if lost == "base":
        base.rename(tmp_path / "moved")
    else:
        kept.model_path.unlink()
    result = train(filled, make(**LEARNT), compete=True)
    assert not decision_of(result).promote
    assert in_use(filled) == kept.run_id


@pytest.mark.parametrize("large", [False, True], ids=["folds", "valid"])
def test_a_model_of_another_base_is_compared_with_the_base_in_use(
    filled: Database, make: Make, tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worse base model does not come into use by a training that improves it, nor by one that does not."""
    good = tmp_path / "good"
    train(filled, make(**LEARNT), output=good)
    with filled.write() as session:  # as in a new store
        session.execute(delete(Promotion))
        for table in (Evaluation, Rank, TrainingStep, TrainingRun):
            session.execute(delete(table))
    if large:
        monkeypatch.setattr("trainer.runs.contest.ENOUGH_VALID", 9)
        monkeypatch.setattr("trainer.runs.promotion.FEWEST", 9)
    first = train(filled, make(model=str(good), **UNTOUCHED))
    base = f"run {first.run_id}, base"
    assert open_in_use(filled, device="cpu").name == base
    for what in (UNTOUCHED, {"epochs": 4, "lr": 0.01}):
        worse = train(filled, make(**what))
        reason = decision_of(worse).reason
        new, old, *_ = figures(reason)
        assert reason.startswith("valid " if large else "cross-validated ")
        assert f"(of run {first.run_id})" in reason
        assert new < old
        assert (in_use(filled), open_in_use(filled, device="cpu").name) == (None, base)
    again = train(filled, make(model=str(good), **UNTOUCHED))
    assert figures(decision_of(again).reason)[3] == 0, "the same base model"
    assert open_in_use(filled, device="cpu").name == f"run {again.run_id}, base"
