"""Choosing what a sweep tries next, by Optuna.

Asked and told: https://optuna.readthedocs.io/en/stable/tutorial/20_recipes/009_ask_and_tell.html. Its sampler is TPE
(Bergstra et al. 2011), multivariate as in Falkner et al. 2018, http://proceedings.mlr.press/v80/falkner18a.html.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import Trial, TrialState

from trainer.errors import TrainerError
from trainer.search_space import Choices, Dimension, Point, Space, Value

__all__ = ["ask", "distributions_of", "params"]

_ATTEMPTS = 20
_LOOKED_AT = 10_000


def ask(
    study: Study, space: Space, seed: int, number: int, tried: Collection[tuple[Value, ...]]
) -> tuple[Trial, Point]:
    """Choose a trial's settings by what the study knows, none of them a second time.

    The sampler is made anew for each trial, seeded by the sweep's seed and the trial's number: what it chooses depends
    on these and on the earlier trials alone. So a sweep that was stopped goes on as if it had not been.

    Args:
        study: with all earlier trials.
        space: not all of it tried.
        seed: of the sweep.
        number: of the trial.
        tried: the values of earlier trials' points.
    """
    distributions = distributions_of(space)
    for attempt in range(_ATTEMPTS):
        words = np.random.SeedSequence([seed, number, attempt]).generate_state(1)
        study.sampler = TPESampler(seed=int(words[0]))
        trial = study.ask(distributions)
        point = space.point({**space.fixed(), **trial.params})
        if tuple(point.values()) not in tried:
            return trial, point
        # Failed ones don't count: the sampler takes no notice of them.
        study.tell(trial, state=TrialState.FAIL)
    # Few are left, or the sampler is sure of itself: any of the others.
    unseen = [*itertools.islice((p for p in space.points() if tuple(p.values()) not in tried), _LOOKED_AT)]
    if not unseen:
        raise TrainerError("the sweep found no settings that it has not tried; use a wider range")
    chosen = unseen[np.random.default_rng([seed, number]).integers(len(unseen))]
    study.enqueue_trial({name: chosen[name] for name in distributions})
    return study.ask(distributions), chosen


def params(space: Space, point: Point) -> dict[str, Any]:
    """What Optuna knows of a point: the settings that are searched."""
    return {name: point[name] for name in space.searched()}


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """What is searched, as Optuna has it."""
    return {name: _distribution(dimension) for name, dimension in space.searched().items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.of)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=True)
