"""Who is taken into use, from plain figures."""

from __future__ import annotations

import pytest

from trainer.runs.promotion import decide, decide_all_known, decide_unmeasured
from trainer.scoring import mcnemar


@pytest.mark.parametrize(
    ("old_hits", "new_hits", "promoted"), [(3, 4, True), (4, 4, True), (4, 3, False), (0, 0, True), (8, 0, False)]
)
def test_a_model_that_is_not_worse_on_valid_replaces_the_champion(old_hits: int, new_hits: int, promoted: bool) -> None:
    rows = [f"v{number}" for number in range(8)]
    old = {row: 1 if at < old_hits else 2 for at, row in enumerate(rows)}
    new = {row: 1 if at >= 8 - new_hits else 3 for at, row in enumerate(rows)}
    decision = decide(3, mcnemar(old, new))
    assert decision.promote is promoted
    start = f"valid recall@1 {new_hits / 8:.3f} against the champion's (run 3) {old_hits / 8:.3f} on the same 8 rows; "
    assert decision.reason.startswith(start)


def test_the_reason_says_how_far_chance_explains_it() -> None:
    old = {f"v{number}": 2 for number in range(6)}
    decision = decide(12, mcnemar(old, dict.fromkeys(old, 1)))
    assert decision.reason == (
        "valid recall@1 1.000 against the champion's (run 12) 0.000 on the same 6 rows; exact McNemar p = 0.031"
    )
    assert "on the same 1 row; exact McNemar p = 1" in decide(1, mcnemar({"v": 1}, {"v": 1})).reason


def test_the_reason_says_what_the_champion_knew() -> None:
    decision = decide(3, mcnemar({"v": 2}, {"v": 1}), known=4)
    assert decision.promote
    assert (
        "on the same 1 row (4 more left out: the champion was trained on their title or thumbnail)" in decision.reason
    )
    unknown = decide_all_known(3, 4)
    assert not unknown.promote
    assert unknown.reason.startswith(
        "the champion (run 3) was trained on the title or thumbnail of each of the 4 valid"
    )


@pytest.mark.parametrize(
    ("new", "why", "reason"),
    [
        (None, None, "the valid split is empty, so nothing tells this model from the champion's (run 3)"),
        (None, "its file is gone", "the valid split is empty, so nothing tells this model from the champion's"),
        (
            0.5,
            "its file is gone",
            "valid recall@1 0.500; the champion's model (run 3) can't be had, so the two were not compared: its",
        ),
        (0.5, None, "the champion (run 3) could not be scored this time, though its model is there"),
    ],
)
def test_without_two_figures_nothing_is_replaced(new: float | None, why: str | None, reason: str) -> None:
    decision = decide_unmeasured(3, new, why)
    assert not decision.promote
    assert decision.reason.startswith(reason)
