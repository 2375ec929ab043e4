"""Choose epochs and temperature for steps on cached features, by training without folds of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trainer.fitting.projections import PooledTriplets, fit_projections, part_of
from trainer.models import Projections
from trainer.scoring import both_ways, folds
from trainer.settings import TrainSettings

__all__ = ["choose_steps"]

MOST_EPOCHS = 32
_FEWEST = 2
_FIRST, *_OTHERS = (0.1, 0.05, 0.2)
_FOLDS = 3


def choose_steps(
    start: Projections,
    rows: PooledTriplets,
    names: Sequence[str],
    settings: TrainSettings,
    groups: Sequence[str],
    *,
    device: str,
    fixed: int = 0,
) -> TrainSettings:
    """Choose the epochs and, if it is not given, the temperature.

    The criterion is `both_ways` of held-out rows, in three grouped folds. The epochs
    are doubled until it no longer improves, at most up to `MOST_EPOCHS`; then other temperatures are tried with them.
    The learning rate decreases to 0 over the epochs, so each number of epochs needs a training of its own.

    Args:
        start: the initial projections.
        rows: the training rows.
        names: parameter names of the projections to train.
        settings: the other settings, without epochs.
        groups: the group of each row. A group is held out as a whole.
        device: `cpu`, `cuda` or `mps`.
        fixed: see `Fitter`.

    Returns:
        The settings with both values; with the recipe's if there are fewer than two groups.
    """
    temperature = settings.temperature
    cut = folds(groups, _FOLDS)
    if not cut:
        return settings.with_recipe_steps()
    labels = rows.labels[rows.positive].astype(np.intp)

    def score(epochs: int, temperature: float) -> float:
        tried = replace(settings, epochs=epochs, temperature=temperature)
        total = 0.0
        for fold in cut:
            projections = fit_projections(
                start, part_of(rows, fold.fit), names, tried, device=device, on_step=lambda _step: None, fixed=fixed
            )
            pictures = projections.pictures(rows.pictures[rows.anchor])
            titles = projections.titles(rows.titles[rows.positive])
            total += both_ways(pictures, titles, fold.held_out, labels)
        return total

    warmth = temperature or _FIRST
    passes = _FEWEST
    best = score(passes, warmth)
    while passes < MOST_EPOCHS:
        found = score(passes * 2, warmth)
        if found <= best:
            break
        passes, best = passes * 2, found
    if temperature is None:
        found, warmth = max(
            [(best, warmth), *((score(passes, other), other) for other in _OTHERS)], key=lambda at: at[0]
        )
    return replace(settings, epochs=passes, temperature=warmth)
