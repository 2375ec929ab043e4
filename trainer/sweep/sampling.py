"""Choose the settings of a sweep's next trial with Optuna.

Ask-and-tell: https://optuna.readthedocs.io/en/stable/tutorial/20_recipes/009_ask_and_tell.html. The sampler is TPE
(Bergstra et al. 2011), multivariate as in Falkner et al. 2018, http://proceedings.mlr.press/v80/falkner18a.html.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import numpy as np
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import Trial, TrialState

from trainer.errors import TrainerError
from trainer.sweep.search_space import Choices, Dimension, Point, Space, Value

__all__ = ["ask", "ask_for"]

_ATTEMPTS = 20
_LOOKED_AT = 10_000


def ask(
    study: Study, space: Space, seed: int, number: int, tried: Collection[tuple[Value, ...]]
) -> tuple[Trial, Point]:
    """Choose settings for a trial by the study's results, never the same settings twice.

    Each trial gets a new sampler, seeded by the sweep's seed and the trial's number, so that the choice depends only on
    these and on the earlier trials. A resumed sweep thus tries the same settings as an uninterrupted one.

    Args:
        study: contains all earlier trials.
        space: the search space; at least one of its points is untried.
        seed: the sweep's seed.
        number: the trial's number.
        tried: the values of the earlier trials' points.

    Raises:
        TrainerError: no untried point was found.
    """
    left = space.left(tried)
    if not left:
        raise TrainerError("the sweep found no untried settings; use a wider range")
    for attempt in range(_ATTEMPTS):
        if left != space.train.of:
            # Otherwise the sampler would choose a good way to train again after all its points were tried.
            study.enqueue_trial({"train": left[0]})
        words = np.random.SeedSequence([seed, number, attempt]).generate_state(1)
        study.sampler = TPESampler(seed=int(words[0]))
        trial = study.ask()
        point = _suggested(trial, space)
        if tuple(point.values()) not in tried:
            return trial, point
        # Failed trials don't count: the sampler ignores them.
        study.tell(trial, state=TrialState.FAIL)
    # Few points are left, or the sampler has converged: take any untried point.
    unseen = [*itertools.islice((p for p in space.points() if tuple(p.values()) not in tried), _LOOKED_AT)]
    if not unseen:
        raise TrainerError("the sweep found no untried settings; use a wider range")
    chosen = unseen[np.random.default_rng([seed, number]).integers(len(unseen))]
    return ask_for(study, space, chosen), chosen


def ask_for(study: Study, space: Space, point: Point) -> Trial:
    """Ask for a trial of this point."""
    study.enqueue_trial(dict(point))
    trial = study.ask()
    _suggested(trial, space)
    return trial


def _suggested(trial: Trial, space: Space) -> dict[str, Any]:
    """Let the trial choose, first how to train, then the settings that have an effect with it."""
    fixed, dimensions = space.fixed(), space.dimensions()
    point: dict[str, Any] = {}
    for name in space.names():
        point[name] = fixed[name] if name in fixed else _suggest(trial, name, dimensions[name])
    for name in space.names(point["train"])[len(point) :]:
        point[name] = fixed[name] if name in fixed else _suggest(trial, name, dimensions[name])
    return point


def _suggest(trial: Trial, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(name, dimension.of)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=True)
