"""Rank a sweep's trials: means over seeds with their standard deviation, the objective, the order of the trials."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from store.training import TrialScore

__all__ = ["Standing", "Tried", "by_trial", "in_order", "objective"]

# Means of equal recalls in a different order may differ in the last bit.
_DIGITS = 12


@dataclass(frozen=True)
class Standing:
    """A trial's results on the valid split.

    Args:
        trial: the trial's number.
        settings: all settings of its first run.
        seeds: number of its runs.
        recall_at_1, mrr: means over the runs.
        sd: sample standard deviation (n - 1) of recall@1 over the seeds; None with one seed.
        n: number of ranked rows.
    """

    trial: int
    settings: dict[str, Any]
    seeds: int
    recall_at_1: float
    sd: float | None
    mrr: float
    n: int


@dataclass(frozen=True)
class Tried:
    """A trial and the scores of its runs so far, in their order."""

    number: int
    scores: list[TrialScore]

    @property
    def failed(self) -> bool:
        """Whether the training diverged with one of the seeds."""
        return any(score.status != "done" for score in self.scores)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the first run."""
        return self.scores[0].settings

    def standing(self, seeds: Collection[int] | None = None) -> Standing | None:
        """Return the results over the runs with these seeds, or all runs; None if a run failed or there are no runs."""
        counted = [score for score in self.scores if seeds is None or score.seed in seeds]
        recalls = [score.recall_at_1 for score in counted if score.recall_at_1 is not None]
        ranks = [score.mrr for score in counted if score.mrr is not None]
        if not counted or not len(recalls) == len(ranks) == len(counted):
            return None
        spread = stdev(recalls) if len(recalls) > 1 else None
        n = counted[0].n or 0
        mean, mrr = round(fmean(recalls), _DIGITS), round(fmean(ranks), _DIGITS)
        return Standing(self.number, self.settings, len(counted), mean, spread, mrr, n)


def objective(standing: Standing) -> float:
    """Return the value for the sampler to maximise: the mean recall@1, with ties broken by the mean reciprocal rank.

    Mean recalls differ by 1 / (n * seeds) or not at all, and a reciprocal rank is at most 1.
    """
    return standing.recall_at_1 + standing.mrr / (2 * standing.n * standing.seeds)


def in_order(trials: Iterable[Tried], seeds: Collection[int] | None = None) -> list[Standing]:
    """Return the trials that did not fail, best first: by number of seeds, recall@1, reciprocal rank, trial number."""
    found = [trial.standing(seeds) for trial in trials if not trial.failed]
    return sorted(
        (standing for standing in found if standing is not None),
        key=lambda standing: (-standing.seeds, -standing.recall_at_1, -standing.mrr, standing.trial),
    )


def by_trial(scores: Sequence[TrialScore]) -> dict[int, Tried]:
    """Return {number: trial} from rows in the order of the trials and runs."""
    found: dict[int, Tried] = {}
    for score in scores:
        found.setdefault(score.trial, Tried(score.trial, [])).scores.append(score)
    return found
