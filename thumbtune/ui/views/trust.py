"""Summarise in one line how far to trust the model in use, by its measured recall."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from store.training import Recall, champion, newest_done_run, recalls_of

__all__ = ["Trust", "how_far_to_trust"]


@dataclass(frozen=True)
class Trust:
    """The measurements of the model in use.

    Args:
        run_id: the run that was measured; None if nothing is trained.
        model: `tuned` or `base`: which of the run's models is in use.
        split: the split it was measured on: `test`, else `valid`.
        recall: the measured recall.
    """

    run_id: int | None
    model: str = "base"
    split: str | None = None
    recall: Recall | None = None


def how_far_to_trust(session: Session) -> Trust:
    """Return the measurements of the model in use, which `trainer.runs.open_in_use` selects."""
    run = champion(session)
    model = "tuned"
    if run is None:
        run = newest_done_run(session)
        if run is None:
            return Trust(None)
        model = "tuned" if run.decision is None else "base"
    found = recalls_of(session, run.id).get(model, {})
    split = next((split for split in ("test", "valid") if split in found), None)
    return Trust(run.id, model, split, None if split is None else found[split])
