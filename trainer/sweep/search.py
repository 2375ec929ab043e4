"""Hyperparameter search on cached features. Each trial is recorded as runs, and the winner is trained as a run.

The store's tables hold the sweep. Optuna chooses the settings with its in-memory storage, which is filled from the
store when a sweep is resumed. Optuna's database storage would create a table `alembic_version` in the store, which
would break our migrations.

A trial is one combination of settings, trained with several seeds. Its value is the mean recall@1 of its runs on the
valid split; ties are broken by the mean reciprocal rank. The best of many trials is partly lucky, so the best few are
trained with more seeds, and the winner is the best over all seeds. The winner is then trained as an ordinary run, with
the first seed. The test split is not used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from optuna.study import Study, create_study
from optuna.trial import Trial, TrialState

from store.db import Database
from store.errors import StoreError
from store.processes import this_process
from store.tables import Sweep
from store.training import (
    Recall,
    TrialRun,
    add_trial_runs,
    champion,
    end_sweep,
    get_sweep,
    load_examples,
    recalls_of,
    reopen_sweep,
    start_sweep,
    sweep_runs,
    this_machine,
    trial_scores,
    winner_run,
)
from trainer.artifacts import check_writable, models_dir
from trainer.data import Selection, require_trainable, select_pairs
from trainer.errors import ModelUnavailable, RunUnusable, TrainerError, TrainingInterrupted, is_interrupt
from trainer.fitting import one_thread
from trainer.models import open_reader
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs import ONE_AT_A_TIME, heartbeat, mark_stale, ran_out_of_memory, resolved, train
from trainer.settings import READER
from trainer.sweep.sampling import ask, ask_for
from trainer.sweep.search_space import Choices, Point, SweepSettings
from trainer.sweep.standings import Standing, Tried, by_trial, in_order, objective
from trainer.sweep.trials import Trials

__all__ = ["SweepResult", "resume_sweep", "run_sweep"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """The result of a finished sweep.

    Args:
        sweep_id: the sweep's id.
        run_id: the winner's run, which keeps its model.
        settings: all settings of that run.
        standings: the trials that did not diverge, best first; the first is the winner.
        recalls: {model: {split: recall@1}} of that run, thumbnail to title, for the models `base` and `tuned`.
        base_recalls: {crop mode: the base model's recall@1 on the valid split}; empty if the sweep was resumed after
            its last step.
        in_use: whether the run's model is the champion.
        reason: the comparison with the model that was in use; None if they were not compared.
        failed: number of trials that diverged.
        runs: number of runs of all trials.
        n_valid: number of rows of the valid split that were ranked.
        seconds: wall-clock time since the sweep started or was resumed.
        warnings: messages about what could not be done.
    """

    sweep_id: int
    run_id: int
    settings: dict[str, Any]
    standings: list[Standing]
    recalls: dict[str, dict[str, Recall]]
    base_recalls: dict[str, float]
    in_use: bool
    reason: str | None
    failed: int
    runs: int
    n_valid: int
    seconds: float
    warnings: list[str]


def run_sweep(
    database: Database,
    settings: SweepSettings,
    *,
    timeout_s: float | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Search, choose, and train the winner. The sweep's status ends as `done`, `failed` or `interrupted`.

    Args:
        database: the store, writable.
        settings: the sweep's settings.
        timeout_s: no trial starts after this many seconds.
        progress: receives the phases and warnings.

    Raises:
        CantSave: the winner's model could not be saved; no sweep was started.
        TrainerError: see `trainer.errors`; the sweep has ended `failed`.
        TrainingInterrupted: KeyboardInterrupt was raised; the sweep has ended `interrupted`, and `resume` continues it.
        StoreError: the store failed.
    """
    progress = progress or Silent()
    shared, device = resolved(database, settings.shared)
    settings = _with_possible_reader(database, replace(settings, shared=shared), device, progress)
    check_writable(models_dir(database))  # the winner's model goes there
    with ONE_AT_A_TIME, quiet_libraries():
        mark_stale(database)
        pid, began = this_process()
        with database.write() as session:
            sweep_id = start_sweep(session, settings.as_dict(), this_machine(), pid, process_start=began)
        with _recorded(database, sweep_id):
            return _Sweep(database, sweep_id, settings, device, progress).run(timeout_s)


def _with_possible_reader(
    database: Database, settings: SweepSettings, device: str, progress: Progress
) -> SweepSettings:
    """Remove the reader from the search space if it can't be loaded and is not required.

    Raises:
        ModelUnavailable: the reader can't be loaded, and every point of the space needs it.
    """
    space, without = settings.space, Choices((False,))
    if settings.shared.model == READER:
        # The reader is the model itself, and reads the whole thumbnail in every crop mode.
        return replace(settings, space=replace(space, with_reader=without, fit=Choices((settings.shared.fit,))))
    if True not in space.with_reader.of:
        return settings
    if space.with_reader.of != (True,) and settings.shared.text_model_of_base() is not None:
        progress.warn("settings with the reader are not tried: --text-model embeds titles instead of the base model")
        return replace(settings, space=replace(space, with_reader=without))
    try:
        open_reader(database, settings.shared, device).facts  # noqa: B018 (loads the reader)
    except ModelUnavailable as error:
        if space.with_reader.of == (True,):
            raise
        progress.warn(f"settings with the reader are not tried: {error}")
        return replace(settings, space=replace(space, with_reader=without))
    return settings


def resume_sweep(
    database: Database,
    sweep_id: int,
    *,
    trials: int | None = None,
    timeout_s: float | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Resume a sweep that was interrupted or failed, on the examples that it started with.

    Args:
        database: the store, writable.
        sweep_id: the sweep.
        trials: total number of trials, including those done; None: the number that the sweep was started with.
        timeout_s: no trial starts after this many seconds.
        progress: receives the phases and warnings.

    Raises:
        NotFound: the sweep does not exist.
        RunUnusable: it is done or still running, or its base model has changed.
        CantSave, TrainerError, TrainingInterrupted, StoreError: as for `run_sweep`.
    """
    with ONE_AT_A_TIME, quiet_libraries():
        mark_stale(database)
        with database.read() as session:
            settings = SweepSettings.from_dict(get_sweep(session, sweep_id).settings)
        settings = replace(settings, trials=settings.trials if trials is None else trials)
        shared, device = resolved(database, settings.shared)
        settings = replace(settings, shared=shared)
        check_writable(models_dir(database))
        pid, began = this_process()
        with database.write() as session:
            reopened = reopen_sweep(session, sweep_id, settings.as_dict(), this_machine(), pid, process_start=began)
        if not reopened:
            raise RunUnusable(_why_not(database, sweep_id))
        with _recorded(database, sweep_id):
            return _Sweep(database, sweep_id, settings, device, progress or Silent()).run(timeout_s)


def _why_not(database: Database, sweep_id: int) -> str:
    with database.read() as session:
        row, winner = get_sweep(session, sweep_id), winner_run(session, sweep_id)
    if row.status == "running":
        return f"sweep {sweep_id} is running (process {row.pid} of {row.host}); wait for it, or stop it"
    run = "" if winner is None else f" with run {winner.id}"
    return f"sweep {sweep_id} is already done{run}; start a new sweep"


@contextmanager
def _recorded(database: Database, sweep_id: int) -> Iterator[None]:
    """Record the sweep's end when the block ends; an early end is reported with how to resume."""
    try:
        with heartbeat(database, Sweep, sweep_id), database.patient():
            yield
    except BaseException as error:
        if is_interrupt(error):
            _end(database, sweep_id, "interrupted", "stopped by a signal")
            raise TrainingInterrupted(
                f"sweep {sweep_id} was interrupted; its finished trials are recorded; "
                f"continue with 'thumbtune sweep --resume {sweep_id}'"
            ) from error
        # Any error is recorded and raised again: a bug must not leave a row with the status `running`.
        exhausted = ran_out_of_memory(error)
        found = "out of memory" if exhausted else " ".join(str(error).split()) or type(error).__name__
        _end(database, sweep_id, "failed", found)
        if not exhausted:
            raise
        raise TrainerError(f"sweep {sweep_id} ran out of memory; use a smaller --batch-size") from error
    _end(database, sweep_id, "done", None)


def _end(database: Database, sweep_id: int, status: str, error: str | None) -> None:
    try:
        database.transact(lambda session: end_sweep(session, sweep_id, status, error))
    except StoreError as failure:
        # The store itself may have stopped the sweep; report that error.
        logger.warning("sweep %d could not be marked %s: %s", sweep_id, status, failure)


def _tell(study: Study, asked: Trial, standing: Standing | None) -> None:
    if standing is None:
        # A trial that diverged counts as worse than all others, not as untried.
        study.tell(asked, state=TrialState.PRUNED)
    else:
        study.tell(asked, objective(standing))


class _Sweep:
    """A running sweep, new or resumed."""

    def __init__(
        self, database: Database, sweep_id: int, settings: SweepSettings, device: str, progress: Progress
    ) -> None:
        self._database, self._id, self._settings = database, sweep_id, settings
        self._device, self._progress = device, progress
        self._started = time.monotonic()
        self._warnings: list[str] = []
        self._base_recalls: dict[str, float] = {}
        with database.read() as session:
            self._tried = by_trial(trial_scores(session, sweep_id))

    def run(self, timeout_s: float | None) -> SweepResult:
        """Do the remaining work."""
        with self._database.read() as session:
            winner = winner_run(session, self._id)
        # Otherwise the sweep was stopped after its last step: only its end must be recorded.
        if winner is None:
            self._work(timeout_s)
        return self._result()

    def _work(self, timeout_s: float | None) -> None:
        settings = self._settings
        chosen = self._examples()
        for text in require_trainable(chosen):
            self._warn(text)
        trials = Trials(self._database, chosen, settings.shared, self._device, self._progress, self._fingerprints())
        trials.prepare(settings.space)
        self._base_recalls = trials.base_recalls
        with one_thread():
            self._search(trials, timeout_s)
            best = self._choose(trials)
            if best.recall_at_1 <= max(self._base_recalls.values()):
                self._warn("no settings were better than the base model on the valid split")
            # Use the trials' number of threads: products computed in parts differ in their last bits, and so do ranks.
            shared = settings.space.applied(settings.shared, settings.space.point(best.settings))
            train(self._database, shared, progress=self._progress, sweep_id=self._id, compete=True)

    def _examples(self) -> Selection:
        """The examples that the sweep started with, even after a sync: all results must be of one split."""
        first = next((score for trial in self._tried.values() for score in trial.scores), None)
        if first is None or first.snapshot_id is None:
            return select_pairs(self._database, self._settings.shared.channels)
        with self._database.read() as session:
            rows = load_examples(session, first.snapshot_id)
        rows = [replace(row, negative_position=None) for row in rows]
        return Selection(rows, {}, self._settings.shared.channels)

    def _fingerprints(self) -> set[str | None]:
        with self._database.read() as session:
            return {run.base_fingerprint for run in sweep_runs(session, self._id)}

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._progress.warn(text)

    def _search(self, trials: Trials, timeout_s: float | None) -> None:
        settings, study = self._settings, self._study()
        points = {self._key(trial.settings) for trial in self._tried.values()}
        size = settings.space.size()
        first = max(self._tried, default=-1) + 1
        with self._progress.phase("Trying settings", max(0, settings.trials - first)) as count:
            for number in range(first, settings.trials):
                if size is not None and len(points) >= size:
                    self._warn(f"all {size} combinations of settings were tried")
                    return
                if timeout_s is not None and self._tried and time.monotonic() - self._started >= timeout_s:
                    self._warn(f"the timeout was reached after {len(self._tried)} of {settings.trials} trials")
                    return
                asked, point = ask(study, settings.space, settings.shared.seed, number, points)
                points.add(tuple(point.values()))
                tried = self._try(trials, number, point, settings.search_seeds())
                standing = tried.standing()
                _tell(study, asked, standing)
                count(1)

    def _study(self) -> Study:
        """Build Optuna's study from the trials so far."""
        study = create_study(direction="maximize")
        for trial in self._tried.values():
            standing = trial.standing(self._settings.search_seeds())
            asked = ask_for(study, self._settings.space, self._settings.space.point(trial.settings))
            _tell(study, asked, standing)
        return study

    def _key(self, settings: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(self._settings.space.point(settings).values())

    def _try(self, trials: Trials, number: int, point: Point, seeds: Sequence[int]) -> Tried:
        """Run these settings with these seeds until one diverges, and write all runs in one transaction."""
        runs: list[TrialRun] = []
        for seed in seeds:
            shared = replace(self._settings.shared, seed=seed)
            runs.append(trials.run(self._settings.space.applied(shared, point)))
            if runs[-1].columns["status"] != "done":
                break
        self._database.transact(lambda session: add_trial_runs(session, self._id, number, runs))
        with self._database.read() as session:
            self._tried = by_trial(trial_scores(session, self._id))
        return self._tried[number]

    def _choose(self, trials: Trials) -> Standing:
        """Train the best few with more seeds; return the best over all seeds."""
        settings = self._settings
        while True:
            best = in_order(self._tried.values(), settings.search_seeds())[: settings.finalists]
            if not best:
                raise TrainerError(f"every trial diverged ({len(self._tried)}); lower the range of --lr")
            with self._progress.phase("Training the best with more seeds", len(best)) as count:
                for trial in [self._tried[standing.trial] for standing in best]:
                    done = {score.seed for score in trial.scores}
                    more = [seed for seed in settings.all_seeds() if seed not in done]
                    if more:
                        self._try(trials, trial.number, settings.space.point(trial.settings), more)
                    count(1)
            left = in_order(self._tried[standing.trial] for standing in best)
            # A finalist that diverges with a later seed drops out; if all do, the next best take their places.
            if left:
                return left[0]

    def _result(self) -> SweepResult:
        with self._database.read() as session:
            winner = winner_run(session, self._id)
            assert winner is not None, "the winner was trained above or before"
            recalls = recalls_of(session, winner.id)
            in_use = champion(session, winner.settings.get("channels") or ())
        tried = self._tried.values()
        standings = in_order(tried)
        chosen = self._key(winner.settings)
        trial = next(standing for standing in standings if self._key(standing.settings) == chosen)
        known = {score.snapshot_id for score in self._tried[trial.trial].scores if score.seed == winner.seed}
        if winner.snapshot_id not in known:
            self._warn(
                "pairs were added, removed or changed since the sweep started, so the winner was trained and scored on "
                f"snapshot {winner.snapshot_id}, and its trial on an older one"
            )
        return SweepResult(
            sweep_id=self._id,
            run_id=winner.id,
            settings=winner.settings,
            standings=[trial, *(standing for standing in standings if standing is not trial)],
            recalls=recalls,
            base_recalls=self._base_recalls,
            in_use=in_use is not None and in_use.id == winner.id,
            reason=winner.decision,
            failed=sum(trial.failed for trial in tried),
            runs=sum(len(trial.scores) for trial in tried),
            n_valid=trial.n,
            seconds=time.monotonic() - self._started,
            warnings=self._warnings,
        )
