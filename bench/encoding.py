"""Encode thumbnails and titles with the frozen towers, compared with only their matrix products, and in bf16.

    python -m bench.encoding [--model vit-b-32] [--row forward] [--repeats 5]

`trainer.models.features` encodes the channel's thumbnails and titles from a store without cached vectors: reading,
decoding, preprocessing and both towers, in seconds. The lower bound is `bench.matrix_products`: only the matrix
products of these forward passes. Each repetition measures both, one after another. A row's ratio is the median over the
repetitions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.channels import channel_of_pairs, sync
from bench.matrix_products import MatrixProducts, gigaflops_of_a_square
from bench.models import SIZES, model_folder
from bench.results import Result, Target, add_json_option, show
from store.db import Database, open_database
from store.training import current_pairs
from thumbtune.standin.server import StandIn
from trainer.data import StoredPictures, batches
from trainer.models import Features, LazyModel, pick_precision
from trainer.models.towers import BATCH, Towers
from trainer.quiet import quiet_libraries


@dataclass(frozen=True)
class Row:
    """One row of the table: the compared seconds, and the target for ViT-B/32.

    Args:
        name: the value of `--row`.
        what: a description.
        theirs, ours: keys of `compare`'s seconds; `theirs` go to the recipe's column.
        target: its sense determines the ratio: theirs / ours (`>=`) or ours / theirs (`<=`).
        against: a description of `theirs`.
    """

    name: str
    what: str
    theirs: str
    ours: str
    target: Target
    against: str


ALONE = "the matrix products alone"
ROWS = (
    Row("encoding", "fp32 encoding, decoding included", "products", "encoding", Target("<=", 1.15), ALONE),
    Row("forward", "fp32 encoding, forward pass alone", "products", "forward", Target("<=", 1.15), ALONE),
    Row("bf16", "bf16 encoding", "encoding", "encoding in bf16", Target(">=", 1.8), "fp32"),
)


@dataclass(frozen=True)
class Work:
    """The data to encode, and the model."""

    database: Database
    model: LazyModel
    digests: Sequence[str]
    titles: Sequence[str]

    def encode(self, precision: str) -> None:
        """Encode everything like a first run, without caching the vectors."""
        features = Features(self.database, self.model, precision, "crop")
        features.pictures(self.digests, StoredPictures(self.database), lambda _n: None, keep=False)
        features.titles(self.titles, lambda _n: None, keep=False)

    def prepared_forward(self, precision: str) -> Callable[[], None]:
        """Return a function that runs the same batches, already decoded and preprocessed, through the towers."""
        towers = Towers(self.model.encoder().model, "cpu", precision)
        source = StoredPictures(self.database)
        pictures = [towers.prepared_pictures(source.load(batch)) for batch in batches(self.digests, BATCH)]
        texts = [towers.prepared_titles(batch) for batch in batches(sorted(self.titles, key=len), BATCH)]

        def forward() -> None:
            for prepared in pictures:
                towers.pooled_pictures(prepared)
            for prepared in texts:
                towers.pooled_titles(prepared)

        return forward


def compare(work: Work, repeats: int) -> dict[str, Any]:
    """Return {what: [seconds of each repetition]}, with the operations of the products and the peak GFLOP/s."""
    ways: dict[str, Callable[[], None]] = {
        "encoding": lambda: work.encode("fp32"),
        "forward": work.prepared_forward("fp32"),
    }
    if pick_precision("auto", "cpu") == "bf16":
        ways["encoding in bf16"] = lambda: work.encode("bf16")
        ways["forward in bf16"] = work.prepared_forward("bf16")
    products = MatrixProducts()
    with products.record(work.model.encoder().model):
        ways["forward"]()
    spent: dict[str, list[float]] = {name: [] for name in ("products", *ways)}
    best = []
    # The first repetition is dropped: it fills the page cache and starts the libraries' threads.
    for _ in range(repeats + 1):
        spent["products"].append(products.run())
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - started)
        best.append(gigaflops_of_a_square())
    counted = {name: values[1:] for name, values in spent.items()}
    return {**counted, "gigaflop": products.flops / 1e9, "gigaflops_of_a_square": max(best)}


def result_of(row: Row, found: dict[str, Any], model: str, what: str) -> Result:
    theirs, ours = found[row.theirs], found[row.ours]
    over, under = (ours, theirs) if row.target.sense == "<=" else (theirs, ours)
    command = "python -m bench.encoding" + (f" --model {model}" if model != "vit-b-32" else "")
    return Result(
        what=f"{row.what}, {model}, {what}",
        recipe=median(theirs),
        thumbtune=median(ours),
        unit="s",
        ratio=median(one / other for one, other in zip(over, under, strict=True)),
        target=row.target if model == "vit-b-32" else None,
        against=row.against,
        how=f"`{command} --row {row.name}`: median of {len(ours)}",
        raw=found,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SIZES), default="vit-b-32")
    parser.add_argument("--row", choices=[row.name for row in ROWS], help="measure only this row")
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channel", type=Path, help="a folder with videos.json and thumbnails/ID.jpg")
    parser.add_argument("--models", type=Path, help="folder to keep the model in for later runs")
    add_json_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, quiet_libraries():
        store = f"sqlite:///{Path(scratch) / 'thumbtune.db'}"
        catalogue = channel_of_pairs(arguments.pairs, arguments.channel)
        with StandIn(catalogue) as server:
            sync(catalogue, server, store)
        model = model_folder(arguments.model, arguments.models or Path(scratch))
        with open_database(store) as database:
            with database.read() as session:
                pairs = current_pairs(session)
            digests = list(dict.fromkeys(pair.picture_sha256 for pair in pairs))
            titles = list(dict.fromkeys(pair.title for pair in pairs))
            found = compare(Work(database, LazyModel(database, str(model), "cpu"), digests, titles), arguments.repeats)
    what = f"{len(digests)} thumbnails and {len(titles)} titles"
    # Rows are omitted for a processor without bf16.
    rows = [row for row in ROWS if arguments.row in (None, row.name) and row.ours in found]
    show([result_of(row, found, arguments.model, what) for row in rows], arguments.json)


if __name__ == "__main__":
    main()
