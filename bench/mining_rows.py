"""The results of `bench.mining` as rows of the table.

python -m bench.mining_rows [--titles 2000 10000 50000] [--beyond 60000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.results import Result, Target, add_json_option, show

SCRIPT = Path(__file__).with_name("mining.py")
EXACT_AT = 2000
FLAT_AT = 50_000


def mined(titles: list[int], beyond: int) -> list[dict[str, Any]]:
    """Run the script: {what, titles, seconds, extra_bytes} and, for some rows, `same`, the share of equal choices."""
    sizes = [str(n) for n in titles]
    command = [sys.executable, str(SCRIPT), "--json", "--beyond", str(beyond), "--titles", *sizes]
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def rows_of(found: list[dict[str, Any]]) -> list[Result]:
    recipe = {row["titles"]: row for row in found if row["what"] == "recipe"}
    results = []
    for row in found:
        if row["what"] == "recipe":
            continue
        n = row["titles"]
        command = f"`python bench/mining.py --titles {n} --beyond 0`"
        if row["what"] == "least-similar" and n == EXACT_AT:
            results.append(_same(row, command))
        # The recipe has one strategy: least-similar.
        theirs = recipe.get(n) if row["what"] == "least-similar" else None
        results += [_seconds(row, theirs, command), _memory(row, theirs, command)]
    return results


def _same(row: dict[str, Any], command: str) -> Result:
    return Result(
        what=f"{row['what']} negatives equal to the recipe's, {row['titles']:,} titles",
        recipe=None,
        thumbtune=100 * row["same"],
        unit="%",
        target=Target(">=", 100, of="thumbtune"),
        how=f"{command}: synthetic titles",
        raw=row,
    )


def _seconds(row: dict[str, Any], recipe: dict[str, Any] | None, command: str) -> Result:
    return Result(
        what=f"mining {row['what']} negatives, {row['titles']:,} titles",
        recipe=None if recipe is None else recipe["seconds"],
        thumbtune=row["seconds"],
        unit="s",
        ratio=None if recipe is None else recipe["seconds"] / row["seconds"],
        how=f"{command}: once" + _sampled(row),
        raw=row,
    )


def _sampled(row: dict[str, Any]) -> str:
    """Describe the accuracy of the approximate index."""
    if row["what"] != "hard" or "same" not in row:
        return ""
    return f"; {row['same']:.1%} of a sample equal to an exact search"


def _memory(row: dict[str, Any], recipe: dict[str, Any] | None, command: str) -> Result:
    flat = row["what"] == "least-similar" and row["titles"] == FLAT_AT
    return Result(
        what=f"memory of mining {row['what']} negatives, {row['titles']:,} titles",
        recipe=None if recipe is None else recipe["extra_bytes"] / 1e9,
        thumbtune=row["extra_bytes"] / 1e9,
        unit="GB",
        ratio=None if recipe is None else recipe["extra_bytes"] / max(1, row["extra_bytes"]),
        target=Target("<=", 1, of="thumbtune") if flat else None,
        how=f"{command}: peak minus the memory before mining",
        raw=row,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", type=int, nargs="+", default=[EXACT_AT, 10_000, FLAT_AT])
    parser.add_argument("--beyond", type=int, default=60_000, help="titles for the approximate index; 0: skip it")
    add_json_option(parser)
    arguments = parser.parse_args()
    show(rows_of(mined(arguments.titles, arguments.beyond)), arguments.json)


if __name__ == "__main__":
    main()
