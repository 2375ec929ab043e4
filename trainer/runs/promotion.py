"""Whether a new model takes the champion's place: by valid recall@1 on the same rows, never by test. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from store.tables import TrainingRun
    from trainer.scoring import Comparison, Scores

__all__ = ["Decision", "Judge", "decide", "decide_all_known", "decide_unmeasured"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to take the new model into use, and why, in one line with the figures."""

    promote: bool
    reason: str


class Judge(Protocol):
    """Decides for a run that has ended; asked outside of any transaction."""

    def __call__(
        self, in_use: TrainingRun, tuned: Scores, beside: Scores | None, known: Collection[str], /
    ) -> Decision:
        """Say whether the model scored `tuned` replaces that of `in_use`, scored `beside` (None: it could not be).

        `known`: held-out videos that say nothing, as `in_use` was trained on their title or picture.
        """


def decide(champion_id: int, test: Comparison, known: int = 0) -> Decision:
    """Compare two models by valid recall@1, thumbnail to title: one that is not worse takes the other's place.

    The test says how far chance explains the difference; it decides nothing. Ties go to the new model, which has seen
    the newer pairs.

    Args:
        champion_id: the run in use.
        test: the exact McNemar test over the valid rows that both ranked, the champion's model first; at least one row.
        known: so many more valid rows were left out, as the champion was trained on their title or picture.
    """
    rows = "row" if test.n == 1 else "rows"
    new, champion = (test.both + test.only_b) / test.n, (test.both + test.only_a) / test.n
    less = f" ({known} more left out: the champion was trained on their title or thumbnail)" if known else ""
    return Decision(
        test.only_b >= test.only_a,
        f"valid recall@1 {new:.3f} against the champion's (run {champion_id}) {champion:.3f} "
        f"on the same {test.n} {rows}{less}; exact McNemar p = {test.p:.2g}",
    )


def decide_all_known(champion_id: int, known: int) -> Decision:
    """Decide where the champion was trained on all that would tell the two apart: nothing is replaced then."""
    return Decision(
        False,
        f"the champion (run {champion_id}) was trained on the title or thumbnail of each of the {known} valid pairs, "
        "so nothing tells this model from it; or take this one into use by hand",
    )


def decide_unmeasured(champion_id: int, new: float | None, why: str | None) -> Decision:
    """Decide where there are not two figures to compare: nothing is replaced then.

    Also not a champion whose files are gone: they may be back when a disk is mounted again, and nobody has measured
    which of the two is better. The reason says what to do.

    Args:
        champion_id: the run in use.
        new: the new model's valid recall@1; None where no row is in the valid split.
        why: why the champion's model can't be had again; None when it is there and only could not be scored this time.
    """
    if new is None:
        return Decision(
            False, f"the valid split is empty, so nothing tells this model from the champion's (run {champion_id})"
        )
    if why is None:
        return Decision(
            False,
            f"the champion (run {champion_id}) could not be scored this time, though its model is there; "
            "'thumbtune retrain --force' tries again",
        )
    return Decision(
        False,
        f"valid recall@1 {new:.3f}; the champion's model (run {champion_id}) can't be had, "
        f"so the two were not compared: {why}, and run 'thumbtune retrain --force'; or take this one into use by hand",
    )
