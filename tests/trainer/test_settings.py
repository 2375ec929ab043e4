"""Default settings, one-line errors that quote invalid values, and the tree of errors."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

import trainer.errors
from trainer.errors import BadSetting, TrainerError
from trainer.settings import DEVICES, RECIPE, STRATEGIES, TrainSettings


def test_runs_of_versions_without_the_setting_bars_kept_the_bars() -> None:
    recorded = TrainSettings().as_dict()
    assert TrainSettings.from_dict(recorded).bars == "cut"
    del recorded["bars"]
    assert TrainSettings.from_dict(recorded).bars == "keep"


def test_the_recipe_has_the_published_values() -> None:
    chosen = TrainSettings(**RECIPE)
    assert chosen.model == "sentence-transformers/clip-ViT-L-14"
    assert chosen.title_model == "sentence-transformers/all-mpnet-base-v2"
    assert (chosen.train, chosen.negatives, chosen.epochs, chosen.batch_size, chosen.lr, chosen.seed) == (
        "projection",
        "least-similar",
        2,
        16,
        1e-4,
        42,
    )
    assert (chosen.mask, chosen.fit, chosen.bars, chosen.temperature) == (False, "crop", "keep", 0.05)


@pytest.mark.parametrize(
    ("name", "value", "quoted"),
    [
        ("model", "", "model name is empty"),
        ("model", " \n", "model name is empty"),
        ("title_model", "\t", "title model name is empty"),
        ("negatives", "nearest", "'nearest'"),
        ("negatives", "least_similar", "'least_similar'"),
        ("negatives", "", "''"),
        ("device", "gpu", "'gpu'"),
        ("device", "cuda:0\n", r"'cuda:0\n'"),
        ("train", "", "--train is empty"),
        ("train", "(projection", "'(projection'"),
        ("train", "(\nprojection", r"'(\nprojection'"),
        ("train", "*", "'*'"),
        ("train", "[a-", "'[a-'"),
        ("train", "p{4294967296}", "'p{4294967296}'"),
        ("epochs", 0, "0"),
        ("epochs", -3, "-3"),
        ("batch_size", 1, "1"),
        ("batch_size", 0, "0"),
        ("lr", 0.0, "0.0"),
        ("lr", -1e-4, "-0.0001"),
        ("lr", float("nan"), "nan"),
        ("lr", float("inf"), "inf"),
        ("seed", -1, "seed -1 is out of range; use 0 to 2000000000"),
        ("seed", 2**32, "4294967296"),
        ("hard_max_similarity", 1.01, "1.01"),
        ("hard_max_similarity", -1.5, "-1.5"),
        ("hard_max_similarity", float("nan"), "nan"),
    ],
)
def test_an_invalid_value_is_quoted_in_one_line_with_advice(name: str, value: Any, quoted: str) -> None:
    with pytest.raises(BadSetting) as caught:
        TrainSettings(**{name: value})
    message = str(caught.value)
    assert quoted in message
    assert len(message.splitlines()) == 1
    happened, _, to_do = message.partition("; ")
    assert happened
    assert to_do.startswith(("use ", "give "))
    assert caught.value.exit_code == 2


def test_an_invalid_choice_lists_the_valid_choices() -> None:
    with pytest.raises(BadSetting, match=", ".join(STRATEGIES)):
        TrainSettings(negatives="x")  # type: ignore[arg-type]
    with pytest.raises(BadSetting, match=", ".join(DEVICES)):
        TrainSettings(device="x")


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 1, "batch_size": 2, "lr": 1e-12, "seed": 0},
        {"seed": 2**32 - 1, "hard_max_similarity": -1.0},
        {"hard_max_similarity": 1.0, "negatives": "hard", "device": "cpu"},
        {"train": "all"},
        {"train": r"^text_model\.encoder\.layers\.1[01]\."},
        {"model": "7:base", "title_model": "base", "channels": ("UC1", "UC2")},
        *({"negatives": strategy} for strategy in STRATEGIES),
        *({"device": device} for device in DEVICES),
    ],
)
def test_values_at_the_limits_are_accepted_and_survive_json(values: dict[str, Any]) -> None:
    chosen = TrainSettings(**values)
    stored = json.loads(json.dumps(chosen.as_dict()))
    assert set(stored) == {field.name for field in dataclasses.fields(TrainSettings)}
    assert TrainSettings(**{**stored, "channels": tuple(stored["channels"])}) == chosen


def test_a_changed_copy_is_validated_again() -> None:
    with pytest.raises(BadSetting, match="epochs 0"):
        dataclasses.replace(TrainSettings(), epochs=0)


def test_every_error_is_public_and_in_the_documented_tree() -> None:
    defined = {
        name: value
        for name, value in vars(trainer.errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert set(defined) == set(trainer.errors.__all__) - {"causes_of", "is_interrupt"}
    documented = [
        (line.index(name), name)
        for line in (trainer.errors.__doc__ or "").splitlines()
        for name in line.replace("│", " ").replace("├──", "   ").replace("└──", "   ").split()[:1]
        if name in defined
    ]
    assert sorted(name for _, name in documented) == sorted(defined)
    for index, (depth, name) in enumerate(documented):
        parent = next((other for indent, other in reversed(documented[:index]) if indent < depth), None)
        assert defined[name].__base__ is (defined[parent] if parent else Exception), name
        assert issubclass(defined[name], TrainerError)


@pytest.mark.processes
def test_settings_and_errors_load_without_the_training_stack() -> None:
    heavy = "{'torch', 'transformers', 'sentence_transformers', 'datasets', 'numpy', 'pandas'}"
    code = f"import sys, trainer, trainer.errors, trainer.settings; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
