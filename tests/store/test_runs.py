"""Training runs from `running` to their end, their rows, and the views of these."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from store.db import Database, rows_as_dicts
from store.errors import NotFound, StoreError
from store.tables import VideoVersion
from store.training import (
    ExampleRow,
    add_evaluations,
    add_ranks,
    add_steps,
    current_pairs,
    end_run,
    evaluations,
    get_run,
    mark_interrupted,
    newest_done_run,
    ranks,
    save_snapshot,
    snapshot_pairs,
    start_run,
    steps,
    update_run,
)
from store.types import utc_now
from tests.store.builders import NO_IDS, add_channel, add_video, change_video, list_runs

SPLITS = ["train", "train", "train", "valid", "valid", "test"]


def start(session: Session, **columns: Any) -> int:
    given = {"base_model": "clip", "trained": "projection", "seed": 42, "settings": {"lr": 1e-4, "batch_size": 16}}
    return start_run(session, **{**given, "packages": {"torch": "2"}, "host": "here", "pid": 123, **columns})


def snapshot(session: Session) -> int:
    """Six pairs in a snapshot: v0 to v2 train, v3 and v4 valid, v5 test."""
    add_channel(session)
    for index in range(6):
        add_video(session, f"v{index}", day=-index)
    rows = [
        ExampleRow(
            position=position,
            video_id=pair.video_id,
            channel_id=pair.channel_id,
            version_id=pair.version_id,
            group_id=pair.video_id,
            split=SPLITS[position],
            title=pair.title,
            picture_sha256=pair.picture_sha256,
            negative_position=None,
        )
        for position, pair in enumerate(current_pairs(session))
    ]
    return save_snapshot(session, "f" * 64, {}, {}, rows)[0]


def metric(value: float, **columns: Any) -> dict[str, Any]:
    """A row of `evaluation`: by default the tuned model's recall@1 on test."""
    given = {"model": "tuned", "scope": "all", "split": "test", "direction": "thumbnail_to_title"}
    return {**given, "metric": "recall@1", "k": 1, "value": value, "n": 12, "low": None, "high": None, **columns}


def rank(video: str, place: int, top: str, **columns: Any) -> dict[str, Any]:
    given = {"model": "tuned", "direction": "thumbnail_to_title", "split": "valid", "score": 0.25, "top_score": 0.5}
    return {**given, "video_id": video, "rank": place, "top_video_id": top, **columns}


def test_a_run_exists_from_its_start_and_ends_done(database: Database) -> None:
    before = utc_now()
    with database.write() as session:
        run_id = start(session)
    with database.read() as session:
        run = get_run(session, run_id)
        assert (run.status, run.finished_at, run.seconds, run.snapshot_id) == ("running", None, None, None)
        assert before <= run.started_at <= utc_now()
        assert run.settings == {"lr": 1e-4, "batch_size": 16}
        assert newest_done_run(session) is None

    with database.write() as session:
        update_run(session, run_id, device="cpu", parameters_total=5_000_000_000, parameters_trainable=1_376_256)
    with database.write() as session:
        end_run(session, run_id, "done", artifact_path="run.safetensors", phase_seconds={"fit": 1.5})
    with database.read() as session:
        run = get_run(session, run_id)
        assert (run.status, run.device, run.error) == ("done", "cpu", None)
        assert (run.parameters_total, run.parameters_trainable) == (5_000_000_000, 1_376_256)
        assert (run.artifact_path, run.phase_seconds) == ("run.safetensors", {"fit": 1.5})
        assert run.finished_at is not None
        assert run.seconds == pytest.approx((run.finished_at - run.started_at).total_seconds())
        newest = newest_done_run(session)
        assert newest is not None
        assert newest.id == run_id


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_failed_run_has_its_error(database: Database, status: str) -> None:
    with database.write() as session:
        run_id = start(session)
        end_run(session, run_id, status, error="too few pairs; sync more")
    with database.read() as session:
        run = get_run(session, run_id)
        assert (run.status, run.error) == (status, "too few pairs; sync more")
        assert run.finished_at is not None
        assert newest_done_run(session) is None
        history = rows_as_dicts(session, "SELECT run_id, status, error, n_train, test_recall_at_1 FROM run_history")
    assert history == [
        {
            "run_id": run_id,
            "status": status,
            "error": "too few pairs; sync more",
            "n_train": None,
            "test_recall_at_1": None,
        }
    ]


def test_an_invalid_status_is_refused(database: Database) -> None:
    with database.write() as session:
        run_id = start(session)
    with pytest.raises(StoreError), database.write() as session:
        end_run(session, run_id, "finished")
    with database.read() as session:
        assert get_run(session, run_id).status == "running"


def test_the_end_of_a_run_does_not_change_others(database: Database) -> None:
    with database.write() as session:
        one, two, three = start(session), start(session), start(session)
        end_run(session, two, "done")
        end_run(session, one, "done")
    with database.read() as session:
        assert [(run.id, run.status) for run in list_runs(session)] == [
            (one, "done"),
            (two, "done"),
            (three, "running"),
        ]
        newest = newest_done_run(session)
        assert newest is not None
        assert newest.id == two


def test_running_runs_of_ended_processes_become_interrupted(database: Database) -> None:
    asked: list[tuple[str, int, datetime]] = []

    def has_ended(host: str, pid: int, started_at: datetime, _start: int | None) -> bool:
        asked.append((host, pid, started_at))
        return (host, pid) == ("here", 2)

    with database.write() as session:
        alive = start(session, pid=1)
        dead = start(session, pid=2)
        elsewhere = start(session, pid=2, host="there")
        done = start(session, pid=2)
        end_run(session, done, "done")
    with database.write() as session:
        assert mark_interrupted(session, has_ended) == [dead]
    with database.write() as session:
        assert mark_interrupted(session, has_ended) == []
    with database.read() as session:
        runs = {run.id: run for run in list_runs(session)}
        assert {run_id: run.status for run_id, run in runs.items()} == {
            alive: "running",
            dead: "interrupted",
            elsewhere: "running",
            done: "done",
        }
        assert "killed" in (runs[dead].error or "")
        assert runs[dead].finished_at is not None
        # A process id is reused after a restart: the check also needs the start of the run.
        assert asked[:2] == [("here", 1, runs[alive].started_at), ("here", 2, runs[dead].started_at)]
        assert asked[0][2].utcoffset() == timedelta(0)


def test_steps_are_appended_and_read_in_order(database: Database) -> None:
    rows = [{"step": n, "epoch": n / 4, "loss": 3.0 - n / 10, "learning_rate": 1e-4 * (8 - n) / 8} for n in range(1, 9)]
    with database.write() as session:
        run_id, other = start(session), start(session)
        add_steps(session, run_id, rows[5:])
        add_steps(session, run_id, [])
        add_steps(session, other, rows[:1])
        add_steps(session, run_id, rows[:5])
    with database.read() as session:
        found = [
            {"step": row.step, "epoch": row.epoch, "loss": row.loss, "learning_rate": row.learning_rate}
            for row in steps(session, run_id)
        ]
    assert found == rows


def test_a_step_is_recorded_once(database: Database) -> None:
    row = {"step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 1e-4}
    with database.write() as session:
        run_id = start(session)
        add_steps(session, run_id, [row])
    with pytest.raises(StoreError), database.write() as session:
        add_steps(session, run_id, [{**row, "loss": 1.0}])
    with database.read() as session:
        assert [step.loss for step in steps(session, run_id)] == [2.0]


def test_run_history_has_the_recorded_metrics(database: Database) -> None:
    """One row per run, with recall@1 from thumbnail to title over all channels, among many other figures."""
    noise = [
        metric(0.01, direction="title_to_thumbnail"),
        metric(0.02, scope="UC1"),
        metric(0.03, metric="recall@5", k=5),
        metric(0.04, metric="mrr", k=None),
        metric(0.05, split="train"),
        metric(0.06, model="base", split="train"),
    ]
    with database.write() as session:
        run_id = start(session, snapshot_id=snapshot(session))
        other = start(session)
        add_evaluations(session, run_id, noise)
        add_evaluations(
            session,
            run_id,
            [
                metric(0.75, low=0.47, high=0.91),
                metric(0.5, model="base", low=0.25, high=0.75),
                metric(0.875, split="valid", low=0.6, high=0.97),
                metric(0.625, model="base", split="valid", low=0.4, high=0.8),
                metric(0.25, model="champion", low=0.1, high=0.5),
                metric(0.375, model="champion", split="valid", low=0.2, high=0.6),
            ],
        )
        add_evaluations(session, other, [metric(0.125)])
        add_evaluations(session, other, [])
        end_run(session, run_id, "done")
    with database.read() as session:
        first, second = rows_as_dicts(session, "SELECT * FROM run_history ORDER BY run_id")
        seconds = get_run(session, run_id).seconds
        assert len(evaluations(session, run_id)) == 12
        assert [row.value for row in evaluations(session, other)] == [0.125]
    figures = {name: value for name, value in first.items() if "recall" in name}
    assert figures == {
        "base_valid_recall_at_1": 0.625,
        "valid_recall_at_1": 0.875,
        "valid_recall_at_1_low": 0.6,
        "valid_recall_at_1_high": 0.97,
        "base_test_recall_at_1": 0.5,
        "test_recall_at_1": 0.75,
        "test_recall_at_1_low": 0.47,
        "test_recall_at_1_high": 0.91,
        "champion_valid_recall_at_1": 0.375,
        "champion_test_recall_at_1": 0.25,
    }
    assert (first["run_id"], first["status"], first["base_model"]) == (run_id, "done", "clip")
    assert (first["n_train"], first["n_valid"], first["n_test"]) == (3, 2, 1)
    assert first["seconds"] == seconds
    stored = first["settings"]
    assert (json.loads(stored) if isinstance(stored, str) else stored) == {"lr": 1e-4, "batch_size": 16}
    assert (second["test_recall_at_1"], second["base_test_recall_at_1"], second["n_train"]) == (0.125, None, None)


def test_evaluations_are_read_in_a_fixed_order(database: Database) -> None:
    rows = [
        metric(0.1, model=model, split=split, metric=name)
        for model in ("base", "tuned")
        for split in ("test", "train", "valid")
        for name in ("mrr", "recall@1")
    ]
    with database.write() as session:
        one, two = start(session), start(session)
        add_evaluations(session, one, rows)
        add_evaluations(session, two, rows[::-1])
    with database.read() as session:
        order = [[(row.model, row.split, row.metric) for row in evaluations(session, run)] for run in (one, two)]
    assert order[0] == order[1] == [(row["model"], row["split"], row["metric"]) for row in rows]


def test_run_errors_have_the_titles_of_the_snapshot(database: Database) -> None:
    with database.write() as session:
        run_id = start(session, snapshot_id=snapshot(session))
        add_ranks(
            session,
            run_id,
            [
                rank("v3", 1, "v3"),
                rank("v4", 2, "v3", score=0.125, top_score=0.75),
                rank("v4", 2, "v3", model="base"),
                rank("v5", 3, "v0", split="test", direction="title_to_thumbnail"),
            ],
        )
        add_ranks(session, run_id, [])
    with database.write() as session:
        change_video(session, "v3", title="Renamed since")
        change_video(session, "v4", title="Renamed too", picture=b"new")
    with database.read() as session:
        errors = rows_as_dicts(session, "SELECT * FROM run_errors WHERE model = 'tuned'")
        everything = rows_as_dicts(session, "SELECT model, video_id FROM run_errors ORDER BY model")
        query = select(VideoVersion.picture_sha256).where(VideoVersion.video_id == "v4", VideoVersion.number == 1)
        picture = session.scalar(query)
    assert errors == [
        {
            "run_id": run_id,
            "model": "tuned",
            "split": "valid",
            "video_id": "v4",
            "title": "The title of v4",
            "picture_sha256": picture,
            "rank": 2,
            "score": 0.125,
            "top_video_id": "v3",
            "top_title": "The title of v3",
            "top_score": 0.75,
        }
    ]
    assert everything == [{"model": "base", "video_id": "v4"}, {"model": "tuned", "video_id": "v4"}]


def test_ranks_are_read_by_model_direction_and_split(database: Database) -> None:
    with database.write() as session:
        run_id = start(session, snapshot_id=snapshot(session))
        other = start(session)
        rows = [
            rank("v3", 1, "v3"),
            rank("v4", 2, "v3"),
            rank("v4", 7, "v3", model="base"),
            rank("v4", 8, "v3", direction="title_to_thumbnail"),
            rank("v5", 9, "v0", split="test"),
        ]
        add_ranks(session, run_id, rows)
        add_ranks(session, other, [rank("v3", 6, "v4")])
    with database.read() as session:
        found = ranks(session, run_id, "tuned", "thumbnail_to_title", "valid")
        assert {video: (row.rank, row.top_video_id) for video, row in found.items()} == {
            "v3": (1, "v3"),
            "v4": (2, "v3"),
        }
        assert {v: r.rank for v, r in ranks(session, run_id, "base", "thumbnail_to_title", "valid").items()} == {
            "v4": 7
        }
        assert ranks(session, run_id, "base", "thumbnail_to_title", "test") == {}


def test_pairs_of_a_snapshot_are_unchanged_by_later_syncs(database: Database) -> None:
    with database.write() as session:
        made = snapshot(session)
        add_video(session, "later")
        change_video(session, "v1", title="Renamed since", picture=b"and repainted")
    with database.read() as session:
        pairs = snapshot_pairs(session, made, ["v1", "v5", "later", "unknown"])
        assert {video: title for video, (title, _) in pairs.items()} == {
            "v1": "The title of v1",
            "v5": "The title of v5",
        }
        assert hashlib.sha256(b"and repainted").hexdigest() not in {picture for _, picture in pairs.values()}
        assert snapshot_pairs(session, made, []) == {}


def test_an_unknown_run_is_named(database: Database) -> None:
    with database.read() as session:
        assert list_runs(session) == []
        for number in (9, *NO_IDS):
            with pytest.raises(NotFound, match=f"there is no run {number}; 'thumbtune runs' lists them"):
                get_run(session, number)
    with pytest.raises(NotFound, match="there is no run 9"), database.write() as session:
        end_run(session, 9, "done")
