"""A few inputs of the fuzzer with a fixed seed; `python -m bench.fuzzing` tries many more."""

from __future__ import annotations

import random

import pytest

from bench import fuzzing


@pytest.mark.processes  # large pictures are decoded in one
@pytest.mark.parametrize("target", fuzzing.TARGETS)
def test_no_input_breaks_a_parser(target: str) -> None:
    assert fuzzing.fuzz(target, 200 if target == "model" else 1_000, seed=0) == []  # a model is a folder of files


def test_a_failure_is_found_and_its_seed_reproduces_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(dice: random.Random) -> None:
        if dice.random() < 0.01:
            raise KeyError("broken")

    monkeypatch.setitem(fuzzing.TARGETS, "broken", breaks)
    bad = fuzzing.fuzz("broken", 1_000, seed=0)
    assert 0 < len(bad) < 50
    assert fuzzing.fuzz("broken", 1, seed=bad[0]) == bad[:1]
    assert "KeyError: 'broken'" in capsys.readouterr().err
