"""Train a tiny CLIP in every process of a group: `main` with the arguments MODEL and FILE, in torchrun's environment.

`train_cases` does the same without a group. Both return the results of each case: losses, learning rates, the gradients
of the first steps, and the final weights.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.trainer.oracle import NAMES, Drawn
from tests.trainer.tiny import load_encoder
from trainer.fitting import Step, WholeLearner
from trainer.fitting.steps import Triplets
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings

__all__ = ["CASES", "Trained", "main", "train_cases"]

# 20 names, with a title that is also another row's title and negative, and with two titles of one group.
TITLES = [*NAMES[:18], NAMES[0].upper(), NAMES[1]]
MINED = Triplets(NAMES, TITLES, [*TITLES[7:], *TITLES[:7]], [f"g{row % 17}" for row in range(20)])

# A high temperature keeps the norm of the gradients below 1, so that they are not clipped.
_BASE: dict[str, Any] = {"train": "all", "epochs": 2, "batch_size": 8, "lr": 1e-4, "seed": 7, "temperature": 5.0}
CASES: dict[str, tuple[Triplets, dict[str, Any]]] = {
    "masked, last batch of 4": (MINED, _BASE),
    "unmasked, last batch of 2": (MINED, {**_BASE, "mask": False, "batch_size": 6}),
    "not mined, odd batches, last batch of 1": (Triplets(NAMES[:19], TITLES[:19], None), {**_BASE, "batch_size": 9}),
    "lora": (MINED, {**_BASE, "train": "lora", "lr": 1e-3}),
    "a few layers, clipped": (MINED, {**_BASE, "train": r"layers\.1\..*mlp", "temperature": 0.05}),
}


@dataclass
class Trained:
    """The results of one training."""

    steps: list[Step] = field(default_factory=list)
    gradients: list[list[Tensor]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


def train_cases(model: Path) -> dict[str, Trained]:
    """Train all cases, in this process or, together with the others, in this process of a group."""
    found = {}
    for name, (rows, settings) in CASES.items():
        done = found[name] = Trained()

        def keep(optimiser: Any, _args: Any, _options: Any, done: Trained = done) -> None:
            of_all = [parameter for group in optimiser.param_groups for parameter in group["params"]]
            done.gradients.append([(torch.zeros(()) if p.grad is None else p.grad).clone() for p in of_all])

        with quiet_libraries():
            encoder = load_encoder(str(model), "cpu")
            learner = WholeLearner(encoder, {}, Drawn(), TrainSettings(**settings))
            hook = register_optimizer_step_pre_hook(keep)
            try:
                learner.fit(rows, done.steps.append)
            finally:
                hook.remove()
        done.weights = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    return found


def main() -> None:
    """Train all cases together with the other processes, and save the results to FILE-RANK."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    results = train_cases(Path(sys.argv[1]))
    torch.save(results, f"{sys.argv[2]}-{os.environ['RANK']}")
    distributed.destroy_process_group()
