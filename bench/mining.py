"""Time and memory of mining negatives at 2,000, 10,000 and 50,000 titles, compared with the recipe's full matrix.

    python bench/mining.py [--titles 2000 10000 50000] [--beyond 60000] [--json]

Each measurement is a separate process. Memory is the process's peak minus its memory before mining, so the embeddings
(154 MB at 50,000) don't count. The recipe is only measured up to 10,000 titles, because its matrix of 50,000 titles
would take 10 GB. Beyond 50,000 titles `hard` uses an approximate index; then `same` is the share of a sample of rows
for which it chose the same title as an exact search.

The title vectors are synthetic: 768 values (like all-mpnet-base-v2's) around sqrt(n) themes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from trainer.data.cosines import Cosines
from trainer.data.negatives import EXACT_UP_TO, hard, least_similar

DIMENSIONS = 768
MATRIX_UP_TO = 10_000
MAX_SIMILARITY = 0.9
SAMPLE = 1000


def titles(n: int) -> NDArray[np.float32]:
    """Return synthetic title embeddings, (n, 768) float32. Some pairs have a cosine above 0.9."""
    generator = np.random.default_rng(n)
    themes = generator.standard_normal((max(1, int(n**0.5)), DIMENSIONS), dtype=np.float32)
    vectors = np.empty((n, DIMENSIONS), dtype=np.float32)
    generator.standard_normal(out=vectors, dtype=np.float32)
    for row, theme in enumerate(generator.integers(len(themes), size=n)):
        vectors[row] *= generator.uniform(0.2, 1.5)
        vectors[row] += themes[theme]
        vectors[row] /= np.linalg.norm(vectors[row])
    return vectors


def recipe(vectors: NDArray[np.float32]) -> list[int]:
    """The recipe: for each row of the full matrix, the least similar title that no earlier row chose."""
    similar = vectors @ vectors.T
    chosen: list[int] = []
    for row in similar:
        row[chosen] = np.inf
        chosen.append(int(np.argmin(row)))
    return chosen


def measure(what: str, n: int) -> dict[str, Any]:
    """Mine n synthetic titles in this process."""
    vectors = titles(n)
    groups = [str(row) for row in range(n)]
    vectors[:256] @ vectors[:256].T  # start the library's threads and buffers, which must not count
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    chosen: list[int] | list[int | None]
    if what == "recipe":
        chosen = recipe(vectors)
    elif what == "least-similar":
        chosen = least_similar(vectors, groups)
    else:
        chosen = hard(vectors, groups, MAX_SIMILARITY)
    seconds = time.perf_counter() - start
    result = {"what": what, "titles": n, "seconds": seconds, "extra_bytes": peak_bytes() - before}
    if what == "least-similar" and n <= MATRIX_UP_TO:
        result["same"] = agreement(chosen, recipe(vectors))
    if what == "hard" and n > EXACT_UP_TO:
        result["same"] = recall(vectors, chosen)
    return result


def peak_bytes() -> int:
    """Return this process's peak resident memory in bytes."""
    # On Linux, getrusage includes the peak of the parent process; /proc has this process's own peak.
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    # macOS reports bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def agreement(ours: list[int] | list[int | None], theirs: list[int]) -> float:
    return sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(theirs)


def recall(vectors: NDArray[np.float32], chosen: list[int] | list[int | None]) -> float:
    """Return the share of a sample of rows for which an exact search gives the same title."""
    rows = np.random.default_rng(0).choice(len(vectors), SAMPLE, replace=False)
    cosines, right = Cosines(vectors), 0
    for row, similar in zip(rows, cosines.between(rows, np.arange(len(vectors))), strict=True):
        similar[row] = np.inf
        right += cosines.highest(row, similar, MAX_SIMILARITY) == chosen[row]
    return right / SAMPLE


def plan(sizes: list[int], beyond: int) -> list[tuple[str, int]]:
    wanted = [(what, n) for n in sizes for what in ("recipe", "least-similar", "hard")]
    wanted = [(what, n) for what, n in wanted if what != "recipe" or n <= MATRIX_UP_TO]
    return [*wanted, ("hard", beyond)] if beyond else wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=int, nargs="+", default=[2000, 10_000, 50_000])
    parser.add_argument("--beyond", type=int, default=60_000, help="titles for the approximate index; 0: skip it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    results = []
    if not arguments.json:
        print("| what | titles | seconds | memory, MB | same |\n|---|---|---|---|---|", flush=True)
    for what, n in plan(arguments.titles, arguments.beyond):
        command = [sys.executable, str(Path(__file__).resolve()), "--one", what, str(n)]
        result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
        results.append(result)
        if not arguments.json:
            same = f"{result['same']:.1%}" if "same" in result else ""
            memory = result["extra_bytes"] / 1e6
            print(f"| {what} | {n:,} | {result['seconds']:.2f} | {memory:.0f} | {same} |", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
