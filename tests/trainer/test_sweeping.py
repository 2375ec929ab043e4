"""Whole sweeps on real stores with a real (tiny) model: trials, records, the choice, resuming, rejected settings."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store.db import Database, rows_as_dicts
from store.training import champion, end_sweep, get_run, get_sweep, start_sweep, sweep_runs, this_machine, trial_scores
from tests.trainer.tiny import build_clip, fill
from trainer.errors import (
    BadSetting,
    CantSave,
    NoNetwork,
    NotEnoughPairs,
    ReaderMissing,
    RunUnusable,
    TrainerError,
    TrainingInterrupted,
)
from trainer.settings import TrainSettings
from trainer.sweep import Space, SweepResult, SweepSettings
from trainer.sweep.search import resume_sweep, run_sweep
from trainer.sweep.standings import objective

pytestmark = pytest.mark.slow

FAST = {
    "train": "projection",
    "fit": "crop",
    "with_reader": "no",
    "lr": "0.001:0.1",
    "epochs": "1:3",
    "batch_size": "8,16",
    "negatives": "least-similar,none",
}

Make = Callable[..., SweepSettings]


@pytest.fixture
def settings_for(tiny_clip: Path) -> Make:
    """Settings of a small sweep, with changes; `space` and `shared` may be partial."""

    def make(space: dict[str, str] | None = None, shared: dict[str, Any] | None = None, **other: Any) -> SweepSettings:
        base = {
            "model": str(tiny_clip),
            "train": "projection",
            "title_model": "base",
            "device": "cpu",
            **(shared or {}),
        }
        counts = {"trials": 6, "seeds": 2, "finalists": 2, "final_seeds": 2, **other}
        return SweepSettings(TrainSettings(**base), Space.read({**FAST, **(space or {})}), **counts)

    return make


class Stops:
    """Progress that stops the sweep, as Ctrl-C would, once a phase has counted so far; -1: as it begins."""

    def __init__(self, phase: str, after: int) -> None:
        self._phase, self._left = phase, after
        self.told: list[str] = []

    def phase(self, description: str, total: int | None = None) -> Any:
        if description != self._phase:
            return nullcontext(lambda _n: None)
        if self._left < 0:
            raise KeyboardInterrupt
        return nullcontext(self._count)

    def _count(self, n: int) -> None:
        self._left -= n
        if self._left <= 0:
            raise KeyboardInterrupt

    def warn(self, said: str) -> None:
        self.told.append(said)


def tried(database: Database, sweep_id: int) -> list[tuple[int, int, dict[str, Any], float | None]]:
    """(trial, seed, settings, recall@1) of every run of a sweep's trials."""
    with database.read() as session:
        scores = trial_scores(session, sweep_id)
    return [(score.trial, score.seed, score.settings, score.recall_at_1) for score in scores]


def status(database: Database, sweep_id: int) -> str:
    with database.read() as session:
        return get_sweep(session, sweep_id).status


def test_every_trial_is_a_run_and_only_the_winner_is_scored_on_test(database: Database, settings_for: Make) -> None:
    fill(database, 40)
    settings = settings_for()
    result = run_sweep(database, settings)
    with database.read() as session:
        runs = list(sweep_runs(session, result.sweep_id))
        scored = rows_as_dicts(
            session,
            "SELECT run_id, model, split, count(*) AS n FROM evaluation GROUP BY run_id, model, split ORDER BY 1, 2, 3",
        )
        ranked = {row["run_id"] for row in rows_as_dicts(session, "SELECT DISTINCT run_id FROM rank")}
        counted = rows_as_dicts(session, "SELECT run_id, count(*) AS n FROM training_step GROUP BY run_id")
    trials, winner = runs[:-1], runs[-1]
    assert len(trials) == result.runs == 6 * 2 + 2 * 2
    assert winner.id == result.run_id
    assert (winner.trial, winner.sweep_id, winner.status) == (None, result.sweep_id, "done")
    assert {(row["model"], row["split"]) for row in scored if row["run_id"] != winner.id} == {("tuned", "valid")}
    assert {(row["model"], row["split"]) for row in scored if row["run_id"] == winner.id} == {
        (model, split) for model in ("base", "tuned") for split in ("train", "valid")
    }
    assert ranked == {winner.id}
    for run in trials:
        assert (run.status, run.artifact_path, run.base_model) == ("done", None, settings.shared.model)
        assert run.settings == {**settings.shared.as_dict(), **settings.space.point(run.settings), "seed": run.seed}
        assert {"run_id": run.id, "n": run.settings["epochs"] * -(-28 // run.settings["batch_size"])} in counted
        assert run.base_fingerprint == winner.base_fingerprint
        assert run.packages == winner.packages
        assert (run.parameters_total, run.parameters_trainable) == (
            winner.parameters_total,
            winner.parameters_trainable,
        )
        assert run.snapshot_id is not None
        assert set(run.phase_seconds or {}) == {"fit", "evaluate"}
    assert status(database, result.sweep_id) == "done"
    with database.read() as session:
        used = champion(session)
    assert result.in_use == (used is not None and used.id == result.run_id)


def test_the_winner_is_the_best_mean_over_all_seeds(filled: Database, settings_for: Make) -> None:
    settings = settings_for(trials=8, finalists=3, final_seeds=3)
    result = run_sweep(filled, settings)
    by_trial: dict[int, list[float]] = {}
    for trial, _seed, _settings, recall in tried(filled, result.sweep_id):
        assert recall is not None
        by_trial.setdefault(trial, []).append(recall)
    first = {trial: statistics.fmean(recalls[:2]) for trial, recalls in by_trial.items()}
    finalists = {trial for trial, recalls in by_trial.items() if len(recalls) == 5}
    assert len(finalists) == 3
    assert min(first[trial] for trial in finalists) >= max(
        mean for trial, mean in first.items() if trial not in finalists
    )
    best = result.standings[0]
    assert best.recall_at_1 == pytest.approx(max(statistics.fmean(by_trial[trial]) for trial in finalists))
    assert best.sd == pytest.approx(statistics.stdev(by_trial[best.trial]))
    assert (best.seeds, best.n, result.n_valid) == (5, 6, 6)
    assert [standing.seeds for standing in result.standings] == [5] * 3 + [2] * 5


def test_the_winners_run_repeats_its_trials_first_run(filled: Database, settings_for: Make) -> None:
    result = run_sweep(filled, settings_for())
    first = next(row for row in tried(filled, result.sweep_id) if row[0] == result.standings[0].trial and row[1] == 42)
    assert result.settings == first[2]
    assert result.recalls["tuned"]["valid"].value == first[3]
    assert {split: recall.n for split, recall in result.recalls["tuned"].items()} == {
        "train": 28,
        "valid": 6,
    }
    assert result.recalls["tuned"]["valid"].low < result.recalls["tuned"]["valid"].high
    assert result.warnings == []


def test_the_reciprocal_rank_only_breaks_ties_of_recall(filled: Database, settings_for: Make) -> None:
    standing = run_sweep(filled, settings_for(trials=1)).standings[0]
    step = 1 / (standing.n * standing.seeds)
    for recall in (0.0, 0.5):
        low = replace(standing, recall_at_1=recall, mrr=1.0)
        high = replace(standing, recall_at_1=recall + step, mrr=0.0)
        assert objective(low) < objective(high)
    assert objective(replace(standing, mrr=0.5)) < objective(replace(standing, mrr=0.6))


def test_an_unwritable_models_folder_is_reported_before_the_sweep_starts(
    filled: Database, settings_for: Make, tmp_path: Path
) -> None:
    (tmp_path / "thumbtune-models").write_text("a file where the folder should be")
    with pytest.raises(CantSave, match="thumbtune-models is a file"):
        run_sweep(filled, settings_for())
    with filled.read() as session:
        assert rows_as_dicts(session, "SELECT id FROM sweep") == []


def test_a_seed_determines_the_tried_settings(filled: Database, settings_for: Make) -> None:
    first, second = run_sweep(filled, settings_for()), run_sweep(filled, settings_for())
    assert tried(filled, first.sweep_id) == tried(filled, second.sweep_id)
    other = run_sweep(filled, settings_for(shared={"seed": 7}))
    assert {row[1] for row in tried(filled, other.sweep_id)} == {7, 8, 9, 10}
    points = [
        [settings_for().space.point(row[2]) for row in tried(filled, result.sweep_id)] for result in (first, other)
    ]
    assert points[0] != points[1]


@pytest.mark.parametrize(
    ("phase", "after"),
    [("Trying settings", 3), ("Training the best with more seeds", 1), ("Training", -1)],
)
def test_a_resumed_sweep_equals_an_uninterrupted_sweep(
    filled: Database, settings_for: Make, phase: str, after: int
) -> None:
    whole = run_sweep(filled, settings_for())
    with pytest.raises(TrainingInterrupted, match=r"'thumbtune sweep --resume 2'"):
        run_sweep(filled, settings_for(), progress=Stops(phase, after))
    assert status(filled, 2) == "interrupted"
    known = tried(filled, 2)
    result = resume_sweep(filled, 2)
    assert status(filled, 2) == "done"
    assert tried(filled, 2) == tried(filled, whole.sweep_id)
    assert known, "earlier trials are unchanged"
    assert all(row in tried(filled, 2) for row in known)
    assert result.standings == whole.standings
    assert result.settings == whole.settings


def test_a_sweep_can_be_resumed_with_more_trials(filled: Database, settings_for: Make) -> None:
    with pytest.raises(TrainingInterrupted):
        run_sweep(filled, settings_for(), progress=Stops("Trying settings", 2))
    result = resume_sweep(filled, 1, trials=9)
    assert {row[0] for row in tried(filled, 1)} == set(range(9))
    points = {tuple(settings_for().space.point(settings).values()) for _trial, _seed, settings, _ in tried(filled, 1)}
    assert len(points) == 9
    assert len(result.standings) == 9
    with filled.read() as session:
        assert get_sweep(session, 1).settings["trials"] == 9


def test_a_resumed_sweep_uses_its_original_examples(filled: Database, settings_for: Make) -> None:
    with pytest.raises(TrainingInterrupted):
        run_sweep(filled, settings_for(), progress=Stops("Trying settings", 2))
    fill(filled, 20, "UC2")
    progress = Stops("none", 0)
    result = resume_sweep(filled, 1, progress=progress)
    with filled.read() as session:
        assert {score.n for score in trial_scores(session, 1)} == {6}
        assert get_run(session, result.run_id).sweep_id == 1
    assert result.recalls["tuned"]["valid"].n == 9, "the winner is trained on all current pairs"
    assert len(result.warnings) == 1
    assert "pairs were added, removed or changed" in progress.told[-1]


def test_sweeps_that_cannot_be_resumed(filled: Database, settings_for: Make, tmp_path: Path) -> None:
    done = run_sweep(filled, settings_for(trials=2))
    with pytest.raises(RunUnusable, match=rf"sweep 1 is already done with run {done.run_id}"):
        resume_sweep(filled, 1)
    base = build_clip(tmp_path / "base")
    with pytest.raises(TrainingInterrupted):
        run_sweep(filled, settings_for(shared={"model": str(base)}), progress=Stops("Trying settings", 2))
    build_clip(base, seed=5)
    with pytest.raises(RunUnusable, match=r"fingerprint"):
        resume_sweep(filled, 2)
    assert status(filled, 2) == "failed"
    build_clip(base)
    assert resume_sweep(filled, 2).standings[0].n == 6
    with filled.write() as session:
        elsewhere = start_sweep(session, settings_for().as_dict(), "another-machine", 1)
    with pytest.raises(RunUnusable, match=r"process 1 of another-machine"):
        resume_sweep(filled, elsewhere)


def test_a_sweep_killed_after_its_last_run_only_records_its_end(filled: Database, settings_for: Make) -> None:
    whole = run_sweep(filled, settings_for())
    with filled.write() as session:
        end_sweep(session, 1, "interrupted")
        runs = len(sweep_runs(session, 1))
    result = resume_sweep(filled, 1, trials=50)
    assert (result.run_id, result.standings, result.recalls) == (whole.run_id, whole.standings, whole.recalls)
    with filled.read() as session:
        assert len(sweep_runs(session, 1)) == runs
        assert get_sweep(session, 1).status == "done"


def test_a_sweep_of_a_dead_process_is_marked_and_can_be_resumed(filled: Database, settings_for: Make) -> None:
    with filled.write() as session:
        # A process that started after the sweep is not the sweep's process, even with this number.
        left = start_sweep(session, settings_for(trials=2).as_dict(), this_machine(), 2**22 + 1)
    result = resume_sweep(filled, left)
    assert result.sweep_id == left
    assert len(result.standings) == 2


def test_a_diverging_trial_is_recorded_and_reported(filled: Database, settings_for: Make) -> None:
    four = {"lr": "0.01,1e38", "negatives": "none", "batch_size": "8", "epochs": "2:3", "temperature": "0.05"}
    result = run_sweep(filled, settings_for(four, trials=4))
    with filled.read() as session:
        failed = [run for run in sweep_runs(session, 1) if run.status == "failed"]
        scores = rows_as_dicts(session, "SELECT DISTINCT run_id FROM evaluation")
    assert result.failed == 2 == len(failed), "no more seeds after a diverged run"
    for run in failed:
        assert run.settings["lr"] == 1e38
        assert "use a smaller --lr" in str(run.error)
        assert run.id not in {row["run_id"] for row in scores}
    assert {standing.settings["lr"] for standing in result.standings} == {0.01}
    assert status(filled, 1) == "done"
    with pytest.raises(TrainerError, match=r"every trial diverged \(2\); .*--lr"):
        run_sweep(filled, settings_for({**four, "lr": "1e38"}))
    with filled.read() as session:
        row = get_sweep(session, 2)
        assert row.status == "failed"
        assert "every trial diverged" in str(row.error)


def test_a_trial_with_zero_vectors_has_failed(filled: Database, settings_for: Make) -> None:
    four = {"lr": "0.01,1e30", "negatives": "none", "batch_size": "8", "epochs": "2:3", "temperature": "0.05"}
    result = run_sweep(filled, settings_for(four, trials=4))
    assert result.failed == 2
    assert {standing.settings["lr"] for standing in result.standings} == {0.01}
    assert status(filled, 1) == "done"


def test_a_small_space_ends_early(filled: Database, settings_for: Make) -> None:
    fixed = {"lr": "0.01", "epochs": "1,2", "batch_size": "8", "negatives": "none", "temperature": "0.05"}
    result = run_sweep(filled, settings_for(fixed, trials=20))
    assert len(result.standings) == 2
    assert "all 2 combinations" in result.warnings[0]


def test_no_trial_starts_after_the_timeout(filled: Database, settings_for: Make) -> None:
    result = run_sweep(filled, settings_for(trials=1000), timeout_s=0.0)
    assert len(result.standings) == 1
    assert "1 of 1000 trials" in result.warnings[0]


def test_random_negatives_depend_on_the_seed_and_others_are_mined_once(filled: Database, settings_for: Make) -> None:
    result = run_sweep(filled, settings_for({"negatives": "random,least-similar"}, trials=8, final_seeds=0))
    with filled.read() as session:
        scores = trial_scores(session, result.sweep_id)
    found: dict[tuple[str, int], set[int | None]] = {}
    for score in scores:
        strategy = score.settings["negatives"]
        found.setdefault((strategy, score.seed if strategy == "random" else 0), set()).add(score.snapshot_id)
    assert set(found) == {("least-similar", 0), ("random", 42), ("random", 43)}
    assert all(len(snapshots) == 1 for snapshots in found.values())
    assert len(set.union(*found.values())) == 3


ALL_WAYS = {"train": "cca,projection", "fit": "crop,squash", "with_reader": "no,yes", "negatives": "none"}


def test_a_missing_reader_is_reported_with_how_to_install_it(
    filled: Database, settings_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.models.reading._DISTRIBUTION", "no-such-package")
    with pytest.raises(ReaderMissing, match="reader"):
        run_sweep(filled, settings_for({"with_reader": "yes"}))


def test_maps_steps_and_crop_modes_are_searched_together(
    filled: Database, settings_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.models.reading._DISTRIBUTION", "no-such-package")
    progress = Stops("never", 0)
    result = run_sweep(filled, settings_for(ALL_WAYS, trials=12, seeds=1, finalists=1), progress=progress)
    assert "reader" in progress.told[0], "it is not installed"
    tried_ways = {(row[2]["train"], row[2]["fit"]) for row in tried(filled, result.sweep_id)}
    assert len(tried_ways) == 4
    assert set(result.base_recalls) == {"crop", "squash"}
    winner = result.standings[0]
    with filled.read() as session:
        run = get_run(session, result.run_id)
    assert settings_for(ALL_WAYS).space.point(run.settings) == settings_for(ALL_WAYS).space.point(winner.settings)
    assert result.recalls["tuned"]["valid"].value == next(
        row[3] for row in tried(filled, result.sweep_id) if row[0] == winner.trial and row[1] == 42
    )


@pytest.mark.parametrize("part", ["visual_projection", "text_projection"])
def test_a_sweep_can_train_one_projection(filled: Database, settings_for: Make, part: str) -> None:
    result = run_sweep(filled, settings_for({"train": part}, trials=2))
    with filled.read() as session:
        assert {run.parameters_trainable for run in sweep_runs(session, 1)} == {16 * 32}
    assert result.settings["train"] == part


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("all", r"--train 'all' matches .*, but a sweep trains projections"),
        ("lora", r"--train 'lora' trains the towers, but a sweep trains projections"),
        ("layers.1", r"--train 'layers.1' matches 0\.model\..*"),
        ("nothing", r"--train 'nothing' matches none of the"),
    ],
)
def test_only_projections_can_be_swept(filled: Database, settings_for: Make, train: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        run_sweep(filled, settings_for({"train": train}))
    assert status(filled, 1) == "failed"


def test_a_missing_title_model_is_reported_at_the_start(
    filled: Database, settings_for: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    shared = {"title_model": TrainSettings().title_model}
    with pytest.raises(NoNetwork):
        run_sweep(filled, settings_for({"negatives": "none,hard"}, shared))
    assert tried(filled, 1) == []
    assert run_sweep(filled, settings_for({"negatives": "none,random"}, shared)).sweep_id == 2


@pytest.mark.parametrize("pairs", [3, 4])
def test_a_valid_split_without_two_pairs_is_an_error(sqlite_database: Database, settings_for: Make, pairs: int) -> None:
    fill(sqlite_database, pairs)
    with pytest.raises(NotEnoughPairs, match=rf"the valid split has [01] of {pairs} pairs"):
        run_sweep(sqlite_database, settings_for())


def test_sql_gives_the_same_results(filled: Database, settings_for: Make) -> None:
    """The query of the command's help."""
    result: SweepResult = run_sweep(filled, settings_for())
    with filled.read() as session:
        rows = rows_as_dicts(
            session,
            "SELECT trial, count(*) AS runs, avg(valid_recall_at_1) AS mean FROM run_history "
            "WHERE sweep_id = 1 AND trial IS NOT NULL GROUP BY trial",
        )
    means = {row["trial"]: row["mean"] for row in rows}
    assert means == pytest.approx({standing.trial: standing.recall_at_1 for standing in result.standings})
    assert {row["trial"]: row["runs"] for row in rows} == {s.trial: s.seeds for s in result.standings}
