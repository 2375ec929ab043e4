"""A cold `search` and `match`: processor seconds (user and system) of a new process that answers one query.

    python -m bench.cold_start [--sizes vit-b-32] [--repeats 3]

Processor seconds, as wall-clock time says more of what else runs than of the work. The recipe's way is a process that
loads the model with sentence-transformers and embeds one text. The target is without reading the weights of the tower
that the query needs, which another process measures. `raw` has what the imports cost by themselves.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.models import SIZES, model_folder
from bench.results import Result, Target, add_json_option, say, show
from store.db import open_database
from tests.trainer.tiny import draw, fill
from thumbtune.demo.session import ENCODER
from trainer.models.reader import _place
from trainer.settings import DEFAULT_TEXT_MODEL, READER

TITLES = ("a red circle at sea", "a navy bar at night", "zebra")
RECIPE = "import sys; from sentence_transformers import SentenceTransformer as S; S(sys.argv[1]).encode(['a red cat'])"
IMPORTS = {
    "nothing": "pass",
    "torch": "import torch",
    "transformers' CLIP": "import torch; from transformers.models.clip.modeling_clip import CLIPTextModel",
    "sentence-transformers": "import sentence_transformers",
    "onnxruntime": "import onnxruntime",
}
"""Statements whose cost is stated beside the results."""
READ_WEIGHTS = """
import sys, torch
from safetensors import safe_open
with safe_open(sys.argv[1], "pt") as file:
    for name in file.keys():
        if name.startswith(sys.argv[2]):
            file.get_tensor(name).clone()
"""
TOWERS = {"search": "text_model", "match": "vision_model"}
"""The tower that a query of a known thumbnail library needs."""


def processor_seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """User and system seconds of a process."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime


def loading(model: Path, tower: str, environment: dict[str, str], repeats: int) -> float:
    """Processor seconds that reading a tower's weights takes, without imports; 0 if the model is not a folder."""
    weights = next(model.rglob("model.safetensors"), None)
    if weights is None:
        return 0.0
    # No tensor has the second name, so that this process only opens the file.
    ways = [[sys.executable, "-c", READ_WEIGHTS, str(weights), name] for name in (tower, "nothing")]
    reading, opening = (median(processor_seconds(way, environment) for _ in range(repeats)) for way in ways)
    return max(0.0, reading - opening)


def measure(name: str, model: Path, folder: Path, repeats: int) -> list[Result]:
    """The rows of one model: trained on 60 small pictures, then asked by new processes."""
    url = f"sqlite:///{folder / name}.db"
    with open_database(url, create=True) as database:
        fill(database, 60)
    cover = folder / "cover.png"
    cover.write_bytes(draw("purple", "circle", 3, "new"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "THUMBTUNE_DB": url}
    thumbtune = [sys.executable, "-m", "thumbtune", "-q"]
    train = [*thumbtune, "train", "--model", str(model), "--negatives", "random"]
    queries = {"search": [*thumbtune, "search", "a red cat"], "match": [*thumbtune, "match", str(cover), *TITLES]}
    say(f"{name}: training")
    processor_seconds(train, environment)
    of_recipe = [sys.executable, "-c", RECIPE, _place(DEFAULT_TEXT_MODEL) if name == READER else str(model)]
    results, recipe = [], [processor_seconds(of_recipe, environment)]
    for query, command in queries.items():
        first = processor_seconds(command, environment)
        spent = []
        for _ in range(repeats):
            recipe.append(processor_seconds(of_recipe, environment))
            spent.append(processor_seconds(command, environment))
        weights = loading(model, TOWERS[query], environment, repeats)
        results.append(
            Result(
                what=f"cold {query}, {name}: processor seconds without reading the tower's weights",
                recipe=None,
                thumbtune=median(spent) - weights,
                unit="s",
                target=Target("<=", 3, of="thumbtune"),
                how=f"`python -m bench.cold_start`: median of {repeats}; with the weights {median(spent):.1f} s, the "
                f"first query after the training {first:.1f} s, one text with the libraries {median(recipe):.1f} s",
                raw={"first_s": first, "thumbtune_s": spent, "recipe_s": recipe, "weights_s": weights},
            )
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="*", choices=sorted(SIZES), default=["vit-b-32"], help="beside the demo encoder"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", type=Path, help="keep the models in this folder")
    add_json_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {"demo encoder": ENCODER, READER: Path(READER)}
        models |= {size: model_folder(size, arguments.models or folder) for size in arguments.sizes}
        results = [row for name, model in models.items() for row in measure(name, model, folder, arguments.repeats)]
    environment = dict(os.environ)
    imports = {what: processor_seconds([sys.executable, "-c", code], environment) for what, code in IMPORTS.items()}
    say("imports: " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in imports.items()))
    results[0].raw["imports_s"] = imports
    show(results, arguments.json)


if __name__ == "__main__":
    main()
