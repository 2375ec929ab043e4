"""The results of a benchmark script: rows of the table that `python -m bench` prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Result", "Target", "add_json_option", "from_json", "say", "show", "table"]

_HEADER = ("what", "recipe", "thumbtune", "ratio", "target", "how measured")


@dataclass(frozen=True)
class Target:
    """A row's target.

    Args:
        sense: whether the number must be at least or at most `limit`.
        limit: the limit.
        of: `ratio`, or `thumbtune` for that column's number in its unit.
    """

    sense: Literal[">=", "<="]
    limit: float
    of: Literal["ratio", "thumbtune"] = "ratio"


@dataclass(frozen=True)
class Result:
    """One row.

    Args:
        what: a description of the measured work.
        recipe: the recipe's number; None if it has none.
        thumbtune: thumbtune's number.
        unit: the unit of both (`s`, `ms`, `GB`, `trials/min`).
        how: the command that reproduces this row, and notes.
        ratio: how many times better than the recipe, or as `what` describes; None without a comparison.
        target: the target; None if the number is only stated.
        against: the content of the `recipe` column if it isn't the recipe (`the matrix products alone`).
        raw: all measurements, in seconds unless the name says otherwise; only for the JSON file.
    """

    what: str
    recipe: float | None
    thumbtune: float
    unit: str
    how: str
    ratio: float | None = None
    target: Target | None = None
    against: str = ""
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        if self.target is None:
            return None
        number = self.ratio if self.target.of == "ratio" else self.thumbtune
        if number is None:
            return False
        return number >= self.target.limit if self.target.sense == ">=" else number <= self.target.limit

    def cells(self) -> tuple[str, ...]:
        """The row's cells, in the order of the table's columns."""
        recipe = "" if self.recipe is None else _number(self.recipe, self.unit)
        return (
            self.what,
            f"{recipe} ({self.against})" if self.against else recipe,
            _number(self.thumbtune, self.unit),
            "" if self.ratio is None else f"{self.ratio:.3g}",
            self._target(),
            self.how,
        )

    def _target(self) -> str:
        if self.target is None:
            return "stated"
        limit = f"{self.target.limit:g}" if self.target.of == "ratio" else _number(self.target.limit, self.unit)
        return f"{self.target.sense} {limit}: {'met' if self.met else 'MISSED'}"


def _number(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if abs(value) < 1000 else f"{value:,.0f} {unit}"


def table(results: Sequence[Result]) -> str:
    """Format the results as a Markdown table."""
    rows = [_HEADER, tuple("---" for _ in _HEADER), *(result.cells() for result in results)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, with which `python -m bench` calls every script."""
    parser.add_argument("--json", action="store_true", help="print the raw results as JSON instead of the table")


def say(text: str) -> None:
    """Print progress to stderr, because results go to stdout."""
    print(text, file=sys.stderr, flush=True)


def show(results: Sequence[Result], as_json: bool) -> None:
    """Print the table, or the JSON that `from_json` reads."""
    if as_json:
        print(json.dumps([{**asdict(result), "met": result.met} for result in results], indent=1))
    else:
        print(table(results))


def from_json(text: str) -> list[Result]:
    """Parse the output of `show(results, as_json=True)`.

    Raises:
        ValueError: the text is not such an output.
    """
    rows: list[dict[str, Any]] = json.loads(text)
    results = []
    for row in rows:
        row.pop("met", None)
        target = row.pop("target")
        results.append(Result(**row, target=None if target is None else Target(**target)))
    return results
