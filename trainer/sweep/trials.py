"""Train one combination of settings on features in memory, score it on the valid split, and return the store's rows.

The test split is not used: none of its rows is projected here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from store.db import Database
from store.training import ExampleRow, TrialRun
from store.types import utc_now
from store.wording import counted
from trainer.data import Selection
from trainer.errors import BadSetting, Diverged, NotEnoughPairs, RunUnusable
from trainer.fitting import (
    Pooled,
    ProjectionsLearner,
    ReaderHeldOut,
    Step,
    Triplets,
    WithReaderLearner,
    chosen_names,
    triplets,
)
from trainer.models import LazyModel, open_base, open_reader
from trainer.progress import Progress, Silent
from trainer.runs import cached_learner, encode, known_at_start, mine
from trainer.scoring import Scores, require_apart
from trainer.settings import CLOSED_FORM, CropMode, TrainSettings
from trainer.sweep.search_space import Space

__all__ = ["Trials"]


def require_projections(model: LazyModel, settings: TrainSettings) -> None:
    """Refuse to train parameters other than projections, which would need the towers in each trial.

    Raises:
        BadSetting: other parameters would be trained.
    """
    why = "a sweep trains projections on cached features"
    if settings.train in CLOSED_FORM:
        return
    if settings.train == "lora":
        raise BadSetting(f"--train 'lora' trains the towers, but {why}; use --train projection")
    names = chosen_names([name for name, _ in model.facts.parameters], settings.train)
    others = [name for name in names if name not in model.facts.projections.tensors()]
    if others:
        raise BadSetting(
            f"--train {settings.train!r} matches {others[0]}, but {why}; use --train projection, or a projection's name"
        )


@dataclass(frozen=True)
class _Mined:
    examples: list[ExampleRow]
    rows: Triplets
    snapshot_id: int


@dataclass(frozen=True)
class _Base:
    """The base model with one crop mode, its features, and its scores on the valid split."""

    model: LazyModel
    pooled: Pooled
    scores: Scores


@dataclass
class Trials:
    """Runs the trials of one sweep.

    Args:
        database: the store; snapshots are written to it, runs are not.
        chosen: the examples.
        settings: the settings that all trials share.
        device: the device to compute on.
        progress: receives the progress of encoding and mining.
        fingerprints: the base model's fingerprints in earlier trials; empty for a new sweep.
    """

    database: Database
    chosen: Selection
    settings: TrainSettings
    device: str
    progress: Progress
    fingerprints: Collection[str | None] = ()
    _bases: dict[str, _Base] = field(default_factory=dict)
    _reader: tuple[LazyModel, Pooled] | None = None
    _held_out: tuple[ReaderHeldOut, ReaderHeldOut] | None = None
    """Computed once, because the training rows of all trials differ only in their negatives."""
    _mined: dict[tuple[str, int | None], _Mined] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._valid = [row for row in self.chosen.examples if row.split == "valid"]
        if len(self._valid) < 2:
            raise NotEnoughPairs(
                f"the valid split has {len(self._valid)} of "
                f"{counted(len(self.chosen.examples), 'pair')}; a sweep needs at least 2; sync more videos"
            )
        # The same for all runs, and slow to compute: it starts a git process and reads each distribution's metadata.
        self._known = known_at_start(self.settings, self.device)

    @property
    def base_recalls(self) -> dict[str, float]:
        """{crop mode: the base model's recall@1 on the valid split, thumbnail to title}."""
        return {fit: base.scores.table()["valid"]["recall@1"] for fit, base in self._bases.items()}

    def prepare(self, space: Space) -> None:
        """Encode, and mine with each strategy that does not depend on the seed, to report missing models early.

        Raises:
            BadSetting: the space has a way to train that is not possible on cached features.
            ModelUnavailable: the base model's towers, the title model or the reader can't be loaded.
            RunUnusable: the base model differs from that of the earlier trials.
        """
        for fit in space.fit.of:
            self._bases[str(fit)] = self._opened(space, fit)  # type: ignore[arg-type]
        if True in space.with_reader.of:
            reader = open_reader(self.database, self.settings, self.device)
            read = encode(self.database, reader, self.chosen, self.settings, self.progress)
            self._reader = reader, read
        if not set(space.train.of) <= set(CLOSED_FORM):
            for strategy in space.negatives.values() or ():
                if strategy != "random":
                    self._rows(replace(self.settings, negatives=strategy))  # type: ignore[arg-type]

    def _opened(self, space: Space, fit: CropMode) -> _Base:
        settings = replace(self.settings, fit=fit)
        with self.progress.phase("Opening the base model"):
            # If a trial may add the reader, the text model is the reader's, and the base model embeds its own titles.
            with_reader = True in space.with_reader.of
            model = open_base(self.database, replace(settings, with_reader=with_reader), self.device)
            if {*self.fingerprints} - {None, model.facts.fingerprint}:
                raise RunUnusable(
                    f"{model.name} is not the base model of this sweep (its fingerprint differs); "
                    "restore the old model, or start a new sweep"
                )
            for way in space.train.of:
                require_projections(model, replace(settings, train=str(way)))
        pooled = encode(self.database, model, self.chosen, settings, self.progress)
        return _Base(model, pooled, pooled.score(model.facts.projections, self._valid))

    def run(self, settings: TrainSettings) -> TrialRun:
        """Train and score one combination of settings with one seed.

        Returns:
            The rows to write: a run that is `done`, or `failed` if the training diverged.
        """
        mined, base = self._rows(settings), self._bases[settings.fit]
        clock = _Clock()
        steps: list[Step] = []

        def on_step(step: Step) -> None:
            if not math.isfinite(step.loss):
                raise Diverged(f"the loss became {step.loss} at step {step.step}; use a smaller --lr")
            steps.append(step)

        learner = self._learner(settings, mined)
        columns = {
            **self._known,
            "trained": settings.train,
            "seed": settings.seed,
            "settings": settings.as_dict(),
            "snapshot_id": mined.snapshot_id,
            "base_fingerprint": base.model.facts.fingerprint,
            "parameters_total": learner.total,
            "parameters_trainable": learner.trainable,
            "started_at": clock.started_at,
        }
        try:
            learner.fit(mined.rows, on_step)
            clock.ended("fit")
            scores = learner.score(self._valid, Silent())
            require_apart(base.scores, scores)
        except Diverged as error:
            ended = clock.ended("evaluate")
            return TrialRun({**columns, **ended, "status": "failed", "error": str(error)}, [asdict(s) for s in steps])
        columns |= {**clock.ended("evaluate"), "status": "done"}
        return TrialRun(columns, [asdict(step) for step in steps], scores.rows("tuned"))

    def _learner(self, settings: TrainSettings, mined: _Mined) -> ProjectionsLearner | WithReaderLearner:
        base = self._bases[settings.fit]
        learner = cached_learner(base.model, settings, mined.examples, base.pooled, {})
        assert learner is not None, "`prepare` has refused what can't be trained on cached features"
        if not settings.with_reader:
            return learner
        assert self._reader is not None, "`prepare` has opened the reader"
        found = WithReaderLearner(learner, *self._reader, held_out=self._held_out)
        self._held_out = found.reader_held_out(mined.rows)
        return found

    def _rows(self, settings: TrainSettings) -> _Mined:
        """The rows to train on, mined once per strategy, and once per seed where the strategy depends on it."""
        key = (settings.negatives, settings.seed if settings.negatives == "random" else None)
        if key not in self._mined:
            model = next(iter(self._bases.values())).model
            rows, snapshot_id = mine(self.database, model, self.chosen, settings, self.progress)
            self._mined[key] = _Mined(rows, triplets(rows, mined=settings.negatives != "none"), snapshot_id)
        return self._mined[key]


class _Clock:
    """The times of a run's phases."""

    def __init__(self) -> None:
        self.started_at = utc_now()
        self._started = self._last = time.perf_counter()
        self._phases: dict[str, float] = {}

    def ended(self, phase: str) -> dict[str, Any]:
        """End a phase; return the columns with the times of all phases so far."""
        now = time.perf_counter()
        self._phases[phase] = now - self._last
        self._last = now
        return {"finished_at": utc_now(), "seconds": now - self._started, "phase_seconds": dict(self._phases)}
