"""The effect of settings on validation recall@1 on the demo channel, over several seeds: the basis of the defaults.

    python -m bench.choices [--seeds 8] [--only negatives fit ...]

Serves the drawn channel, syncs it once, and trains once for each choice and seed. The seed determines the order of the
batches, and the choice of random negatives. All runs use the same splits. The test split is not used.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from store.db import Database, open_database
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.session import ENCODER
from thumbtune.standin.server import StandIn
from trainer.runs import train
from trainer.settings import TrainSettings

# {question: {answer: settings}}; the first answer is the recipe's setting.
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "negatives": {name: {"negatives": name} for name in ("least-similar", "hard", "random", "none")},
    "mask": {"--no-mask (the recipe)": {"mask": False}, "--mask": {"mask": True}},
    "fit": {name: {"fit": name} for name in ("crop", "pad", "squash")},
    "precision": {name: {"precision": name} for name in ("fp32", "bf16")},
    "train": {
        "projection": {"train": "projection"},
        "visual_projection only": {"train": "visual_projection"},
        "last layers (REGEX)": {"train": r"layers\.(1|3)\.|projection"},
        "lora, rank 8": {"train": "lora"},
        "lora, rank 8, lr 1e-3": {"train": "lora", "lr": 1e-3},
        "all": {"train": "all"},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="number of seeds: 42, then 1, 2, ...")
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    arguments = parser.parse_args()
    seeds = [42, *range(1, arguments.seeds)]
    with tempfile.TemporaryDirectory() as folder, synced(Path(folder)) as database:
        print("| choice | answer | base valid recall@1 | tuned, mean | standard deviation | seeds | n |")
        print("|---|---|---|---|---|---|---|")
        for question in arguments.only:
            for answer, settings in CHOICES[question].items():
                print(line(database, question, answer, settings, seeds), flush=True)


def line(database: Database, question: str, answer: str, settings: dict[str, Any], seeds: list[int]) -> str:
    """Train once for each seed; return the row of the table."""
    tuned, base, n = [], 0.0, 0
    for seed in seeds:
        wanted = TrainSettings(
            **{"model": str(ENCODER), "title_model": "base", "bars": "keep", "seed": seed, **settings}
        )
        result = train(database, wanted)
        tuned.append(result.tuned.table()["valid"]["recall@1"])
        base, n = result.base.table()["valid"]["recall@1"], result.examples["valid"]
    spread = statistics.stdev(tuned) if len(tuned) > 1 else 0.0
    return f"| {question} | {answer} | {base:.3f} | {statistics.mean(tuned):.3f} | {spread:.3f} | {len(seeds)} | {n} |"


def synced(folder: Path) -> Database:
    """Return a store with the whole drawn channel."""
    url = f"sqlite:///{folder / 'thumbtune.db'}"
    catalogue = drawn_channel()
    with StandIn(catalogue) as server:
        subprocess.run(
            [sys.executable, "-m", "thumbtune", "-q", "sync", catalogue.handle],
            env={**os.environ, **server.environment(), "THUMBTUNE_DB": url},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return open_database(url)


if __name__ == "__main__":
    main()
