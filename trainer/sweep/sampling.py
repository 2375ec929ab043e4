"""Choose the settings of a sweep's next trial with Optuna.

Ask-and-tell: https://optuna.readthedocs.io/en/stable/tutorial/20_recipes/009_ask_and_tell.html. The sampler is TPE
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
from trainer.sweep.search_space import Choices, Dimension, Point, Space, Value

__all__ = ["ask", "distributions_of", "params"]

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
    """
    distributions = distributions_of(space)
    for attempt in range(_ATTEMPTS):
        words = np.random.SeedSequence([seed, number, attempt]).generate_state(1)
        study.sampler = TPESampler(seed=int(words[0]))
        trial = study.ask(distributions)
        point = space.point({**space.fixed(), **trial.params})
        if tuple(point.values()) not in tried:
            return trial, point
        # Failed trials don't count: the sampler ignores them.
        study.tell(trial, state=TrialState.FAIL)
    # Few points are left, or the sampler has converged: take any untried point.
    unseen = [*itertools.islice((p for p in space.points() if tuple(p.values()) not in tried), _LOOKED_AT)]
    if not unseen:
        raise TrainerError("the sweep found no untried settings; use a wider range")
    chosen = unseen[np.random.default_rng([seed, number]).integers(len(unseen))]
    study.enqueue_trial({name: chosen[name] for name in distributions})
    return study.ask(distributions), chosen


def params(space: Space, point: Point) -> dict[str, Any]:
    """Return the searched settings of a point as Optuna's parameters."""
    return {name: point[name] for name in space.searched()}


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """Return the searched settings as Optuna's distributions."""
    return {name: _distribution(dimension) for name, dimension in space.searched().items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.of)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=True)
