"""Search the vectors of 100,000 thumbnails in memory.

    python -m bench.searching [--vectors 100000] [--width 512] [--queries 20]

The recipe uses sentence_transformers.util: `semantic_search`, or `cos_sim` of all vectors with `topk`. All three
methods run each query one after another; the figures are medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.util import cos_sim, semantic_search

from bench.results import Result, Target, add_json_option, show
from trainer.library.library import rank_library

Vectors = NDArray[np.float32]
K = 10


def unit_vectors(n: int, width: int) -> Vectors:
    vectors = np.random.default_rng(n).standard_normal((n, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def compare(vectors: int, width: int, queries: int) -> dict[str, list[float]]:
    """Return the milliseconds of each query by method. Asserts that all methods give the same results."""
    library = unit_vectors(vectors, width)
    corpus = torch.from_numpy(library)
    ways: dict[str, Callable[[Vectors], list[int]]] = {
        "thumbtune": lambda query: rank_library(query, library, K)[0].tolist(),
        "semantic_search": lambda query: [
            int(hit["corpus_id"]) for hit in semantic_search(torch.from_numpy(query), corpus, top_k=K)[0]
        ],
        "cos_sim": lambda query: torch.topk(cos_sim(torch.from_numpy(query), corpus)[0], K).indices.tolist(),
    }
    spent_ms: dict[str, list[float]] = {name: [] for name in ways}
    for query in unit_vectors(queries + 1, width):
        answers = []
        for name, way in ways.items():
            started = time.perf_counter()
            answers.append(way(query))
            spent_ms[name].append((time.perf_counter() - started) * 1000)
        assert answers[0] == answers[1] == answers[2]
    # The first query is dropped: it starts the libraries' threads.
    return {name: values[1:] for name, values in spent_ms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=20)
    add_json_option(parser)
    arguments = parser.parse_args()
    spent_ms = compare(arguments.vectors, arguments.width, arguments.queries)
    ours, theirs = median(spent_ms["thumbtune"]), min(median(spent_ms["semantic_search"]), median(spent_ms["cos_sim"]))
    result = Result(
        what=f"search of {arguments.vectors:,} thumbnails, {arguments.width} wide, in memory",
        recipe=theirs,
        thumbtune=ours,
        unit="ms",
        ratio=theirs / ours,
        target=Target("<=", 100, of="thumbtune"),
        how=f"`python -m bench.searching`: median of {arguments.queries} queries; the recipe's faster method",
        raw={f"{name}_ms": values for name, values in spent_ms.items()},
    )
    show([result], arguments.json)


if __name__ == "__main__":
    main()
