"""Finished runs over time: the data of the plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import Evaluation, TrainingRun, TrainingStep

__all__ = ["FinishedRun", "Recall", "finished_runs", "losses_of", "recalls_of"]


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall@1 from thumbnail to title over all channels: a proportion of `n` with its 95 % Wilson interval."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class FinishedRun:
    """A run with status `done`.

    Args:
        run_id: the run.
        started_at: the start time.
        recalls: {(model, split): recall@1} for the models `base` and `tuned`, without splits that were not scored.
    """

    run_id: int
    started_at: datetime
    recalls: dict[tuple[str, str], Recall] = field(default_factory=dict)


def finished_runs(session: Session) -> list[FinishedRun]:
    """Return the runs that are done and scored on `valid` or `test`, oldest first, without trials and hidden runs."""
    query = (
        select(
            TrainingRun.id,
            TrainingRun.started_at,
            Evaluation.model,
            Evaluation.split,
            Evaluation.value,
            Evaluation.n,
            Evaluation.low,
            Evaluation.high,
        )
        .join(Evaluation, Evaluation.run_id == TrainingRun.id)
        .where(
            TrainingRun.status == "done",
            TrainingRun.trial.is_(None),
            TrainingRun.hidden_at.is_(None),
            Evaluation.model.in_(("base", "tuned")),
            Evaluation.scope == "all",
            Evaluation.split.in_(("valid", "test")),
            Evaluation.direction == "thumbnail_to_title",
            Evaluation.metric == "recall@1",
        )
        .order_by(TrainingRun.started_at, TrainingRun.id)
    )
    found: dict[int, FinishedRun] = {}
    for run_id, started_at, model, split, value, n, low, high in session.execute(query):
        run = found.setdefault(run_id, FinishedRun(run_id, started_at))
        run.recalls[model, split] = Recall(value, n, value if low is None else low, value if high is None else high)
    return list(found.values())


def recalls_of(session: Session, run_id: int) -> dict[str, dict[str, Recall]]:
    """Return {model: {split: recall@1}} of one run."""
    query = select(Evaluation).where(
        Evaluation.run_id == run_id,
        Evaluation.scope == "all",
        Evaluation.direction == "thumbnail_to_title",
        Evaluation.metric == "recall@1",
    )
    found: dict[str, dict[str, Recall]] = {}
    for row in session.scalars(query):
        low, high = (row.value if end is None else end for end in (row.low, row.high))
        found.setdefault(row.model, {})[row.split] = Recall(row.value, row.n, low, high)
    return found


def losses_of(session: Session, run_ids: Sequence[int]) -> dict[int, list[tuple[float, float]]]:
    """Return {run id: [(epoch, loss) of each step]} in the order of `run_ids`, without runs that have no steps."""
    query = (
        select(TrainingStep.run_id, TrainingStep.epoch, TrainingStep.loss)
        .where(TrainingStep.run_id.in_(run_ids))
        .order_by(TrainingStep.run_id, TrainingStep.step)
    )
    found: dict[int, list[tuple[float, float]]] = {run_id: [] for run_id in run_ids}
    for run_id, epoch, loss in session.execute(query):
        found[run_id].append((epoch, loss))
    return {run_id: steps_of_run for run_id, steps_of_run in found.items() if steps_of_run}
