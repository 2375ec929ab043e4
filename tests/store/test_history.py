"""The data for plots of finished runs, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from store.db import Database
from store.training import (
    FinishedRun,
    Recall,
    add_evaluations,
    add_steps,
    end_run,
    finished_runs,
    losses_of,
    start_run,
    update_run,
)
from tests.store.builders import DAY_ONE


def add_run(session: Session, day: int, status: str | None = "done", **scored: float) -> int:
    """A run that started on a day; `base_valid=0.5` and the like are its recalls, of 20 rows each."""
    run_id = start_run(session, base_model="clip", trained="all", seed=1, settings={}, packages={}, host="here", pid=1)
    update_run(session, run_id, started_at=DAY_ONE + timedelta(days=day))
    for name, value in scored.items():
        model, split = name.split("_")
        given: dict[str, Any] = {"model": model, "split": split, "value": value, "n": 20, "k": 1}
        bounds = {"low": value - 0.1, "high": value + 0.1}
        where = {"scope": "all", "direction": "thumbnail_to_title", "metric": "recall@1"}
        others = [{"metric": "recall@5"}, {"scope": "UC1"}, {"direction": "title_to_thumbnail"}]
        add_evaluations(session, run_id, [{**given, **bounds, **where}])
        add_evaluations(session, run_id, [{**given, **bounds, **where, **other, "value": 0.99} for other in others])
    if status is not None:
        end_run(session, run_id, status)
    return run_id


def test_finished_runs_are_ordered_by_time(database: Database) -> None:
    with database.write() as session:
        late = add_run(session, 9, base_valid=0.5, tuned_valid=0.75, tuned_test=0.5, champion_valid=0.6, tuned_train=1)
        early = add_run(session, 1, tuned_valid=0.25)
        for status in ("failed", "interrupted", None):
            add_run(session, 5, status, tuned_valid=0.5)
        add_run(session, 6)
    with database.read() as session:
        first, second = finished_runs(session)
    assert first == FinishedRun(early, DAY_ONE + timedelta(days=1), {("tuned", "valid"): Recall(0.25, 20, 0.15, 0.35)})
    assert (second.run_id, set(second.recalls)) == (late, {("base", "valid"), ("tuned", "valid"), ("tuned", "test")})
    assert second.recalls["base", "valid"].value == 0.5


def test_no_runs_give_no_history(database: Database) -> None:
    with database.read() as session:
        assert finished_runs(session) == []
        assert losses_of(session, []) == {}


def test_losses_are_ordered_by_step(database: Database) -> None:
    with database.write() as session:
        runs = [add_run(session, day) for day in range(3)]
        for run_id in runs[:2]:
            rows = [{"step": n, "epoch": n / 2, "loss": run_id + n, "learning_rate": 1e-4} for n in (2, 1, 3)]
            add_steps(session, run_id, rows)
    with database.read() as session:
        found = losses_of(session, [runs[2], runs[1], runs[0]])
    assert list(found.items()) == [(run, [(n / 2, run + n) for n in (1, 2, 3)]) for run in (runs[1], runs[0])]
