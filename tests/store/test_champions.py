"""Champions, sweeps and known models: their history as rows."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update

from store.db import Database, rows_as_dicts
from store.errors import NotFound
from store.tables import KnownModel
from store.training import (
    ModelFacts,
    champion,
    champion_ids,
    end_run,
    end_sweep,
    get_sweep,
    mark_sweeps_interrupted,
    newest_done_run,
    promote,
    read_known_model,
    replace_champion,
    start_run,
    start_sweep,
    sweep_runs,
    write_known_model,
)


def new_run(database: Database, **columns: Any) -> int:
    known = {
        "base_model": "m",
        "trained": "projection",
        "seed": 1,
        "settings": {},
        "packages": {},
        "host": "h",
        "pid": 1,
    }
    with database.write() as session:
        run_id = start_run(session, **known, **columns)
        end_run(session, run_id, "done")
    return run_id


def test_the_champion_is_the_last_promoted_run_and_the_history_is_kept(database: Database) -> None:
    with database.read() as session:
        assert champion(session) is None
    first, second = new_run(database), new_run(database)
    for run_id, reason in ((first, "the first"), (second, "better"), (first, "by hand")):
        with database.write() as session:
            promote(session, run_id, reason)
    with database.read() as session:
        current = champion(session)
        assert current is not None
        assert current.id == first
        assert champion_ids(session) == [first, second, first]
        rows = rows_as_dicts(session, "SELECT * FROM champions")
    assert [(row["run_id"], row["reason"]) for row in rows] == [
        (first, "the first"),
        (second, "better"),
        (first, "by hand"),
    ]
    assert [row["replaced_at"] for row in rows] == [rows[1]["promoted_at"], rows[2]["promoted_at"], None]


def test_a_promotion_returns_the_previous_champion(database: Database) -> None:
    first, second = new_run(database), new_run(database)
    with database.write() as session:
        assert promote(session, first, "the first") is None
    with database.write() as session:
        assert promote(session, second, "by hand") == first


def test_a_champion_that_is_no_longer_in_use_is_not_replaced(database: Database) -> None:
    first, second, third = (new_run(database) for _ in range(3))
    with database.write() as session:
        assert not replace_champion(session, second, first, "better than one that never was in use")
    with database.write() as session:
        assert replace_champion(session, first, None, "the first")
    with database.write() as session:
        assert not replace_champion(session, second, None, "the first, too")
    with database.write() as session:
        assert replace_champion(session, second, first, "better")
    with database.write() as session:
        assert not replace_champion(session, third, first, "better than the one before")
    with database.read() as session:
        assert champion_ids(session) == [first, second]


def test_of_two_concurrent_replacements_one_succeeds(database: Database) -> None:
    first, *others = (new_run(database) for _ in range(9))
    with database.write() as session:
        promote(session, first, "the first")
    barrier = threading.Barrier(len(others))

    def replace(run_id: int) -> bool:
        barrier.wait()
        with database.write() as session:
            return replace_champion(session, run_id, first, "better")

    with ThreadPoolExecutor(len(others)) as pool:
        replaced = list(pool.map(replace, others))
    assert replaced.count(True) == 1
    with database.read() as session:
        assert champion_ids(session) == [first, others[replaced.index(True)]]


def test_an_unknown_run_is_not_promoted(database: Database) -> None:
    with database.write() as session, pytest.raises(NotFound, match="no run 7"):
        promote(session, 7, "by hand")


def test_the_runs_of_a_sweep_are_listed_separately_and_trials_have_no_model(database: Database) -> None:
    with database.write() as session:
        sweep_id = start_sweep(session, {"trials": 2}, "h", 1)
    winner = new_run(database, sweep_id=sweep_id)
    trials = [new_run(database, sweep_id=sweep_id, trial=0), new_run(database, sweep_id=sweep_id, trial=1)]
    with database.write() as session:
        end_sweep(session, sweep_id, "done")
    with database.read() as session:
        assert [run.id for run in sweep_runs(session, sweep_id)] == [winner, *trials]
        newest = newest_done_run(session)
        assert newest is not None
        assert newest.id == winner
        assert get_sweep(session, sweep_id).finished_at is not None
        with pytest.raises(NotFound, match="no sweep 99"):
            get_sweep(session, 99)


def test_a_sweep_of_an_ended_process_is_marked(database: Database) -> None:
    with database.write() as session:
        ours = start_sweep(session, {}, "here", 1)
        start_sweep(session, {}, "here", 2)
        start_sweep(session, {}, "elsewhere", 1)
    with database.write() as session:
        assert mark_sweeps_interrupted(session, lambda host, pid, _at, _start: (host, pid) == ("here", 1)) == [ours]
    with database.read() as session:
        assert get_sweep(session, ours).status == "interrupted"


def test_known_models_are_read_replaced_and_missing_when_damaged(database: Database) -> None:
    files, found = "f" * 64, ModelFacts("a" * 64, {"parameters": [["w", 3]]}, b"projections")
    with database.write() as session:
        write_known_model(session, files, ModelFacts("b" * 64, {}, None))
        assert read_known_model(session, files) == ModelFacts("b" * 64, {}, None)
        write_known_model(session, files, found)
    with database.read() as session:
        assert read_known_model(session, files) == found
        assert read_known_model(session, "e" * 64) is None
    with database.write() as session:
        session.execute(update(KnownModel).values(projections=b"other"))
    with database.read() as session:
        assert read_known_model(session, files) is None
