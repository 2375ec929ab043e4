"""Trials per minute of a sweep on cached vectors.

    python -m bench.sweeping [--pairs 120] [--trials 100] [--model vit-b-32]

Runs two sweeps: one over the settings of training projections in steps, and one over the command's default space, in
which most trials also fit the reader's weights on five folds. Each sweep runs in a separate process. It is measured
from opening the store to the winner's metrics on the test split, without imports. Thumbnails and titles are encoded and
read before; `bench.retraining` measures this work of a first run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench.channels import channel_of_pairs, sync
from bench.child import Measured, measure
from bench.clock import Clock
from bench.models import SIZES, TITLE_MODEL, model_folder
from bench.results import Result, Target, add_json_option, show
from store.db import open_database
from thumbtune.standin.server import StandIn
from trainer.settings import TrainSettings
from trainer.sweep import Space, SweepSettings
from trainer.sweep.search import run_sweep

__all__ = ["run"]


STEPS = {"train": "projection", "fit": "crop", "with_reader": "no"}


def run(clock: Clock, *, store: str, shared: dict[str, Any], space: dict[str, str], trials: int) -> dict[str, Any]:
    """Sweep once.

    Args:
        clock: times the process.
        store: the store's URL.
        shared: fields of `TrainSettings`.
        space: the settings to search, as `Space.read` takes them.
        trials: the number of trials.

    Returns:
        {"trials", "runs", "diverged"}: numbers of trials, of their runs (without the final run), and of failed trials.
    """
    with clock.phase("sweep"), open_database(store) as database:
        result = run_sweep(database, SweepSettings(TrainSettings(**shared), Space.read(space), trials=trials))
    return {"trials": len(result.standings) + result.failed, "runs": result.runs, "diverged": result.failed}


def swept(pairs: int, trials: int, model: str, models: Path) -> list[Measured]:
    catalogue = channel_of_pairs(pairs)
    with tempfile.TemporaryDirectory() as folder, StandIn(catalogue) as server:
        store = f"sqlite:///{Path(folder) / 'thumbtune.db'}"
        sync(catalogue, server, store)
        shared = {"model": str(model_folder(model, models)), "title_model": TITLE_MODEL, "device": "cpu"}
        # Encodes and reads all thumbnails, and compares the titles.
        measure("sweeping", store=store, shared=shared, space={}, trials=1)
        return [measure("sweeping", store=store, shared=shared, space=space, trials=trials) for space in (STEPS, {})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--model", choices=sorted(SIZES), default="vit-b-32")
    parser.add_argument("--models", type=Path, help="folder to keep the models in (default: a temporary folder)")
    add_json_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models or Path(folder)
        found = swept(arguments.pairs, arguments.trials, arguments.model, models)
    size = f"{arguments.model}, {arguments.pairs} pairs"
    show(
        [
            _result(f"sweep in steps, 3 seeds a trial and 5 more for 5 finalists, {size}", found[0], 100),
            _result(f"sweep over the default space, {size}", found[1], None),
        ],
        arguments.json,
    )


def _result(what: str, found: Measured, least: float | None) -> Result:
    minutes = found.work_s / 60
    return Result(
        what=what,
        recipe=None,
        thumbtune=found.report["trials"] / minutes,
        unit="trials/min",
        target=None if least is None else Target(">=", least, of="thumbtune"),
        how=f"`python -m bench.sweeping`: {found.report['trials']} trials in {found.work_s:.0f} s, without imports; "
        f"{found.report['runs'] / minutes:.0f} recorded runs/min",
        raw={**found.report, "work_s": found.work_s, "imports_s": found.imports_s, "process_s": found.process_s},
    )


if __name__ == "__main__":
    main()
