"""Answers from the store alone: runs, champions, and a run with its metrics, losses and errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from store.db import rows_as_dicts
from store.training import current_models, evaluations, get_run, get_sweep, hidden_runs, scope_of, steps

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from store.tables import Evaluation, TrainingRun

__all__ = ["RunDetails", "list_champions", "list_runs", "run_details"]


def list_runs(session: Session, sweep_id: int | None = None, *, hidden: bool = False) -> list[dict[str, Any]]:
    """Return the rows of `run_history`, oldest first: the trials of a sweep, or all runs except trials.

    JSON and times are parsed. Each row also has `in_use`, and `scope`: the ids of the channels that it was trained on,
    empty for all.

    Args:
        session: any session.
        sweep_id: the sweep.
        hidden: include the runs that `runs hide` hid.

    Raises:
        NotFound: there is no such sweep.
    """
    if sweep_id is None:
        rows = rows_as_dicts(session, "SELECT * FROM run_history WHERE trial IS NULL ORDER BY run_id")
    else:
        get_sweep(session, sweep_id)
        rows = rows_as_dicts(
            session, "SELECT * FROM run_history WHERE sweep_id = :sweep ORDER BY run_id", sweep=sweep_id
        )
    in_use = {one.run.id for one in current_models(session)}
    left_out = set() if hidden else hidden_runs(session)
    return [
        {**row, "in_use": row["run_id"] in in_use, "scope": list(scope_of(row["settings"]))}
        for row in map(with_values, rows)
        if row["run_id"] not in left_out
    ]


def with_values(row: dict[str, Any]) -> dict[str, Any]:
    """Parse a row's JSON and times: SQLite's views return them as text, PostgreSQL's as values."""
    settings = row["settings"]
    return {
        **row,
        "settings": json.loads(settings) if isinstance(settings, str) else settings,
        "started_at": _moment(row["started_at"]),
    }


def list_champions(session: Session) -> list[dict[str, Any]]:
    """Return every run that is or was the champion, oldest first: rows of the view `champions`, with parsed times."""
    return [
        {**row, "promoted_at": _moment(row["promoted_at"]), "replaced_at": _moment(row["replaced_at"])}
        for row in rows_as_dicts(session, "SELECT * FROM champions")
    ]


def _moment(value: Any) -> Any:
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value


@dataclass(frozen=True)
class RunDetails:
    """The details of a run.

    Args:
        facts: the columns of its row, by name.
        metrics: in reading order: base before tuned, train before test, recall@1 before recall@10.
        steps: each optimiser step.
    """

    facts: dict[str, Any]
    metrics: list[dict[str, Any]]
    steps: list[dict[str, Any]]


def run_details(session: Session, run_id: int) -> RunDetails:
    """Return everything recorded about a run, except for the titles that it ranks wrong: see `mistakes`.

    Raises:
        NotFound: there is no such run.
    """
    run = get_run(session, run_id)
    metrics = [
        _columns(row, "model", "scope", "split", "direction", "metric", "value", "n", "low", "high")
        for row in sorted(evaluations(session, run_id), key=_reading_order)
    ]
    losses = [_columns(row, "step", "epoch", "loss", "learning_rate") for row in steps(session, run_id)]
    return RunDetails(_facts(run), metrics, losses)


def _reading_order(row: Evaluation) -> tuple[object, ...]:
    """Sort key: base before tuned, train before test, recall@1 before recall@10."""
    split = ("train", "valid", "test").index(row.split)
    metric = ("recall", "mrr", "median_rank").index(row.metric.partition("@")[0])
    return row.model, row.scope, split, row.direction, metric, row.k or 0


def _facts(run: TrainingRun) -> dict[str, Any]:
    return {"run_id" if key == "id" else key: getattr(run, key) for key in run.__table__.columns.keys()}  # noqa: SIM118


def _columns(row: object, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
