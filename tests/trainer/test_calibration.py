"""Probabilities of titles: the scale is recovered, its error is small for calibrated scores, and it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store.db import Database
from store.tables import KnownModel
from tests.trainer.tiny import draw, fill
from thumbtune.answers.modelled import Answerer
from trainer.errors import Diverged, NotEnoughPairs
from trainer.library import open_picture
from trainer.runs import calibration_of, open_in_use, train
from trainer.scoring import Calibration, HeldOutScores, Probability, calibrate, probability
from trainer.scoring.calibration import calibration_error
from trainer.settings import TrainSettings

IDEAS = ("red circle", "navy bar 3", "a pink square", "zebra")


def held_out(m: int, n: int, scale: float, seed: int) -> HeldOutScores:
    """Thumbnails whose own titles are drawn by softmax(scale * cosine)."""
    rng = np.random.default_rng(seed)
    cosines = rng.uniform(-0.2, 0.6, (m, n))
    chances = np.exp(scale * cosines)
    chances /= chances.sum(axis=1, keepdims=True)
    own = np.array([rng.choice(n, p=row) for row in chances])
    return HeldOutScores(cosines, own, np.arange(n)[None, :] != own[:, None])


def test_the_scale_of_synthetic_data_is_recovered() -> None:
    found = calibrate([held_out(200, 50, 12.0, seed) for seed in range(5)])
    assert found.n == 1000
    assert found.scale == pytest.approx(12.0, rel=0.1)
    assert found.scales == pytest.approx([12.0] * 5, rel=0.15)
    assert found.error < 0.05


def test_uninformative_scores_get_equal_probabilities() -> None:
    rng = np.random.default_rng(1)
    parts = [
        HeldOutScores(rng.uniform(-1, 1, (60, 20)), own := rng.integers(20, size=60), np.arange(20) != own[:, None])
        for _ in range(5)
    ]
    found = calibrate(parts)
    chance = probability(found, [0.9], [np.full(19, 0.1)])
    assert 0.05 < chance.value < 0.15
    assert found.error < 0.1


def test_a_fold_that_diverged_gives_no_probabilities() -> None:
    parts = [held_out(20, 10, 5.0, seed) for seed in range(3)]
    parts[1].cosines[4] = np.nan
    with pytest.raises(Diverged):
        calibrate(parts)


def test_a_model_that_is_right_about_a_few_rows_is_not_certain() -> None:
    cosines = np.where(np.eye(4, dtype=bool), 0.9, 0.1)
    parts = [HeldOutScores(cosines, np.arange(4), ~np.eye(4, dtype=bool)) for _ in range(3)]
    found = calibrate(parts)
    assert found.scale < 20
    assert 0.7 < probability(found, [0.9], [np.full(3, 0.1)]).value < 0.99


def test_equal_titles_are_not_rivals() -> None:
    part = held_out(40, 10, 10.0, 3)
    twice = HeldOutScores(
        np.concatenate([part.cosines, part.cosines[np.arange(40), part.own][:, None]], axis=1),
        part.own,
        np.concatenate([part.rivals, np.zeros((40, 1), dtype=bool)], axis=1),
    )
    assert calibrate([twice, twice]) == calibrate([part, part])


def test_the_calibration_error_equals_its_definition() -> None:
    hits = np.array([True, False] * 50)
    assert calibration_error(np.full(100, 0.5), hits) == pytest.approx(0)
    assert calibration_error(np.full(100, 0.9), hits) == pytest.approx(0.4)
    assert calibration_error(np.array([0.7]), np.array([False])) == pytest.approx(0.7)


def test_a_single_fold_is_an_error() -> None:
    with pytest.raises(ValueError, match="two folds"):
        calibrate([held_out(10, 5, 5.0, 0)])


def test_the_range_is_that_of_the_folds() -> None:
    calibration = Calibration(10.0, 0.0, 100, (8.0, 12.0))
    chance = probability(calibration, [0.3], [np.array([0.1])])
    assert (chance.low, chance.value, chance.high) == pytest.approx(
        tuple(1 / (1 + np.exp(-scale * 0.2)) for scale in (8.0, 10.0, 12.0))
    )
    folds = probability(calibration, [0.3, 0.1, 0.3], [np.array([0.1]), np.array([0.3]), np.array([0.1])])
    assert folds.low == pytest.approx(1 / (1 + np.exp(1.6)))
    assert probability(calibration, [0.3], [np.array([])]).value == pytest.approx(1.0)


def test_touching_ranges_overlap() -> None:
    first = Probability(0.5, 0.4, 0.6)
    assert first.overlaps(Probability(0.3, 0.2, 0.4))
    assert Probability(0.3, 0.2, 0.4).overlaps(first)
    assert not first.overlaps(Probability(0.3, 0.2, 0.39))


@pytest.fixture
def store(sqlite_database: Database) -> Database:
    """40 pairs of one channel."""
    fill(sqlite_database, 40)
    return sqlite_database


def trained(store: Database, clip: Path, how: str = "ridge") -> int:
    settings = TrainSettings(model=str(clip), train=how, negatives="random", device="cpu")
    return train(store, settings).run_id


def n_kept(store: Database) -> int:
    with store.read() as session:
        return session.query(KnownModel).count()


@pytest.mark.slow
@pytest.mark.parametrize("which", ["1", "1:base", "clip"])
def test_a_model_is_calibrated_once(store: Database, tiny_clip: Path, which: str) -> None:
    trained(store, tiny_clip)
    used = open_in_use(store, str(tiny_clip) if which == "clip" else which, "cpu")
    found = calibration_of(store, used)
    # 34 of 40 rows are in train and valid.
    assert (found.calibration.n, len(found.calibration.scales)) == (34, 5)
    assert len(found.folds) == (5 if which == "1" else 0)
    kept = n_kept(store)
    again = calibration_of(store, used)
    assert again.calibration == found.calibration
    for one, other in zip(found.folds, again.folds, strict=True):
        assert one.projections.text.equal(other.projections.text)
        assert one.projections.visual.equal(other.projections.visual)
    assert n_kept(store) == kept


@pytest.mark.slow
def test_runs_with_equal_tensors_and_other_crop_modes_have_calibrations_of_their_own(
    sqlite_database: Database, tiny_clip: Path
) -> None:
    """Training that changes nothing leaves both runs with the base model's tensors."""
    fill(sqlite_database, 40)
    found = []
    for fit in ("crop", "squash"):
        settings = TrainSettings(
            model=str(tiny_clip), train="projection", negatives="random", device="cpu", epochs=1, lr=1e-30, fit=fit
        )
        run_id = train(sqlite_database, settings).run_id
        found.append(calibration_of(sqlite_database, open_in_use(sqlite_database, str(run_id), "cpu")).calibration)
    assert found[0].scale != found[1].scale


@pytest.mark.slow
def test_a_whole_model_is_calibrated_on_rows_that_it_has_not_seen(sqlite_database: Database, tiny_clip: Path) -> None:
    fill(sqlite_database, 80)
    trained(sqlite_database, tiny_clip, "all")
    found = calibration_of(sqlite_database, open_in_use(sqlite_database, "1", "cpu"))
    assert (found.calibration.n, found.folds) == (12, ())


@pytest.mark.slow
def test_with_many_rows_only_valid_rows_are_used(
    sqlite_database: Database, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.runs.calibrating.MOST_REFITTED", 60)
    fill(sqlite_database, 80)
    trained(sqlite_database, tiny_clip)
    found = calibration_of(sqlite_database, open_in_use(sqlite_database, "1", "cpu"))
    assert (found.calibration.n, found.folds) == (12, ())


@pytest.mark.slow
def test_too_few_rows_give_no_calibration(sqlite_database: Database, tiny_clip: Path) -> None:
    fill(sqlite_database, 8)
    trained(sqlite_database, tiny_clip)
    used = open_in_use(sqlite_database, "1", "cpu")
    with pytest.raises(NotEnoughPairs):
        calibration_of(sqlite_database, used)
    found = Answerer(sqlite_database, "1", "cpu").match([open_picture(sqlite_database, "UC1-003")], IDEAS)
    assert found.calibration is None
    assert found.uncalibrated
    assert [idea.probability for idea in found.thumbnails[0].ideas] == [None] * 4


def test_without_a_snapshot_titles_are_ranked_without_probabilities(store: Database, tiny_clip: Path) -> None:
    found = Answerer(store, str(tiny_clip), "cpu").match([open_picture(store, "UC1-003")], IDEAS)
    assert found.calibration is None
    assert [idea.position is None for idea in found.thumbnails[0].ideas] == [False] * 4


@pytest.mark.slow
def test_several_thumbnails_have_the_same_titles(store: Database, tiny_clip: Path, tmp_path: Path) -> None:
    trained(store, tiny_clip)
    (tmp_path / "cover.png").write_bytes(draw("purple", "circle", 3, "new"))
    pictures = [open_picture(store, name) for name in ("UC1-003", str(tmp_path / "cover.png"))]
    found = Answerer(store, "1", "cpu").match(pictures, IDEAS)
    assert [matched.name for matched in found.thumbnails] == [picture.name for picture in pictures]
    for picture, matched in zip(pictures, found.thumbnails, strict=True):
        alone = Answerer(store, "1", "cpu").match([picture], IDEAS).thumbnails[0]
        assert matched == alone
        assert {idea.title for idea in matched.ideas} == set(IDEAS)
        chances = [chance.value for chance in probabilities(matched.ideas)]
        assert chances == sorted(chances, reverse=True), "the better score never has the smaller probability"
        for chance in probabilities(matched.ideas):
            assert 0 <= chance.low <= chance.value <= chance.high <= 1
    assert [matched.compared for matched in found.thumbnails] == [39, 40]


def probabilities(ideas: Sequence[object]) -> list[Probability]:
    found = [getattr(idea, "probability") for idea in ideas]  # noqa: B009
    assert None not in found
    return found


@pytest.mark.slow
def test_ideas_with_overlapping_ranges_are_reported(store: Database, tiny_clip: Path) -> None:
    trained(store, tiny_clip)
    picture = open_picture(store, "UC1-003")
    found = Answerer(store, "1", "cpu").match([picture], IDEAS).thumbnails[0]
    apart = [
        replace(idea, probability=Probability(at, at - 0.01, at + 0.01))
        for idea, at in zip(found.ideas, (0.5, 0.3, 0.29, 0.1), strict=True)
    ]
    assert replace(found, ideas=apart).near_ties() == [(2, 3)]
    equal = [
        replace(idea, probability=None, score=score)
        for idea, score in zip(found.ideas, (0.5, 0.5 - 1e-7, 0.499, 0.2), strict=True)
    ]
    assert replace(found, ideas=equal).near_ties() == [(1, 2)]


@pytest.mark.slow
def test_a_stored_video_is_compared_with_the_other_videos_only(store: Database, tiny_clip: Path) -> None:
    trained(store, tiny_clip)
    picture = open_picture(store, "UC1-003")
    found = Answerer(store, "1", "cpu").match([picture], ["zebra", str(picture.title)]).thumbnails[0]
    same = next(idea for idea in found.ideas if idea.title == picture.title)
    assert same.probability == found.current[0].probability
