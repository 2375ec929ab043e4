"""The search space of a sweep: parsing, validation, counting, and sampling without repetition."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import pytest
from optuna.study import create_study
from optuna.trial import TrialState

from trainer.errors import BadSetting, TrainerError
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings
from trainer.sweep import Space, SweepSettings
from trainer.sweep.sampling import ask
from trainer.sweep.search_space import Choices, Range, parse


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("lr", "1e-5:1e-2", Range(1e-5, 1e-2)),
        ("lr", "0.001", Choices((0.001,))),
        ("temperature", "0.02, 0.05", Choices((0.02, 0.05))),
        ("epochs", "1:10", Range(1, 10)),
        ("batch_size", "8,16,8", Choices((8, 16))),
        ("negatives", "none, hard", Choices(("none", "hard"))),
        ("train", "cca, ridge,projection", Choices(("cca", "ridge", "projection"))),
        ("train", "text_projection.{1,2}", Choices(("text_projection.{1,2}",))),
        ("fit", "squash,crop", Choices(("squash", "crop"))),
        ("with_reader", "no,yes", Choices((False, True))),
    ],
)
def test_valid_spaces_are_parsed(name: str, text: str, found: Range | Choices) -> None:
    assert parse(name, text) == found
    assert parse(name, str(found)) == found


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lr", "fast", r"--lr 'fast' .* numbers as LOW:HIGH or VALUE,VALUE"),
        ("lr", "", r"--lr '' "),
        ("lr", "1:2:3", r"--lr '1:2:3' "),
        ("lr", "0.1:0.01", r"--lr '0.1:0.01' is an empty range; write the lower end first"),
        ("lr", "nan:1", r"--lr 'nan:1' is an empty range"),
        ("lr", "0:1", r"learning rate 0.0 is out of range"),
        ("lr", "0.1:inf", r"learning rate inf is out of range"),
        ("epochs", "1.5", r"--epochs '1.5' .* whole numbers"),
        ("epochs", "0:3", r"epochs 0"),
        ("epochs", "1:9007199254740993", r"--epochs '1:9007199254740993' .* up to 90071"),
        ("epochs", f"1:{10**400}", r"too large"),
        ("batch_size", "1,8", r"batch size 1 is too small"),
        ("batch_size", "8,", r"--batch-size '8,' is invalid"),
        ("negatives", "none,easy", r"--negatives 'easy' is invalid; use least-similar, hard"),
        ("fit", "crop,zoom", r"--fit 'zoom' is invalid; use crop, pad, squash"),
        ("with_reader", "maybe", r"--with-reader 'maybe' is invalid; use no, yes"),
        ("train", "(", r"--train '\(' is not a valid regular expression"),
        ("temperature", "-1:1", r"temperature -1.0 is out of range"),
    ],
)
def test_invalid_spaces_are_quoted(name: str, text: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        Space.read({name: text})


@pytest.mark.parametrize("other", [{"trials": 0}, {"seeds": 0}, {"finalists": 0}, {"final_seeds": -1}])
def test_numbers_below_the_minimum_are_refused(other: dict[str, int]) -> None:
    with pytest.raises(BadSetting, match=r"is too small"):
        SweepSettings(**other)  # type: ignore[arg-type]


def test_settings_are_restored_from_the_store() -> None:
    space = Space.read({"lr": "0.00012345678901234567:0.3", "epochs": "2", "negatives": "none"})
    settings = SweepSettings(TrainSettings(seed=7, channels=("UC1",)), space, trials=9, final_seeds=0)
    assert SweepSettings.from_dict(settings.as_dict()) == settings


def test_seeds_count_up_and_wrap_around() -> None:
    settings = SweepSettings(TrainSettings(seed=2**32 - 2), seeds=3, final_seeds=1)
    assert settings.search_seeds() == [2**32 - 2, 2**32 - 1, 0]
    assert settings.all_seeds() == [2**32 - 2, 2**32 - 1, 0, 1]


STEPS = {"train": "projection", "fit": "crop", "with_reader": "no"}
FINITE = {**STEPS, "lr": "0.1,0.2", "epochs": "1:3", "batch_size": "8", "negatives": "none", "temperature": "0.05"}


def test_the_size_of_countable_spaces() -> None:
    assert Space().size() is None
    space = Space.read(FINITE)
    assert space.size() == 6 == len(list(space.points()))
    assert space.fixed() == {
        "train": "projection",
        "fit": "crop",
        "with_reader": False,
        "batch_size": 8,
        "negatives": "none",
        "temperature": 0.05,
    }


def test_closed_forms_have_no_settings_of_steps() -> None:
    assert Space.read({"train": "ridge"}).size() == 4
    space = Space.read({**FINITE, "train": "ridge,projection", "fit": "crop,squash"})
    assert space.size() == 2 + 2 * 6 == len(list(space.points()))
    settings = space.applied(TrainSettings(epochs=5), {"train": "ridge", "fit": "squash", "with_reader": True})
    assert (settings.train, settings.fit, settings.with_reader) == ("ridge", "squash", True)
    assert (settings.epochs, settings.lr, settings.without_effect()) == (
        5,
        None,
        TrainSettings(epochs=5, train="ridge").without_effect(),
    )
    assert space.point(settings.as_dict()) == {"train": "ridge", "fit": "squash", "with_reader": True}


def test_sweeps_of_older_versions_keep_their_fixed_settings() -> None:
    kept = SweepSettings(TrainSettings(train="text_projection", fit="pad", with_reader=True)).as_dict()
    kept["space"] = {name: kept["space"][name] for name in ("lr", "epochs", "batch_size", "negatives", "temperature")}
    assert SweepSettings.from_dict(kept).space.fixed() == {
        "train": "text_projection",
        "fit": "pad",
        "with_reader": True,
    }


def test_a_very_long_range_takes_little_memory() -> None:
    space = Space.read({**FINITE, "lr": "0.1", "epochs": "1:1000000000", "batch_size": f"2:{2**53}"})
    tracemalloc.start()
    try:
        assert space.size() == 10**9 * (2**53 - 1)
        assert [point["batch_size"] for point in itertools.islice(space.points(), 3)] == [2, 3, 4]
        assert len(chosen(space, 12)) == 12
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def chosen(space: Space, trials: int, seed: int = 1) -> list[dict[str, Any]]:
    """The sampled settings if small learning rates are best and epochs make no difference."""
    found: list[dict[str, Any]] = []
    with quiet_libraries():
        study = create_study(direction="maximize")
        for number in range(trials):
            trial, point = ask(study, space, seed, number, {tuple(point.values()) for point in found})
            assert trial.params == {name: value for name, value in point.items() if name not in space.fixed()}
            study.tell(trial, -float(point.get("lr", 1)))
            found.append(dict(point))
    assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in study.trials)
    return found


@pytest.mark.slow
def test_a_small_space_is_tried_completely_without_repetition() -> None:
    space = Space.read({**FINITE, "train": "ridge,projection", "batch_size": "8,16,32,64"})
    found = {tuple(point.values()) for point in chosen(space, 25)}
    assert found == {tuple(point.values()) for point in space.points()}
    with pytest.raises(TrainerError, match="no untried settings"):
        chosen(space, 26)


def test_a_seed_gives_the_same_good_choices() -> None:
    space = Space.read({**STEPS, "negatives": "none"})
    first = chosen(space, 40)
    assert first == chosen(space, 40)
    assert first != chosen(space, 40, seed=2)
    late, early = (sorted(float(point["lr"]) for point in part) for part in (first[20:], first[:10]))
    assert late[10] < early[5], "the sampler learns where good points are"
    for point in first:
        assert 1e-5 <= float(point["lr"]) <= 1e-2
        assert point["epochs"] in range(1, 11)
        assert point["batch_size"] in (8, 16, 32, 64)
