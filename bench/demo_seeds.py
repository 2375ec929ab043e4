"""What fine-tuning gains on the demo channel, over several seeds: the README's table.

    python -m bench.demo_seeds [--seeds 42 1 2 3 4] [-- more options of `thumbtune train`]

Serves the drawn channel, syncs it once, and runs the real `thumbtune train` once a seed. A seed decides the order of
the batches; the split is the store's own and the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from store.db import open_database, rows_as_dicts
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.session import DRAWN, ENCODER
from thumbtune.standin.server import StandIn
from trainer.scoring import mcnemar

RANKS = """
SELECT model, video_id, rank FROM rank
WHERE run_id = :run AND split = 'test' AND direction = 'thumbnail_to_title'
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2, 3, 4])
    parser.add_argument("options", nargs="*", help="more options of `thumbtune train`, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'thumbtune.db'}"
        catalogue = drawn_channel()
        with StandIn(catalogue) as server:
            environment = {**os.environ, **server.environment(), "THUMBTUNE_DB": store}
            thumbtune(environment, "sync", catalogue.handle)
        print("| seed | n | base | tuned | only base right | only tuned right | p |")
        print("|---|---|---|---|---|---|---|")
        gains = [report(seed, store, environment, arguments.options) for seed in arguments.seeds]
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    print(f"\nmean gain {statistics.mean(gains):.3f}, standard deviation {spread:.3f} over {len(gains)} seeds")


def report(seed: int, store: str, environment: dict[str, str], options: list[str]) -> float:
    """Train with one seed, print its line, and return tuned - base recall@1 on the test split."""
    model = ("--model", str(ENCODER), "--title-model", "base", *DRAWN, "--seed", str(seed))
    run = thumbtune(environment, "train", *model, *options)["run_id"]
    database = open_database(store, read_only=True)
    with database.read() as session:
        rows = rows_as_dicts(session, RANKS, run=run)
    database.close()
    base, tuned = ({row["video_id"]: row["rank"] for row in rows if row["model"] == name} for name in ("base", "tuned"))
    result = mcnemar(base, tuned)
    before, after = ((result.both + alone) / result.n for alone in (result.only_a, result.only_b))
    print(f"| {seed} | {result.n} | {before:.3f} | {after:.3f} | {result.only_a} | {result.only_b} | {result.p:.2g} |")
    return after - before


def thumbtune(environment: dict[str, str], *arguments: str) -> Any:
    command = [sys.executable, "-m", "thumbtune", "-q", *arguments, "--json"]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(result.stdout)


if __name__ == "__main__":
    main()
