"""How far to trust the model that answers: what was measured of it, in a line."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from store.training import Recall, champion, newest_done_run, recalls_of

__all__ = ["Trust", "how_far_to_trust"]


@dataclass(frozen=True)
class Trust:
    """What is known of the model in use.

    Args:
        run_id: the run that was measured; None while nothing is trained.
        model: `tuned` or `base`: which of the run's models is in use.
        split: where it was measured: `test`, else `valid`.
        recall: what was found.
    """

    run_id: int | None
    model: str = "base"
    split: str | None = None
    recall: Recall | None = None


def how_far_to_trust(session: Session) -> Trust:
    """Return what was measured of the model that answers, as `trainer.runs.open_in_use` chooses it."""
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
