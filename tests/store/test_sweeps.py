"""Sweeps and their trials: written atomically, read as scores, resumed; on both databases."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from store.db import Database, open_database
from store.errors import NotFound, StoreError
from store.training import (
    Recall,
    TrialRun,
    add_trial_runs,
    end_sweep,
    evaluations,
    finished_runs,
    get_sweep,
    mark_sweeps_interrupted,
    newest_done_run,
    recalls_of,
    reopen_sweep,
    start_run,
    start_sweep,
    steps,
    sweep_runs,
    trial_scores,
    winner_run,
)
from store.types import utc_now
from tests.store.builders import NO_IDS

COLUMNS = {"base_model": "clip", "trained": "projection", "packages": {}, "host": "here", "pid": 1}


def start(session: Session) -> int:
    return start_sweep(session, {"trials": 3}, "here", 1)


def figure(metric: str, value: float, **columns: Any) -> dict[str, Any]:
    given = {"model": "tuned", "scope": "all", "split": "valid", "direction": "thumbnail_to_title", "metric": metric}
    return {
        **given,
        "k": 1 if metric == "recall@1" else None,
        "value": value,
        "n": 8,
        "low": None,
        "high": None,
        **columns,
    }


def trial_run(seed: int, *figures: dict[str, Any], status: str = "done", **columns: Any) -> TrialRun:
    now = utc_now()
    times = {"started_at": now, "finished_at": now, "seconds": 0.5, "phase_seconds": {"fit": 0.5}}
    taken = [{"step": 1, "epoch": 1.0, "loss": 2.0, "learning_rate": 0.1}]
    known = {**COLUMNS, **times, "status": status, "seed": seed, "settings": {"lr": 0.1, "seed": seed}, **columns}
    return TrialRun(known, taken, list(figures))


def test_runs_of_a_trial_are_read_as_scores(database: Database) -> None:
    with database.write() as session:
        sweep, other = start(session), start(session)
        add_trial_runs(session, other, 0, [trial_run(1, figure("recall@1", 1.0))])
        # Only the figures for the choice are read, not all measured figures.
        more = (
            figure("recall@1", 0.1, scope="UC1"),
            figure("recall@1", 0.2, direction="title_to_thumbnail"),
            figure("recall@5", 0.9, k=5),
        )
        add_trial_runs(session, sweep, 1, [trial_run(42, status="failed", error="the loss became nan")])
        add_trial_runs(
            session,
            sweep,
            0,
            [
                trial_run(42, figure("recall@1", 0.5), figure("mrr", 0.7), *more),
                trial_run(43, figure("recall@1", 0.25)),
            ],
        )
    with database.read() as session:
        scores = trial_scores(session, sweep)
        assert [(s.trial, s.seed, s.status, s.recall_at_1, s.mrr, s.n) for s in scores] == [
            (0, 42, "done", 0.5, 0.7, 8),
            (0, 43, "done", 0.25, None, 8),
            (1, 42, "failed", None, None, None),
        ]
        assert scores[0].settings == {"lr": 0.1, "seed": 42}
        assert [run.id for run in sweep_runs(session, sweep)] == sorted(score.run_id for score in scores)
        assert [step.loss for step in steps(session, scores[0].run_id)] == [2.0]
        assert len(evaluations(session, scores[0].run_id)) == 5
        assert recalls_of(session, scores[0].run_id) == {"tuned": {"valid": Recall(0.5, 8, 0.5, 0.5)}}


def test_a_trial_is_stored_completely_or_not_at_all(database: Database) -> None:
    bad = trial_run(2, figure("recall@1", 0.5, split="nowhere"))
    with database.write() as session:
        sweep = start(session)
    with pytest.raises(StoreError), database.write() as session:
        add_trial_runs(session, sweep, 0, [trial_run(1, figure("recall@1", 0.5)), bad])
    with database.read() as session:
        assert trial_scores(session, sweep) == []
        assert list(sweep_runs(session, sweep)) == []


def test_trials_are_neither_models_nor_points_of_a_plot(database: Database) -> None:
    with database.write() as session:
        sweep = start(session)
        add_trial_runs(session, sweep, 0, [trial_run(1, figure("recall@1", 0.5))])
    with database.read() as session:
        assert newest_done_run(session) is None
        assert finished_runs(session) == []
        assert winner_run(session, sweep) is None


def test_the_run_of_the_winner_is_the_done_run(database: Database) -> None:
    with database.write() as session:
        sweep = start(session)
        given = {**COLUMNS, "seed": 42, "settings": {}, "sweep_id": sweep}
        start_run(session, **given)
        done = start_run(session, **given)
        start_run(session, **{**given, "sweep_id": start(session)})
        for run in sweep_runs(session, sweep):
            run.status = "done" if run.id == done else "interrupted"
    with database.read() as session:
        winner = winner_run(session, sweep)
        assert winner is not None
        assert winner.id == done


def test_only_a_stopped_sweep_is_reopened(database: Database) -> None:
    with database.write() as session:
        sweep = start(session)
        assert not reopen_sweep(session, sweep, {}, "there", 2), "it is running"
        end_sweep(session, sweep, "done")
        assert not reopen_sweep(session, sweep, {}, "there", 2), "its winner is known"
        end_sweep(session, sweep, "interrupted", "stopped by a signal")
        get_sweep(session, sweep).started_at -= timedelta(days=1)
    before = utc_now()
    with database.write() as session:
        assert reopen_sweep(session, sweep, {"trials": 9}, "there", 2)
    with database.read() as session:
        row = get_sweep(session, sweep)
        assert (row.status, row.error, row.finished_at) == ("running", None, None)
        assert (row.settings, row.host, row.pid) == ({"trials": 9}, "there", 2)
        assert row.started_at >= before, "its process started after the sweep's first process"


def test_an_unknown_sweep_is_named(database: Database) -> None:
    for number in (99, *NO_IDS):
        with pytest.raises(NotFound, match=f"there is no sweep {number}; "), database.write() as session:
            reopen_sweep(session, number, {}, "there", 2)
        with pytest.raises(NotFound, match=f"there is no sweep {number}; "), database.read() as session:
            get_sweep(session, number)


def test_sweeps_of_ended_processes_are_marked(database: Database) -> None:
    def has_ended(host: str, pid: int, _started_at: datetime, _start: int | None) -> bool:
        return (host, pid) == ("here", 1)

    with database.write() as session:
        dead, alive = start(session), start_sweep(session, {}, "here", 2)
        elsewhere = start_sweep(session, {}, "there", 1)
        assert mark_sweeps_interrupted(session, has_ended) == [dead]
    with database.read() as session:
        assert [get_sweep(session, sweep).status for sweep in (dead, alive, elsewhere)] == [
            "interrupted",
            "running",
            "running",
        ]
        assert "ended unexpectedly" in str(get_sweep(session, dead).error)


def test_a_sweep_that_ends_while_it_is_checked_keeps_its_end(migrated_postgres_url: str) -> None:
    """On PostgreSQL, a process may end its sweep, and then exit, after another process has read the sweep."""
    with closing(open_database(migrated_postgres_url)) as database:
        with database.write() as session:
            ended, killed = start(session), start(session)

        def has_ended(_host: str, _pid: int, _began: datetime, _start: int | None) -> bool:
            with database.write() as another:
                end_sweep(another, ended, "done")
            return True

        with database.write() as session:
            assert mark_sweeps_interrupted(session, has_ended) == [killed]
        with database.read() as session:
            assert [get_sweep(session, sweep).status for sweep in (ended, killed)] == ["done", "interrupted"]
