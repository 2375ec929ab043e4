"""Choosing negatives at 2,000, 10,000 and 50,000 titles: seconds and memory, the recipe's full matrix beside ours.

    python bench/mining.py [--titles 2000 10000 50000] [--beyond 60000] [--json]

Every measurement is a process of its own. Memory is the process's peak less what it held before it began, so the
embeddings themselves (154 MB at 50,000) don't count. The recipe's matrix of 50,000 titles alone would be 10 GB: it is
measured up to 10,000. Beyond 50,000 titles `hard` asks an approximate index; `same` then says for which share of a
sample of rows it took the very title that comparing all would give.

Titles are made up: 768 numbers each (as all-mpnet-base-v2's), around as many themes as the square root of their number.
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
    """Title embeddings: (n, 768) float32, made in place, some pairs of one theme above 0.9 alike, most below."""
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
    """The recipe: the full matrix, then row by row the least similar title that no row before took."""
    similar = vectors @ vectors.T
    chosen: list[int] = []
    for row in similar:
        row[chosen] = np.inf
        chosen.append(int(np.argmin(row)))
    return chosen


def measure(what: str, n: int) -> dict[str, Any]:
    """Mine n made-up titles in this process."""
    vectors = titles(n)
    groups = [str(row) for row in range(n)]
    vectors[:256] @ vectors[:256].T  # the library's threads and buffers are not the mining's
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
    """This process's peak of resident memory."""
    # Linux's getrusage begins with the peak of the process that started this one; only /proc knows its own.
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    # In bytes, as macOS has it.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def agreement(ours: list[int] | list[int | None], theirs: list[int]) -> float:
    return sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(theirs)


def recall(vectors: NDArray[np.float32], chosen: list[int] | list[int | None]) -> float:
    """The share of a sample of rows whose title is the one that comparing all titles gives."""
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
    parser.add_argument("--beyond", type=int, default=60_000, help="titles for the approximate index; 0: leave it out")
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
