"""The table's rows: met and missed targets, the text of cells, and JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.results import Result, Target, from_json, show, table

ROW = Result("a rerun", 60.0, 1.2, "s", "`python -m bench.x`", ratio=50.0, target=Target(">=", 50), raw={"all": [1.2]})


@pytest.mark.parametrize(
    ("target", "ratio", "thumbtune", "met"),
    [
        (Target(">=", 50), 50.0, 1.2, True),
        (Target(">=", 50), 49.9, 1.2, False),
        (Target("<=", 1.15), 1.15, 1.2, True),
        (Target("<=", 1.15), 1.16, 1.2, False),
        (Target("<=", 100, of="thumbtune"), 0.1, 100.0, True),
        (Target("<=", 100, of="thumbtune"), 200.0, 101.0, False),
        (Target(">=", 2), None, 5.0, False),
        (None, 50.0, 1.2, None),
    ],
)
def test_a_target_is_met_at_its_limit(
    target: Target | None, ratio: float | None, thumbtune: float, met: bool | None
) -> None:
    assert replace(ROW, target=target, ratio=ratio, thumbtune=thumbtune).met is met


def test_a_row_states_a_missed_target() -> None:
    missed = replace(ROW, ratio=8.254, against="fp32")
    assert missed.cells() == ("a rerun", "60 s (fp32)", "1.2 s", "8.25", ">= 50: MISSED", "`python -m bench.x`")
    assert replace(ROW, recipe=None, ratio=None, target=None).cells()[1:5] == ("", "1.2 s", "", "stated")
    assert replace(ROW, target=Target("<=", 100, of="thumbtune"), unit="ms").cells()[4] == "<= 100 ms: met"


def test_the_table_is_valid_markdown_for_any_cells() -> None:
    lines = table([replace(ROW, what="a | b"), ROW]).splitlines()
    assert lines[:2] == [
        "| what | recipe | thumbtune | ratio | target | how measured |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    assert lines[2].startswith("| a \\| b | 60 s | 1.2 s | 50 | >= 50: met |")
    assert len(lines) == 4


def test_results_survive_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ROW, replace(ROW, recipe=None, ratio=None, target=None)]
    show(rows, as_json=True)
    assert from_json(capsys.readouterr().out) == rows
