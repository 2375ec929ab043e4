"""Decide whether a new model replaces the one in use, by held-out rows but never by test rows. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.wording import counted

if TYPE_CHECKING:
    from trainer.scoring import Paired

__all__ = ["ENOUGH_VALID", "FEWEST", "Decision", "by_hand", "decide", "decide_all_known", "decide_unmeasured"]

ENOUGH_VALID = 200
"""The number of valid rows that suffices for a decision: one standard error of a recall is then at most .035."""
FEWEST = 20
"""The minimum number of held-out pairs for an automatic change. With fewer, differences are mostly chance."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to put the new model into use, and the reason with the figures, in one line."""

    promote: bool
    reason: str


def named(run_id: int | None, base_of: int | None = None) -> str:
    """Name the model in use: the champion, or the base model while no run is in use."""
    if run_id is not None:
        return f"the champion (run {run_id})"
    return "the base model" if base_of is None else f"the base model in use (of run {base_of})"


def decide(run_id: int | None, how: str, found: Paired, known: int = 0, *, base_of: int | None = None) -> Decision:
    """Compare two models by recall@1, thumbnail to title, on the same held-out rows, and choose the better one.

    A tie, or fewer than `FEWEST` pairs, keeps the model in use. The confidence interval is only reported and does not
    affect the decision.

    Args:
        run_id: the run in use; None for the base model.
        how: `cross-validated` or `valid`.
        found: the comparison, with the model in use first.
        known: the number of rows that were left out because the champion was trained on their title or thumbnail.
        base_of: the run whose base model is in use, if it is another base model than that of the new run; else None.
    """
    less = f" ({known} more left out: the champion was trained on their title or thumbnail)" if known else ""
    pairs = f"{counted(found.n, 'pair')}{less}"
    interval = f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
    decision = Decision(
        found.better,
        f"{how} recall@1 {found.new:.3f}, {named(run_id, base_of)} {found.old:.3f}, on the same {pairs}: "
        f"{found.difference:+.3f} ({interval})",
    )
    if found.better and found.n < FEWEST:
        return by_hand(decision, f"fewer than {FEWEST} pairs are too few")
    return decision


def by_hand(decision: Decision, why: str) -> Decision:
    """Keep the model in use, because only a user may decide."""
    return Decision(
        False,
        f"{decision.reason}; the model in use does not change automatically, because {why}; "
        "to change it, run 'thumbtune runs promote'",
    )


def decide_all_known(run_id: int, known: int) -> Decision:
    """Keep the champion, because it was trained on all rows that could tell the two models apart."""
    return Decision(
        False,
        f"the champion (run {run_id}) was trained on the title or thumbnail of every valid pair ({known}), "
        "so the two can't be compared; to use this model, run 'thumbtune runs promote'",
    )


def decide_unmeasured(run_id: int | None, new: float | None, why: str | None) -> Decision:
    """Keep the model in use, because one of the two figures is missing.

    This includes a champion whose files are gone: they may be back once a disk is mounted again, and the two models
    were not compared. The reason says what to do.

    Args:
        run_id: the run in use; None for the base model.
        new: the new model's valid recall@1; None if the valid split is empty.
        why: why the champion's model can't be loaded; None if it can be loaded, but could not be scored this time.
    """
    if new is None:
        return Decision(False, f"the valid split is empty, so this model can't be compared with {named(run_id)}")
    if why is None:
        return Decision(
            False,
            f"{named(run_id)} could not be scored this time, but its model can be loaded; "
            "run 'thumbtune retrain --force' to try again",
        )
    return Decision(
        False,
        f"valid recall@1 {new:.3f}; the model of {named(run_id)} can't be loaded, "
        f"so the two were not compared: {why}, and run 'thumbtune retrain --force'; or run 'thumbtune runs promote'",
    )
