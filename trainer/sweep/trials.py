"""Train one combination of settings on features in memory, score it on the valid split, and return the store's rows.

The test split is not used: none of its rows is projected here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from store.db import Database
from store.training import ExampleRow, TrialRun
from store.types import utc_now
from trainer.data import Selection
from trainer.errors import BadSetting, Diverged, NotEnoughPairs
from trainer.fitting import Pooled, PooledTriplets, Step, chosen_names, fit_heads, triplets
from trainer.models import Heads, LazyModel
from trainer.progress import Progress
from trainer.runs import encode, known_at_start, mine
from trainer.scoring import require_apart
from trainer.settings import TrainSettings

__all__ = ["Trials", "heads_to_train"]


def heads_to_train(model: LazyModel, settings: TrainSettings) -> tuple[Heads, list[str]]:
    """Return the base model's projections, and the names of those that are trained.

    Raises:
        BadSetting: other parameters would be trained, which would need the towers in each trial.
    """
    heads = model.facts.heads
    why = "a sweep trains projections on cached features"
    if settings.train == "lora":
        raise BadSetting(f"--train 'lora' adapts the towers, and {why}; use --train projection")
    names = chosen_names([name for name, _ in model.facts.parameters], settings.train)
    others = [name for name in names if name not in heads.tensors()]
    if others:
        raise BadSetting(
            f"--train {settings.train!r} matches {others[0]}, and {why}; use --train projection, or name one of them"
        )
    return heads, names


@dataclass(frozen=True)
class _Mined:
    rows: PooledTriplets
    snapshot_id: int


@dataclass
class Trials:
    """Runs the trials of one sweep.

    Args:
        database: the store; snapshots are written to it, runs are not.
        model: the base model.
        chosen: the examples.
        settings: the settings that all trials share.
        device: the device to compute on.
        progress: receives the progress of encoding and mining.
    """

    database: Database
    model: LazyModel
    chosen: Selection
    settings: TrainSettings
    device: str
    progress: Progress
    _mined: dict[tuple[str, int | None], _Mined] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._valid = [row for row in self.chosen.examples if row.split == "valid"]
        if len(self._valid) < 2:
            raise NotEnoughPairs(
                f"the valid split has {len(self._valid)} of the "
                f"{len(self.chosen.examples)} pairs, and a sweep needs at least 2 there; sync more videos"
            )
        self._heads, self._names = heads_to_train(self.model, self.settings)
        # The same for all runs, and slow: it starts a git process and reads each distribution's metadata.
        self._known = known_at_start(self.settings, self.device)

    @property
    def n_valid(self) -> int:
        """The number of rows that a trial is scored on."""
        return len(self._valid)

    def prepare(self, strategies: Sequence[str]) -> None:
        """Encode, and mine with each strategy that does not depend on the seed, so that missing models fail early.

        Raises:
            ModelUnavailable: the base model's towers or the title model can't be loaded.
        """
        pooled = encode(self.database, self.model, self.chosen, self.settings, self.progress)
        self._pooled = pooled
        self._seen = _part(pooled, self._valid)
        self._base = self._seen.score(self._heads, self._valid)
        for strategy in strategies:
            if strategy != "random":
                self._rows(replace(self.settings, negatives=strategy))  # type: ignore[arg-type]

    def run(self, settings: TrainSettings) -> TrialRun:
        """Train and score one combination of settings with one seed.

        Returns:
            The rows to write: a run that is `done`, or `failed` if the training diverged.
        """
        mined = self._rows(settings)
        clock = _Clock()
        steps: list[Step] = []
        columns = {**self._columns(settings, mined), "started_at": clock.started_at}
        try:
            heads = self._fit(settings, mined.rows, steps)
            clock.ended("fit")
            scores = self._seen.score(heads, self._valid)
            require_apart(self._base, scores)
        except Diverged as error:
            ended = clock.ended("evaluate")
            return TrialRun({**columns, **ended, "status": "failed", "error": str(error)}, _rows_of(steps))
        return TrialRun({**columns, **clock.ended("evaluate"), "status": "done"}, _rows_of(steps), scores.rows("tuned"))

    def _fit(self, settings: TrainSettings, rows: PooledTriplets, steps: list[Step]) -> Heads:
        def on_step(step: Step) -> None:
            if not math.isfinite(step.loss):
                raise Diverged(f"the loss became {step.loss} at step {step.step}; use a smaller --lr")
            steps.append(step)

        return fit_heads(self._heads, rows, self._names, settings, device=self.device, on_step=on_step)

    def _rows(self, settings: TrainSettings) -> _Mined:
        """The rows to train on, mined once per strategy, and once per seed where the strategy depends on it."""
        key = (settings.negatives, settings.seed if settings.negatives == "random" else None)
        if key not in self._mined:
            rows, snapshot_id = mine(self.database, self.model, self.chosen, settings, self.progress)
            chosen = triplets(rows, mined=settings.negatives != "none")
            self._mined[key] = _Mined(self._pooled.triplets(chosen), snapshot_id)
        return self._mined[key]

    def _columns(self, settings: TrainSettings, mined: _Mined) -> dict[str, Any]:
        sizes = dict(self.model.facts.parameters)
        return {
            **self._known,
            "seed": settings.seed,
            "settings": settings.as_dict(),
            "snapshot_id": mined.snapshot_id,
            "base_fingerprint": self.model.facts.fingerprint,
            "parameters_total": sum(sizes.values()),
            "parameters_trainable": sum(sizes[name] for name in self._names),
        }


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


def _part(pooled: Pooled, examples: Sequence[ExampleRow]) -> Pooled:
    """Select the features of these examples, so that only they are projected."""
    digests = sorted({example.picture_sha256 for example in examples})
    titles = sorted({example.title for example in examples})
    return Pooled(
        pooled.pictures[[pooled.picture_rows[digest] for digest in digests]],
        pooled.titles[[pooled.title_rows[title] for title in titles]],
        {digest: row for row, digest in enumerate(digests)},
        {title: row for row, title in enumerate(titles)},
    )


def _rows_of(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [
        {"step": step.step, "epoch": step.epoch, "loss": step.loss, "learning_rate": step.learning_rate}
        for step in steps
    ]
