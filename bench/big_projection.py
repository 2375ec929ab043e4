"""Memory (GB) and time (seconds) of training projections on more vectors than fit in memory.

    python -m bench.big_projection [--pairs 1000000] [--batch-size 16] [--budget 2e9] [--folder DIR] [--json]

The vectors are synthetic, with the widths of ViT-L/14: 1,024 numbers per thumbnail and 768 per title, in files of 7.2
GB for 10^6 pairs. Each training method runs in a separate process on the same files: steps over one epoch, `cca` and
`ridge`. Memory is the peak resident memory of the process. Only the fit is measured, not reading features from the
store, and not scoring.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.child import measure
from bench.clock import Clock
from bench.results import Result, Target, add_json_option, say, show

WIDTHS = (1024, 768)
SPACE = 768
_AT_ONCE = 1 << 14


def run(clock: Clock, *, train: str, pairs: int, batch_size: int, budget: float, folder: str) -> dict[str, Any]:
    """Write the files of vectors and train once, in a separate process."""
    import numpy as np  # noqa: PLC0415 (a child's imports are timed)
    import torch  # noqa: PLC0415

    from trainer.fitting.fitter import Fitter  # noqa: PLC0415
    from trainer.fitting.projections import PooledTriplets  # noqa: PLC0415
    from trainer.models import TEXT, VISUAL, Projections, VectorFile  # noqa: PLC0415
    from trainer.settings import TrainSettings  # noqa: PLC0415

    generator = np.random.default_rng(0)
    files = [VectorFile(Path(folder), pairs, width, int(budget)) for width in WIDTHS]
    with clock.phase("make"):
        for start in range(0, pairs, _AT_ONCE):
            for file in files:
                n = min(_AT_ONCE, pairs - start)
                file.put(start, generator.standard_normal((n, file.shape[1]), dtype=np.float32))
    numbers = np.arange(pairs)
    rows = PooledTriplets(files[0], files[1], numbers, numbers, numbers, generator.permutation(numbers))
    torch.manual_seed(0)
    projections = Projections(*(torch.randn(SPACE, width) * 0.03 for width in WIDTHS))
    settings = TrainSettings(train=train, epochs=1, batch_size=batch_size)
    fitter = Fitter(projections, [VISUAL, TEXT], settings, "cpu")
    steps: list[float] = []
    with clock.phase("fit"):
        fitter.fit(rows, [str(number // 2) for number in range(pairs)], lambda step: steps.append(step.loss))
    return {"steps": len(steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--budget", type=float, default=2e9, help="bytes of --features-in-memory")
    parser.add_argument("--folder", type=Path, help="folder for the files; not one in memory")
    parser.add_argument("--train", nargs="+", default=["projection", "cca", "ridge"])
    add_json_option(parser)
    arguments = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for train in arguments.train:
            say(f"{train}, {arguments.pairs:,} pairs")
            found = measure(
                "big_projection",
                train=train,
                pairs=arguments.pairs,
                batch_size=arguments.batch_size,
                budget=arguments.budget,
                folder=folder,
            )
            how = f"`python -m bench.big_projection --pairs {arguments.pairs} --batch-size {arguments.batch_size}`"
            what = f"{train} on {arguments.pairs:,} pairs of {WIDTHS[0]:,} + {WIDTHS[1]:,} numbers"
            results += [
                Result(
                    what=f"{what}: peak memory",
                    recipe=None,
                    thumbtune=found.peak_rss_mb / 1000,
                    unit="GB",
                    target=Target("<=", 4.0, of="thumbtune"),
                    how=how,
                    raw=asdict(found),
                ),
                Result(
                    what=f"{what}: {'an epoch' if train == 'projection' else 'the fit'}",
                    recipe=None,
                    thumbtune=found.phases["fit"],
                    unit="s",
                    how=how,
                ),
            ]
    show(results, arguments.json)


if __name__ == "__main__":
    main()
