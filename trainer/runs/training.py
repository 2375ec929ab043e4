"""Run a training from start to end: snapshot, encode, mine, fit, evaluate, save. One run id records every step."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from store.db import Database
from store.training import (
    Champion,
    fitting_champion,
)
from trainer.artifacts import (
    check_place,
    check_writable,
    models_dir,
)
from trainer.data import Selection, require_comparable, require_trainable, select_pairs
from trainer.errors import BadSetting, Diverged
from trainer.fitting import Learner, Step, triplets
from trainer.models import LazyModel, open_base
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs.finishing import Trained, decide, end, record_scores, save, write_whole
from trainer.runs.learning import open_learner, require_processes
from trainer.runs.measuring import Before, measure_after, measure_before
from trainer.runs.preparing import Prepared, encode, mine, names_to_train, resolved
from trainer.runs.promotion import Decision
from trainer.runs.readable import find_unread, find_unread_words
from trainer.runs.record import Run, begin, mark_stale, recorded
from trainer.scoring import Scores
from trainer.settings import CHOSEN, CLOSED_FORM, FEATURES_IN_MEMORY, TrainSettings, with_chosen

if TYPE_CHECKING:
    from trainer.cluster import Processes

__all__ = ["ONE_AT_A_TIME", "TrainResult", "train"]

ONE_AT_A_TIME = threading.RLock()
"""Allows one run or sweep at a time per process: the random state is global, and a run marks earlier runs as ended."""


@dataclass(frozen=True)
class TrainResult:
    """The result of a finished run.

    Args:
        run_id, snapshot_id: ids in the store.
        model_path: the whole model's folder with `output`, else the file of trained tensors.
        total, trainable: parameter counts.
        examples: {split: number of rows}.
        base, tuned: the scores before and after training.
        reader: the scores of the reader alone; None if it is not part of the model.
        champion_id, champion: the previous champion's run, and its scores on the same valid and test rows; None if
            there was none, or its model can't be loaded.
        promoted: whether this run's model came into use.
        decision: the comparison with the model in use; None if they were not compared. A decision to promote was not
            applied if another run came into use in the meantime.
        test_looks: how often models were scored on the test split in this store, including this run; None if this run
            was not scored on it.
        seconds: {phase: wall-clock seconds}.
        warnings: messages about what the run could not do.
        titles_cut: the number of distinct titles that are longer than the base model's limit.
    """

    run_id: int
    snapshot_id: int
    model_path: Path
    total: int
    trainable: int
    examples: dict[str, int]
    base: Scores
    tuned: Scores
    reader: Scores | None
    champion_id: int | None
    champion: Scores | None
    promoted: bool
    decision: Decision | None
    test_looks: int | None
    seconds: dict[str, float]
    warnings: list[str]
    titles_cut: int


def train(
    database: Database,
    settings: TrainSettings,
    *,
    output: Path | None = None,
    progress: Progress | None = None,
    sweep_id: int | None = None,
    compete: bool = False,
    test: bool = False,
    guard: Callable[[Session], object] | None = None,
    processes: Processes | None = None,
    features_in_memory: int = FEATURES_IN_MEMORY,
) -> TrainResult:
    """Fine-tune a model on the store's pairs and record the run.

    The run's row exists from the start, and ends as `done`, `failed` (with the error) or `interrupted`. Runs that a
    dead process left as `running` are marked first. The trained tensors are written to `models_dir(database)`. The
    model comes into use if it is better on held-out rows than the one in use: see `trainer.runs.contest`.

    The run is done once its tensors are saved; the whole model is written after that.

    Args:
        database: the store, writable.
        settings: the run's settings.
        output: a new or empty folder to which the whole model is also written.
        progress: receives the phases and warnings.
        sweep_id: the sweep whose winner this run trains.
        compete: compare this run with the champion of these channels, and put the better one into use unless the
            champion covers more channels. Without a champion, the run is always compared with the base model.
        test: also score all models on the test split, which the store counts.
        guard: checks the store in the transaction that starts the run, while no other run can start; it may raise.
        processes: the processes that train a whole model together; None for this process alone.
        features_in_memory: the most bytes of cached vectors to hold in memory; the rest is read from files.

    Raises:
        AlreadyTraining: raised by `guard`, like any other error of `guard`; no run was started.
        BadSetting, NotFound, UnknownModel, DamagedModel: see `trainer.runs.preparing.resolved`; no run was started.
        CantSave: an output path can't be written to, and no run was started. Or the run is done and its model is in
            `models_dir(database)`, but the whole model could not be written to `output`; the message says which.
        TrainerError: see `trainer.errors`; the run has ended as `failed`.
        TrainingInterrupted: a KeyboardInterrupt arrived; the run has ended as `interrupted` or `done`, as the message
            says.
        StoreError: the store failed.
    """
    settings, device = resolved(database, settings)
    _check_before(database, settings, output, processes)
    with ONE_AT_A_TIME, quiet_libraries():
        if sweep_id is None:
            # A sweep has already done this, and would be marked itself.
            mark_stale(database)
        with database.read() as session:
            current = fitting_champion(session, settings.channels)
        model = open_base(database, settings, device)
        if model.remembered is not None:
            # A mistyped expression should not start a run, if the names are known without loading the model.
            names_to_train(model.remembered, settings)
        run_id = begin(database, settings, device, output, guard=guard, sweep_id=sweep_id)
        run = Run(
            database, settings, progress or Silent(), run_id, processes=processes, features_in_memory=features_in_memory
        )
        with recorded(run), nullcontext() if processes is None else processes.watched(run_id):
            return _train(run, model, current, output, compete=compete, test=test)


def _check_before(
    database: Database, settings: TrainSettings, output: Path | None, processes: Processes | None
) -> None:
    """Report problems with the processes and the output folders before any work is done."""
    if processes is not None:
        require_processes(settings, processes)
    if output is not None:
        if settings.reads():
            raise BadSetting("--output writes a sentence-transformers folder, which can't have a reader; leave it out")
        check_place(output, models_dir(database))
    check_writable(models_dir(database))


def _train(
    run: Run, model: LazyModel, current: Champion | None, output: Path | None, *, compete: bool, test: bool
) -> TrainResult:
    """Run all steps in order; each step takes the results of earlier ones and returns its own."""
    chosen = _select(run)
    prepared = _prepare(run, model, chosen)
    before = measure_before(run, model, prepared, current, test=test)
    trained = _learn(run, model, chosen, prepared, before)
    # Saved first: otherwise, the trained tensors would be lost if the store can't be written.
    path = save(run, trained)
    after = measure_after(run, trained.learner, prepared, before)
    record_scores(run, before, after)
    decision = decide(run, trained.learner, chosen, before, after) if before.in_use is None or compete else None
    promoted = end(run, before, after, decision)
    if output is not None:
        # Written last, so that the run keeps its trained tensors if the folder can't be written.
        write_whole(run, trained.learner, output)
    return TrainResult(
        run_id=run.id,
        snapshot_id=prepared.snapshot_id,
        model_path=output or path,
        total=trained.learner.total,
        trainable=trained.learner.trainable,
        examples=prepared.counts,
        base=before.base,
        tuned=after.tuned,
        reader=after.reader,
        champion_id=None if before.champion is None or before.in_use is None else before.in_use.id,
        champion=before.champion,
        promoted=promoted,
        decision=decision,
        test_looks=after.test_looks,
        seconds=dict(run.seconds),
        warnings=run.warnings,
        titles_cut=prepared.titles_cut,
    )


def _select(run: Run) -> Selection:
    with run.timed("snapshot"):
        chosen = select_pairs(run.database, run.settings.channels)
        for text in require_trainable(chosen):
            run.warn(text)
        require_comparable(chosen, run.settings)
    return chosen


def _prepare(run: Run, model: LazyModel, chosen: Selection) -> Prepared:
    """Open the base model, encode the examples and mine the negatives."""
    settings = run.settings
    with run.timed("load"), run.progress.phase("Opening the base model"):
        run.note(base_fingerprint=model.facts.fingerprint)
        names_to_train(model.facts, settings)  # raises if the expression matches nothing
        for text in settings.without_effect():
            run.warn(text)
    with run.timed("encode"):
        pooled = encode(run.database, model, chosen, settings, run.progress, in_memory=run.features_in_memory)
        unread = find_unread(run.database, model, chosen, settings)
        for text in unread.warnings:
            run.warn(text)
    with run.timed("mine"):
        rows, snapshot_id = mine(run.database, model, chosen, settings, run.progress)
        run.note(snapshot_id=snapshot_id)
    return Prepared(rows, snapshot_id, chosen.counts(), pooled, unread.cut)


def _learn(run: Run, model: LazyModel, chosen: Selection, prepared: Prepared, before: Before) -> Trained:
    """Create the learner and train it."""
    with run.timed("load"):
        learner = open_learner(run, model, chosen, prepared, before.in_use)
        run.note(parameters_total=learner.total, parameters_trainable=learner.trainable)
        if run.settings.reads():
            for text in find_unread_words(run.database, chosen, run.settings):
                run.warn(text)
    with run.timed("fit"):
        return Trained(learner, _fit(run, learner, prepared))


def _fit(run: Run, learner: Learner, prepared: Prepared) -> list[Step]:
    rows = triplets(prepared.rows, mined=run.settings.negatives != "none")
    chosen: dict[str, float | None] = {}
    if learner.chooses:
        with run.progress.phase("Choosing settings on held-out folds"):
            chosen = learner.settle(rows)
        run.note(settings={**run.settings.as_dict(), CHOSEN: chosen})
    settings = with_chosen(run.settings, chosen)
    per_epoch = -(-len(rows.titles) // settings.batch_size)
    total = None if settings.train in CLOSED_FORM else per_epoch * settings.steps()[0]
    steps: list[Step] = []
    with run.progress.phase("Training", total) as count:

        def on_step(step: Step) -> None:
            if not math.isfinite(step.loss):
                raise Diverged(
                    f"the loss became {step.loss} at step {step.step}; use a smaller --lr, or a higher --temperature"
                )
            steps.append(step)
            count(1)

        learner.fit(rows, on_step)
    return steps
