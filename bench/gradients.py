"""Variants of gradient steps on the reader's vectors, by grouped cross-validation.

    python -m bench.gradients [--channel DIR ...] [--drawn] [--repeats 3]

All variants start at the reader's identity projections. Nothing here is a setting of `train`, except for epochs, batch
size, temperature and the choice of epochs on inner folds. The test split is never used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from bench.rows import (
    add_channel_options,
    catalogues,
    interval,
    pooled,
    ranks_of,
    recall,
    synced,
    train_and_valid,
    triplets_of,
)
from store.db import Database
from trainer.fitting.candidates import Candidate
from trainer.fitting.fitter import Fitter
from trainer.fitting.loss import equal_titles, ranking_loss
from trainer.fitting.projections import PooledTriplets, rate_for
from trainer.fitting.steps import OnStep
from trainer.fitting.threads import one_thread
from trainer.models import TEXT, VISUAL, Projections
from trainer.models.reader import ReaderModel
from trainer.scoring.cross_validation import paired
from trainer.settings import CCA, READER, RIDGE, TrainSettings

BOTH = (VISUAL, TEXT)
WHOLE = 10**6
"""A batch size above the number of rows."""
SEEDS = range(5)


@dataclass(frozen=True)
class Averaged(Fitter):
    """Averages the projections of several seeds."""

    def fit(self, rows: PooledTriplets, groups: Sequence[str], on_step: OnStep) -> Projections:
        """Fit with each seed, and average the weights."""
        found = [
            Fitter(self.start, self.names, replace(self.settings, seed=seed), self.device).fit(rows, groups, on_step)
            for seed in SEEDS
        ]
        return Projections(*(torch.stack([getattr(one, side) for one in found]).mean(0) for side in ("visual", "text")))


@dataclass(frozen=True)
class Symmetric(Fitter):
    """The loss of both directions on all rows at once, with Adam and a linear decay."""

    def fit(self, rows: PooledTriplets, _groups: Sequence[str], _on_step: OnStep) -> Projections:
        """Fit for as many steps as the settings have epochs."""
        weights = [tensor.detach().clone().requires_grad_() for tensor in (self.start.visual, self.start.text)]
        rates = [rate_for(tensor) for tensor in weights]
        optimiser = torch.optim.Adam([{"params": [one], "lr": rate} for one, rate in zip(weights, rates, strict=True)])
        pictures = torch.from_numpy(np.asarray(rows.pictures[rows.anchor]))
        titles = torch.from_numpy(np.asarray(rows.titles[rows.positive]))
        labels = torch.from_numpy(rows.labels[rows.positive])
        masked, (steps, temperature) = equal_titles(labels, labels), self.settings.steps()
        decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1e-9, steps)
        with one_thread():
            for _ in range(steps):
                seen, said = pictures @ weights[0].T, titles @ weights[1].T
                loss = ranking_loss(seen, said, 1 / temperature, masked)
                loss = loss + ranking_loss(said, seen, 1 / temperature, masked)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                decay.step()
        return Projections(*(tensor.detach() for tensor in weights))


def variants(start: Projections) -> dict[str, Fitter | None]:
    """Return {description: how to fit; None: not fitted}."""

    def steps(kind: type[Fitter] = Fitter, epochs: int | None = None, batch: int = 16, heat: float = 0.05) -> Fitter:
        warmth = None if epochs is None else heat
        settings = TrainSettings(
            model=READER, train="projection", epochs=epochs, batch_size=batch, temperature=warmth, negatives="none"
        )
        return kind(start, BOTH, settings, "cpu")

    return {
        "not trained": None,
        **{f"{n} epochs": steps(epochs=n) for n in (2, 10, 32)},
        **{f"10 epochs, temperature {heat}": steps(epochs=10, heat=heat) for heat in (0.02, 0.1, 0.2)},
        "epochs and temperature chosen on inner folds (the default)": steps(),
        **{f"full batch, {n} steps": steps(epochs=n, batch=WHOLE) for n in (30, 100)},
        **{f"full batch, both directions, {n} steps": steps(Symmetric, n) for n in (30, 100)},
        "10 epochs, weights averaged over 5 seeds": steps(Averaged, 10),
        "closed form: ridge": Fitter(start, (TEXT,), TrainSettings(model=READER, train=RIDGE), "cpu"),
        "closed form: CCA": Fitter(start, BOTH, TrainSettings(model=READER, train=CCA), "cpu"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_channel_options(parser)
    parser.add_argument("--repeats", type=int, default=3, help="number of divisions into folds")
    arguments = parser.parse_args()
    for name, catalogue in catalogues(arguments).items():
        with synced(catalogue()) as database:
            measure(database, name, arguments.repeats)


def measure(database: Database, name: str, repeats: int) -> None:
    chosen = train_and_valid(database)
    groups = [row.group_id for row in chosen.examples]
    reader = ReaderModel(database, "cpu")
    rows = triplets_of(pooled(database, reader, chosen, TrainSettings(model=READER)), chosen)
    start = reader.facts.projections
    print(f"\n## {name}: {len(groups)} rows\n")
    print("| the reader's vectors | match | 95 % interval | against not trained | search | processor seconds |")
    print("|---|---|---|---|---|---|")
    ranked = partial(ranks_of, groups=groups, repeats=repeats)
    first = ranked(Candidate(rows, start))[0]
    for variant, fitter in variants(start).items():
        begun = time.process_time()
        ranks, backwards, *_ = ranked(Candidate(rows, start, fitter))
        took, change = time.process_time() - begun, paired(first, ranks, groups)
        print(
            f"| {variant} | {recall(ranks)} | {interval(ranks, groups)} | {change.difference:+.3f} "
            f"({change.low:+.3f} to {change.high:+.3f}) | {recall(backwards)} | {took:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
