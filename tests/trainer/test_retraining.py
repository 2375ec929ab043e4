"""Retraining on real stores with a real (tiny) model: when it trains, its settings, and the model in use afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text, update
from sqlalchemy.orm import Session, SessionTransaction

from store.db import Database, rows_as_dicts
from store.errors import NotFound
from store.processes import start_of
from store.tables import Promotion, TrainingRun, Video
from store.training import NewPairs, champion, champion_ids, evaluations, get_run, promote, ranks, start_run
from tests import forked
from tests.store.builders import add_video, change_video, list_runs, url_of
from tests.trainer.phases import CallsAt
from tests.trainer.tiny import build_clip, draw, fill
from tests.trainer.training import new_pairs, train_in_use
from trainer.errors import AlreadyTraining, BadSetting, Diverged, RunUnusable, TrainingInterrupted
from trainer.runs import inherited_settings, known_at_start, promote_run, retrain, train
from trainer.runs.recorded import load_run_model, run_in_use
from trainer.runs.retraining import Promoted
from trainer.settings import TrainSettings

pytestmark = pytest.mark.slow

Make = Callable[..., TrainSettings]

LEARNT = {"epochs": 60, "lr": 0.03}
"""Settings that find more thumbnails' titles than the base does, on valid and test too."""
UNTOUCHED = {"epochs": 1, "lr": 1e-12}
"""Settings that leave the base as it was."""


@pytest.fixture
def settings_for(tiny_clip: Path) -> Make:
    """Settings that train the tiny CLIP quickly, with changes."""

    def make(**other: Any) -> TrainSettings:
        return TrainSettings(
            **{"model": str(tiny_clip), "train": "projection", "title_model": "base", "device": "cpu", **other}
        )

    return make


def publish(database: Database, numbers: range) -> None:
    """Add pairs, as a later sync does."""
    with database.write() as session:
        for number in numbers:
            picture = draw("navy", "bar", number) + str(number).encode()
            add_video(session, f"UC1-{number:03}", day=number, title=f"navy bar {number}", picture=picture)


def in_use(database: Database) -> int | None:
    with database.read() as session:
        run = champion(session)
    return None if run is None else run.id


def reasons(database: Database) -> list[str]:
    with database.read() as session:
        return [row["reason"] for row in rows_as_dicts(session, "SELECT reason FROM champions")]


@pytest.mark.parametrize("given", [{"lr": 1e30}, {"lr": 1e38}, {"lr": 1e300}, {"temperature": 1e-300}], ids=str)
def test_a_diverged_model_never_comes_into_use(filled: Database, settings_for: Make, given: dict[str, float]) -> None:
    """The loss stays finite if only the products for the vectors overflow."""
    with pytest.raises(Diverged):
        train(filled, settings_for(**given))
    assert in_use(filled) is None
    kept = train_in_use(filled, settings_for(**UNTOUCHED)).run_id
    publish(filled, range(40, 50))
    with pytest.raises(Diverged):
        retrain(filled, settings_for(**given))
    assert in_use(filled) == kept
    with filled.read() as session:
        assert [run.status for run in list_runs(session)] == ["failed", "done", "failed"]
        assert all("--lr" in str(run.error) for run in list_runs(session) if run.status == "failed")


def test_only_a_better_model_replaces_the_champion(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    first = retrain(database, settings_for(**UNTOUCHED))
    assert first.new == NewPairs(videos=40, changed=0)
    assert first.result is not None
    assert first.result.decision is not None
    assert (first.result.promoted, first.champion_id) == (False, None), "as good as its base model"

    publish(database, range(40, 60))
    second = retrain(database, settings_for(**LEARNT))
    assert second.new == NewPairs(videos=20, changed=0)
    assert second.result is not None
    assert second.result.decision is not None
    assert (second.result.promoted, second.champion_id) == (True, 2)
    assert reasons(database) == [second.result.decision.reason]
    assert "cross-validated" in second.result.decision.reason

    third = retrain(database, settings_for(**LEARNT), min_new=0)
    assert third.result is not None
    assert (third.result.promoted, third.champion_id) == (False, 2), "a tie"
    with database.read() as session:
        run = get_run(session, 3)
        own = ranks(session, 3, "tuned", "thumbnail_to_title", "valid")
        beside = ranks(session, 3, "champion", "thumbnail_to_title", "valid")
        scored = {row.split for row in evaluations(session, 3) if row.model == "champion"}
    assert run.champion_run_id == 2
    assert own.keys() == beside.keys(), "both on the same rows"
    assert scored == {"valid"}


def test_a_worse_model_is_not_promoted_and_its_pairs_are_not_new(filled: Database, settings_for: Make) -> None:
    publish(filled, range(40, 60))
    train_in_use(filled, settings_for(**LEARNT))
    publish(filled, range(60, 70))
    done = retrain(filled, settings_for(**UNTOUCHED))
    assert done.result is not None
    assert done.result.decision is not None
    assert not done.result.decision.promote
    assert (done.result.promoted, done.champion_id, in_use(filled)) == (False, 1, 1)
    assert "the champion (run 1)" in done.result.decision.reason
    again = retrain(filled, settings_for(**UNTOUCHED))
    assert (again.new.total, again.result, again.champion_id) == (0, None, 1)


def test_pairs_of_a_run_that_was_not_compared_stay_new(filled: Database, settings_for: Make) -> None:
    train_in_use(filled, settings_for())
    publish(filled, range(40, 50))
    train(filled, settings_for(**UNTOUCHED))
    done = retrain(filled, settings_for())
    assert done.new == NewPairs(videos=10, changed=0)
    assert done.result is not None
    with filled.read() as session:
        decisions = [get_run(session, run_id).decision for run_id in (1, 2, 3)]
    assert decisions[1] is None, "a run of `train` while there is a champion"
    assert done.result.decision is not None
    assert decisions[2] == done.result.decision.reason


def split_of(database: Database, split: str) -> list[str]:
    """The ids of a split's videos."""
    with database.read() as session:
        found = rows_as_dicts(session, "SELECT id FROM video WHERE split = :split ORDER BY id", split=split)
    return [row["id"] for row in found]


def test_a_pair_that_is_no_longer_excluded_is_new(filled: Database, settings_for: Make) -> None:
    """By the current titles and thumbnails, not by the groups of the last snapshot."""
    train_in_use(filled, settings_for())
    trained, tested = split_of(filled, "train")[:3], split_of(filled, "test")[:3]
    with filled.write() as session:
        for one, other in zip(trained, tested, strict=True):
            change_video(session, one, title=session.get_one(Video, other).title)
    assert new_pairs(filled) == NewPairs(0, 0), "held-out pairs are not trained on"
    retrain(filled, settings_for(), min_new=0)
    promote_run(filled, 2, "by hand")
    with filled.write() as session:
        for one in trained:
            change_video(session, one, title=f"the own title of {one}")
    assert new_pairs(filled) == NewPairs(videos=3, changed=0)


def pass_on(database: Database, pairs: list[tuple[str, str]]) -> None:
    """Give each second video the title and thumbnail of the first, and the first video new ones."""
    with database.write() as session:
        for number, (one, other) in enumerate(pairs):
            old = session.get_one(Video, one)
            session.get_one(Video, other).picture_sha256 = old.picture_sha256
            change_video(session, other, title=old.title)
            change_video(session, one, title=f"green ring {number}", picture=draw("green", "ring") + bytes([number]))


def test_rows_that_the_champion_was_trained_on_are_not_compared(
    filled: Database, settings_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the valid split decide."""
    monkeypatch.setattr("trainer.runs.contest.ENOUGH_VALID", 0)
    publish(filled, range(40, 60))
    train_in_use(filled, settings_for(**LEARNT))
    trained, held_out = split_of(filled, "train"), split_of(filled, "valid")
    pass_on(filled, list(zip(trained, held_out[:4], strict=False)))
    done = retrain(filled, settings_for(**LEARNT), min_new=0)
    assert done.result is not None
    assert done.result.decision is not None
    assert f"{len(held_out) - 4} pairs (4 more left out: " in done.result.decision.reason
    known = "was trained on the title or thumbnail of 4 of the 9 held-out pairs"
    assert [text for text in done.result.warnings if known in text and "its metrics are too high" in text]
    with filled.read() as session:
        ranked = {model: ranks(session, 2, model, "thumbnail_to_title", "valid") for model in ("champion", "tuned")}
    told = {
        model: [row.rank for video, row in rows.items() if video not in held_out[:4]] for model, rows in ranked.items()
    }
    new, old = (sum(rank == 1 for rank in told[model]) / len(told[model]) for model in ("tuned", "champion"))
    assert f"valid recall@1 {new:.3f}, the champion (run 1) {old:.3f}" in done.result.decision.reason


def test_training_rows_of_earlier_champions_count_too(filled: Database, settings_for: Make) -> None:
    train_in_use(filled, settings_for(**LEARNT))
    trained, held_out = split_of(filled, "train"), split_of(filled, "valid")
    old = dict(zip(trained, held_out, strict=False))
    with filled.write() as session:
        titles = {one: session.get_one(Video, one).title for one in old}
        for number, one in enumerate(old):
            change_video(session, one, title=f"green ring {number}")
    retrain(filled, settings_for(**UNTOUCHED, start="champion"), min_new=0)
    promote_run(filled, 2, "by hand")
    with filled.write() as session:
        for one, other in old.items():
            change_video(session, other, title=titles[one])
    done = retrain(filled, settings_for(**UNTOUCHED, start="champion"), min_new=0)
    assert done.result is not None
    assert done.result.decision is not None
    assert (done.result.promoted, done.champion_id) == (False, 2)
    assert done.result.decision.reason.startswith("the champion (run 2) was trained on ")
    assert any("which continues from it, are too high" in text for text in done.result.warnings)


def test_an_equal_model_does_not_replace_the_champion(filled: Database, settings_for: Make) -> None:
    train_in_use(filled, settings_for())
    done = retrain(filled, settings_for(), min_new=0)
    assert done.new.total == 0
    assert done.result is not None
    assert (done.result.promoted, done.champion_id) == (False, 1)


def test_retrain_trains_if_enough_pairs_are_new_or_changed(filled: Database, settings_for: Make) -> None:
    train_in_use(filled, settings_for())
    with filled.write() as session:
        change_video(session, "UC1-000", title="another title")
        change_video(session, "UC1-001", picture=draw("pink", "square", 5) + b"other")
    publish(filled, range(40, 41))
    idle = retrain(filled, settings_for(), min_new=4)
    assert (idle.new, idle.result, idle.champion_id) == (NewPairs(videos=1, changed=2), None, 1)
    with filled.read() as session:
        assert len(list_runs(session)) == 1
    assert retrain(filled, settings_for(), min_new=3).result is not None
    assert new_pairs(filled) == NewPairs(0, 0)


def test_only_pairs_of_the_trained_channels_count(filled: Database, settings_for: Make) -> None:
    fill(filled, 20, "UC2")
    retrain(filled, settings_for(channels=("@uc2",)))
    assert new_pairs(filled, ["UC2"]) == NewPairs(0, 0)
    assert new_pairs(filled) == NewPairs(40, 0)
    assert retrain(filled, settings_for(channels=("uc2",)), min_new=1).result is None
    with pytest.raises(BadSetting, match="'@who'.*@uc1, @uc2"):
        new_pairs(filled, ["@who"])


@pytest.mark.processes
def test_without_new_pairs_no_model_library_is_imported(filled: Database, settings_for: Make) -> None:
    retrain(filled, settings_for())
    code = f"""
import sys
from store.db import open_database
from trainer.runs import inherited_settings, retrain
database = open_database({url_of(filled)!r})
chosen = inherited_settings(database, {{}})
print(retrain(database, chosen.settings).result, chosen.run_id)
print([name for name in ("torch", "transformers", "numpy", "scipy", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["None 1", "[]"]


def test_settings_come_from_the_options_then_the_champion_then_the_defaults(
    filled: Database, settings_for: Make, tiny_clip: Path
) -> None:
    assert inherited_settings(filled, {"lr": None, "channels": ()}).settings == TrainSettings()
    assert inherited_settings(filled, {}).run_id is None
    first = train(filled, settings_for(lr=0.02, seed=7, mask=False, channels=("UC1",)))
    train(filled, settings_for(lr=0.5))
    found = inherited_settings(filled, {"seed": 3, "lr": None, "device": None, "mask": None, "channels": ()})
    assert found.run_id == first.run_id, "the run in use, not the newest"
    assert found.settings == settings_for(
        model=str(tiny_clip.absolute()), lr=0.02, seed=3, mask=False, channels=("UC1",), device="auto"
    )
    with pytest.raises(BadSetting, match="epochs 0"):
        inherited_settings(filled, {"epochs": 0})


def test_start_and_device_are_not_inherited(filled: Database, settings_for: Make) -> None:
    train_in_use(filled, settings_for())
    train(filled, settings_for(start="champion"))
    promote_run(filled, 2, "by hand")
    with filled.write() as session:
        kept = get_run(session, 2).settings
        session.execute(update(TrainingRun).values(settings={**kept, "precision": "bf16", "device": "cuda"}))
    found = inherited_settings(filled, {}).settings
    assert (found.start, found.device, found.precision) == ("base", "auto", "auto")
    assert inherited_settings(filled, {"start": "champion"}).settings.start == "champion"
    assert inherited_settings(filled, {"precision": "bf16"}).settings.precision == "bf16"


def test_retraining_can_start_from_the_champion(filled: Database, settings_for: Make, tiny_clip: Path) -> None:
    first = retrain(filled, settings_for(**LEARNT))
    assert first.result is not None
    further = retrain(filled, settings_for(**UNTOUCHED, start="champion"), min_new=0)
    assert further.result is not None
    assert further.result.tuned.table() == first.result.tuned.table(), "it continues from the champion's weights"
    assert further.result.base.table() != first.result.tuned.table()
    with pytest.raises(BadSetting, match="--model"):
        inherited_settings(filled, {"start": "champion", "model": str(tiny_clip)})


def test_a_store_from_before_champions_existed(filled: Database, settings_for: Make) -> None:
    train(filled, settings_for(lr=0.02))
    with filled.write() as session:
        session.query(Promotion).delete()
        session.execute(update(TrainingRun).values(decision=None))
    assert run_in_use(filled) == (1, "tuned")
    assert inherited_settings(filled, {}).settings.lr == 0.02
    assert new_pairs(filled) == NewPairs(0, 0)
    assert retrain(filled, settings_for(**LEARNT), min_new=0).champion_id == 2


def test_without_valid_rows_nothing_is_replaced(sqlite_database: Database, settings_for: Make) -> None:
    """The whole model can't be fitted again on folds, so it would be compared on the valid split."""
    fill(sqlite_database, 3)
    done = retrain(sqlite_database, settings_for(train="all"), min_new=0)
    assert done.result is not None
    assert done.result.decision is not None
    assert "the valid split is empty" in done.result.decision.reason
    assert (done.result.promoted, done.champion_id) == (False, None)


@pytest.mark.parametrize("damage", ["gone", "changed", "another base"])
def test_a_champion_with_missing_files_is_not_replaced(
    filled: Database, settings_for: Make, tmp_path: Path, tiny_clip: Path, damage: str
) -> None:
    base = build_clip(tmp_path / "base")
    train_in_use(filled, settings_for(model=str(base), **LEARNT))
    with filled.read() as session:
        tensors = Path(str(get_run(session, 1).artifact_path))
    if damage == "gone":
        tensors.unlink()
    elif damage == "changed":
        tensors.write_bytes(tensors.read_bytes()[:-4] + b"\0\0\0\0")
    else:
        build_clip(base, seed=5)
    done = retrain(filled, settings_for(model=str(tiny_clip), **UNTOUCHED), min_new=0)
    assert done.result is not None
    assert (done.result.promoted, done.champion_id) == (False, 1)
    assert done.result.decision is not None
    assert "the champion (run 1) can't be loaded" in done.result.decision.reason
    assert any("run 1, can't be scored" in text for text in done.result.warnings)


def test_a_champion_with_an_unreachable_base_model_is_not_replaced(
    filled: Database, settings_for: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    train_in_use(filled, settings_for())
    with filled.write() as session:
        session.execute(update(TrainingRun).values(base_model="sentence-transformers/clip-ViT-L-14"))
    done = retrain(filled, settings_for(), min_new=0)
    assert done.result is not None
    assert done.result.decision is not None
    assert "could not be scored" in done.result.decision.reason
    assert done.champion_id == 1


def test_a_champion_promoted_meanwhile_stays(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    train_in_use(database, settings_for(**UNTOUCHED))
    train(database, settings_for())

    def by_hand() -> None:
        with database.write() as session:
            promote(session, 2, "by hand, while run 3 trained")

    done = retrain(database, settings_for(**LEARNT), min_new=0, progress=CallsAt("Training", by_hand))
    assert done.result is not None
    assert done.result.decision is not None
    assert done.result.decision.promote
    assert "the champion (run 1)" in done.result.decision.reason, "the reason has the recorded scores"
    assert (done.result.promoted, done.champion_id) == (False, 2)
    with database.read() as session:
        assert champion_ids(session) == [1, 2]
        assert get_run(session, 3).status == "done"


def test_of_two_first_models_the_first_to_end_is_in_use(filled: Database, settings_for: Make) -> None:
    with filled.write() as session:
        other = start_run(session, **known_at_start(settings_for(), "cpu"))

    def by_hand() -> None:
        with filled.write() as session:
            promote(session, other, "the first model")

    done = retrain(filled, settings_for(**LEARNT), progress=CallsAt("Training", by_hand))
    assert done.result is not None
    assert (done.result.promoted, done.champion_id) == (False, other)


def test_an_interrupted_run_keeps_the_champion_and_its_pairs_stay_new(filled: Database, settings_for: Make) -> None:
    train_in_use(filled, settings_for())
    publish(filled, range(40, 60))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        retrain(filled, settings_for(), progress=CallsAt("Training", stop))
    assert (in_use(filled), new_pairs(filled)) == (1, NewPairs(20, 0))
    assert retrain(filled, settings_for()).result is not None


@contextmanager
def a_signal_at_the_end(database: Database, moment: str) -> Iterator[None]:
    """Ctrl-C just `before` or `after` a run commits that it is done, or at the `next` use of the store."""
    told: list[str] = []

    def before(connection: Connection) -> None:
        if not told and connection.scalar(text("SELECT status FROM training_run ORDER BY id DESC LIMIT 1")) == "done":
            told.append(moment)
            raise KeyboardInterrupt

    def after(_session: Session) -> None:
        with database.engine.connect() as connection:
            before(connection)

    def later(_session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        before(connection)

    listeners: dict[str, tuple[object, str, Callable[..., None]]] = {
        "before": (database.engine, "commit", before),
        "after": (Session, "after_commit", after),
        "next": (Session, "after_begin", later),
    }
    event.listen(*listeners[moment])
    try:
        yield
    finally:
        event.remove(*listeners[moment])
    assert told == [moment]


def test_a_signal_just_after_a_run_is_done_leaves_it_done_and_in_use(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    with (
        a_signal_at_the_end(database, "after"),
        pytest.raises(TrainingInterrupted, match="run 1 was done before the signal"),
    ):
        retrain(database, settings_for(**LEARNT))
    with database.read() as session:
        run = get_run(session, 1)
    assert (run.status, run.error, in_use(database)) == ("done", None, 1)
    assert load_run_model(database, 1, device="cpu").device == "cpu"
    assert new_pairs(database) == NewPairs(0, 0)
    done = retrain(database, settings_for(**LEARNT), min_new=0)
    assert done.result is not None
    assert (done.result.promoted, done.champion_id) == (False, 1)


def test_a_signal_while_the_whole_model_is_written_leaves_the_run_done(
    database: Database, settings_for: Make, tmp_path: Path
) -> None:
    fill(database, 40)
    with a_signal_at_the_end(database, "next"), pytest.raises(TrainingInterrupted) as caught:
        retrain(database, settings_for(**LEARNT), output=tmp_path / "whole")
    assert str(caught.value) == (
        "run 1 is done, but was interrupted while its model was being written; "
        f"run 'thumbtune export model {tmp_path / 'whole'} --run 1'"
    )
    with database.read() as session:
        assert get_run(session, 1).status == "done"
    assert in_use(database) == 1
    assert not (tmp_path / "whole").exists()


def test_a_signal_just_before_a_run_is_done_interrupts_it(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    with (
        a_signal_at_the_end(database, "before"),
        pytest.raises(TrainingInterrupted, match="run 1 was interrupted"),
    ):
        retrain(database, settings_for(**UNTOUCHED))
    with database.read() as session:
        run = get_run(session, 1)
    assert (run.status, run.error, in_use(database)) == ("interrupted", "stopped by a signal", None)
    assert retrain(database, settings_for(**LEARNT)).champion_id == 2


@contextmanager
def another_process(database: Database, settings: TrainSettings, **columns: Any) -> Iterator[int]:
    """Yield the id of a run of a living process of this machine."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    try:
        with database.write() as session:
            known = {
                **known_at_start(settings, "cpu"),
                "pid": process.pid,
                "process_start": start_of(process.pid),
                **columns,
            }
            run_id = start_run(session, **known)
        yield run_id
    finally:
        process.communicate("\n")


@pytest.mark.processes
def test_no_run_starts_while_another_is_running(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    with another_process(database, settings_for()) as run_id:
        with pytest.raises(AlreadyTraining, match=rf"run {run_id} \(process \d+\) is training on this store") as caught:
            retrain(database, settings_for())
        assert caught.value.exit_code == 3
        assert retrain(database, settings_for(), min_new=41).result is None, "no run would have been started"
        with database.read() as session:
            assert [run.id for run in list_runs(session)] == [run_id]
    done = retrain(database, settings_for())
    assert done.result is not None
    with database.read() as session:
        assert [run.status for run in list_runs(session)] == ["interrupted", "done"]


def test_a_run_refused_by_the_guard_is_not_recorded(database: Database, settings_for: Make) -> None:
    """The second check: another process may begin or end a run while this process loads its libraries."""
    fill(database, 40)

    def refuse(session: Session) -> None:
        assert list_runs(session) == []
        raise AlreadyTraining("another was faster")

    with pytest.raises(AlreadyTraining):
        train(database, settings_for(), guard=refuse)
    with database.read() as session:
        assert list_runs(session) == []


@pytest.mark.processes
def test_of_two_concurrent_processes_one_trains(database: Database, settings_for: Make) -> None:
    """The pairs are trained on once, whether the second process finds a running or a finished run."""
    fill(database, 40)
    code = f"""
from store.db import open_database
from trainer.runs import retrain
from trainer.errors import AlreadyTraining
from trainer.settings import TrainSettings
database = open_database({url_of(database)!r})
print("ready", flush=True)
input()
try:
    print(retrain(database, TrainSettings(**{settings_for().as_dict() | {"channels": ()}})).result is not None)
except AlreadyTraining:
    print(False)
"""
    both = [
        forked.Popen([*forked.CODE, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(process.communicate()[0] for process in both) == ["False\n", "True\n"]
    with database.read() as session:
        assert [run.status for run in list_runs(session)] == ["done"]


@pytest.mark.processes
def test_trials_and_runs_of_other_machines_do_not_block_retraining(filled: Database, settings_for: Make) -> None:
    with another_process(filled, settings_for(), trial=0), another_process(filled, settings_for(), host="elsewhere"):
        assert retrain(filled, settings_for()).result is not None


def test_a_run_is_promoted_manually(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    train_in_use(database, settings_for(**UNTOUCHED))
    train(database, settings_for())
    assert promote_run(database, 2, "it looks better") == Promoted(replaced=1, changed=True)
    assert promote_run(database, 2, "again") == Promoted(replaced=None, changed=False)
    assert promote_run(database, 1, "no, it does not") == Promoted(replaced=2, changed=True)
    assert reasons(database) == ["by hand", "it looks better", "no, it does not"]


def test_runs_that_cannot_be_promoted(filled: Database, settings_for: Make) -> None:
    train_in_use(filled, settings_for())
    with filled.write() as session:
        started = start_run(session, **known_at_start(settings_for(), "cpu"))
    train(filled, settings_for())
    with filled.write() as session:
        kept = get_run(session, 1)
        trial = start_run(session, **known_at_start(settings_for(), "cpu"), trial=0)
        session.execute(
            update(TrainingRun)
            .where(TrainingRun.id == trial)
            .values(status="done", base_fingerprint=kept.base_fingerprint, pid=os.getpid())
        )
        tensors = Path(str(get_run(session, 3).artifact_path))
    with pytest.raises(NotFound, match="there is no run 9"):
        promote_run(filled, 9, "by hand")
    with pytest.raises(RunUnusable, match=f"run {started} is interrupted, so it has no model"):
        promote_run(filled, started, "by hand")
    with pytest.raises(RunUnusable, match=f"run {trial} is a trial"):
        promote_run(filled, trial, "by hand")
    tensors.write_bytes(b"something else")
    with pytest.raises(RunUnusable, match="differs from the file"):
        promote_run(filled, 3, "by hand")
    tensors.unlink()
    with pytest.raises(RunUnusable, match="the run's tensors were not found"):
        promote_run(filled, 3, "by hand")
    assert in_use(filled) == 1
