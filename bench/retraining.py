"""Retraining compared with the recipe: first run, rerun, rerun with new videos, training loop, whole process.

    python -m bench.retraining [--model vit-l-14] [--row rerun] [--pairs 24 --rounds 1]

Each run is a separate process. A round measures one after another: the recipe; the first run on a newly synced store;
reruns with other seeds; and, on a second store with an earlier run, a run after new videos were synced. A row's ratio
is the median over the rounds of recipe / thumbtune within a round.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.channels import channel_of_pairs, sync, write_table
from bench.child import Measured, measure
from bench.models import SIZES, TITLE_MODEL, model_folder
from bench.results import Result, Target, add_json_option, say, show
from thumbtune.standin.catalogue import Catalogue, StandInVideo
from thumbtune.standin.server import StandIn

Seconds = Callable[[Measured], float]


@dataclass(frozen=True)
class Row:
    """One row of the table: the compared runs of a round, and the compared seconds.

    Args:
        name: the value of `--row`.
        what: a description.
        of: `first`, `reruns` or `after_sync`.
        at_least: the target of the ratio for ViT-B/32; None: only stated.
        recipe, thumbtune: functions that return the compared seconds.
    """

    name: str
    what: str
    of: str
    at_least: float | None
    recipe: Seconds = lambda measured: measured.work_s
    thumbtune: Seconds = lambda measured: measured.work_s


ROWS = (
    Row("first", "first run", "first", 3),
    Row("rerun", "rerun", "reruns", 50),
    Row("new", "rerun with {new} new videos", "after_sync", 12),
    Row(
        "loop",
        "the training loop alone",
        "reruns",
        300,
        lambda measured: measured.phases["fit"],
        lambda measured: float(measured.report["phases"]["fit"]),
    ),
    Row("first-process", "first run, the whole process", "first", None, *(lambda measured: measured.process_s,) * 2),
    Row("rerun-process", "rerun, the whole process", "reruns", None, *(lambda measured: measured.process_s,) * 2),
)


@dataclass
class Round:
    """The measurements of one round. `sync_s` has the seconds of each sync's process by the videos that it added."""

    recipe: Measured
    first: list[Measured] = field(default_factory=list)
    reruns: list[Measured] = field(default_factory=list)
    after_sync: list[Measured] = field(default_factory=list)
    sync_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """The environment of the rounds."""

    folder: Path
    model: str
    catalogue: Catalogue
    server: StandIn
    new: int
    reruns: int
    settings: dict[str, Any]

    def round(self, number: int, wanted: set[str]) -> Round:
        """Measure the recipe, and those of `first`, `reruns` and `after_sync` that are in `wanted`."""
        table = self.folder / "videos.csv"
        write_table(self.catalogue, self.server, table)
        say(f"{self.model}, round {number}: the recipe")
        model = str(model_folder(self.model, self.folder))
        found = Round(measure("recipe", table=str(table), model=model, title_model=TITLE_MODEL))
        if wanted & {"first", "reruns"}:
            store = f"sqlite:///{self.folder / f'round-{number}.db'}"
            found.sync_s["all"] = sync(self.catalogue, self.server, store)
            found.first = [self._train(store, model, 42, "first run")]
            seeds = range(1, self.reruns + 1) if "reruns" in wanted else ()
            found.reruns = [self._train(store, model, seed, "rerun") for seed in seeds]
        if "after_sync" in wanted:
            self._with_new_videos(f"sqlite:///{self.folder / f'round-{number}-growing.db'}", model, found)
        return found

    def _with_new_videos(self, store: str, model: str, found: Round) -> None:
        newest: list[StandInVideo] = list(self.catalogue.listed()[: self.new])
        for video in newest:
            self.catalogue.remove(video.id)
        sync(self.catalogue, self.server, store)
        self._train(store, model, 42, "run before the new videos")
        self.catalogue.publish(*newest)
        found.sync_s[f"{self.new} new"] = sync(self.catalogue, self.server, store)
        found.after_sync = [self._train(store, model, 42, f"rerun with {self.new} new videos")]

    def _train(self, store: str, model: str, seed: int, what: str) -> Measured:
        say(f"{self.model}: {what}, seed {seed}")
        base = {"model": model, "title_model": TITLE_MODEL, "seed": seed, "device": "cpu"}
        return measure("training_run", store=store, settings={**base, **self.settings})


def result_of(row: Row, rounds: Sequence[Round], bench: Bench, command: str) -> Result:
    recipe = [row.recipe(found.recipe) for found in rounds]
    runs: list[list[Measured]] = [getattr(found, row.of) for found in rounds]
    ours = [median(row.thumbtune(run) for run in inside) for inside in runs]
    count = f"median of {len(rounds)} round{'s' if len(rounds) > 1 else ''}"
    if len(runs[0]) > 1:
        count += f" of {len(runs[0])} reruns"
    synced = {"first": "all", "after_sync": f"{bench.new} new"}.get(row.of)
    if synced is not None:
        count += f"; without the sync before it ({median(found.sync_s[synced] for found in rounds):.1f} s)"
    stated = row.at_least is None or bench.model != "vit-b-32"
    return Result(
        what=f"{row.what.format(new=bench.new)}, {bench.model}, {len(bench.catalogue.videos)} pairs",
        recipe=median(recipe),
        thumbtune=median(ours),
        unit="s",
        ratio=median(theirs / our for theirs, our in zip(recipe, ours, strict=True)),
        target=None if stated or row.at_least is None else Target(">=", row.at_least),
        how=f"`{command} --row {row.name}`: {count}",
        raw={"recipe": recipe, "thumbtune": [[row.thumbtune(run) for run in inside] for inside in runs]},
    )


def setting(text: str) -> tuple[str, Any]:
    """Parse `lr=0.001` into a name and a value, as JSON if possible, else as text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[name for name in SIZES if "layer" not in name], default="vit-b-32")
    parser.add_argument("--row", choices=[row.name for row in ROWS], help="measure only this row")
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--new", type=int, default=10, help="videos published before the rerun with new videos")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--reruns", type=int, default=3, help="reruns in each round")
    parser.add_argument("--channel", type=Path, help="a folder with videos.json and thumbnails/ID.jpg")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of TrainSettings")
    parser.add_argument("--models", type=Path, help="folder to keep the models in for later runs")
    add_json_option(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    rows = [row for row in ROWS if arguments.row in (None, row.name)]
    settings = dict(setting(text) for text in arguments.set)
    catalogue = channel_of_pairs(arguments.pairs, arguments.channel)
    with tempfile.TemporaryDirectory() as scratch, StandIn(catalogue) as server:
        folder = Path(scratch)
        if arguments.models is not None:
            model = model_folder(arguments.model, arguments.models)
            (folder / arguments.model).symlink_to(model.absolute(), target_is_directory=True)
        bench = Bench(folder, arguments.model, catalogue, server, arguments.new, arguments.reruns, settings)
        rounds = [bench.round(number, {row.of for row in rows}) for number in range(1, arguments.rounds + 1)]
    command = "python -m bench.retraining"
    if arguments.model != "vit-b-32":
        command += f" --model {arguments.model}"
    results = [result_of(row, rounds, bench, command) for row in rows]
    results[0].raw["rounds"] = [asdict(found) for found in rounds]
    show(results, arguments.json)


if __name__ == "__main__":
    main()
