"""How far to trust the model that gave an answer, by its measured recall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from store.training import Recall, recalls_of

__all__ = ["Trust", "how_far_to_trust"]


@dataclass(frozen=True)
class Trust:
    """The measurements of a model.

    Args:
        run_id: the run that was measured; None if nothing is trained.
        model: `tuned` or `base`: which of the run's models it is.
        split: the split it was measured on: `test`, else `valid`.
        recall: the measured recall.
    """

    run_id: int | None
    model: str = "base"
    split: str | None = None
    recall: Recall | None = None


def how_far_to_trust(session: Session, answer: Mapping[str, Any]) -> Trust:
    """Return the measurements of the model that gave an answer: its `model` and `run_id`."""
    run_id = answer["run_id"]
    if run_id is None:
        return Trust(None)
    model = "base" if answer["model"].endswith("base") else "tuned"
    found = recalls_of(session, run_id).get(model, {})
    split = next((split for split in ("test", "valid") if split in found), None)
    return Trust(run_id, model, split, None if split is None else found[split])
