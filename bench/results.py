"""What a measurement found: one row of the table that `python -m bench` prints. Each script gives a list of them."""

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
    """What a row has to reach.

    Args:
        sense: on which side of `limit` it has to be; the limit itself is enough.
        limit: the number.
        of: `ratio`, or `thumbtune` for that column's number in its own unit.
    """

    sense: Literal[">=", "<="]
    limit: float
    of: Literal["ratio", "thumbtune"] = "ratio"


@dataclass(frozen=True)
class Result:
    """One row.

    Args:
        what: the work measured, in words.
        recipe: the recipe's number; None where it has none.
        thumbtune: thumbtune's number.
        unit: of both (`s`, `ms`, `GB`, `trials/min`).
        how: the command that reproduces just this row, then whatever a reader has to know.
        ratio: how many times better than the recipe, or what `what` says; None without something to compare with.
        target: what has to be reached; None where the number is only stated.
        against: what the `recipe` column holds where it isn't the recipe (`the matrix products alone`).
        raw: all that was measured, in seconds unless its name says otherwise; for the JSON file only.
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
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        number = self.ratio if self.target.of == "ratio" else self.thumbtune
        if number is None:
            return False
        return number >= self.target.limit if self.target.sense == ">=" else number <= self.target.limit

    def cells(self) -> tuple[str, ...]:
        """The row's texts, in the order of the table's columns."""
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
    """The results as one Markdown table."""
    rows = [_HEADER, tuple("---" for _ in _HEADER), *(result.cells() for result in results)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, which every script takes: `python -m bench` asks for it."""
    parser.add_argument("--json", action="store_true", help="print the raw results as JSON instead of the table")


def say(text: str) -> None:
    """Tell how far a script is, beside the results on stdout."""
    print(text, file=sys.stderr, flush=True)


def show(results: Sequence[Result], as_json: bool) -> None:
    """Print the table, or the JSON that `from_json` reads."""
    if as_json:
        print(json.dumps([{**asdict(result), "met": result.met} for result in results], indent=1))
    else:
        print(table(results))


def from_json(text: str) -> list[Result]:
    """Read what `show(results, as_json=True)` printed.

    Raises:
        ValueError: it is something else.
    """
    rows: list[dict[str, Any]] = json.loads(text)
    results = []
    for row in rows:
        row.pop("met", None)
        target = row.pop("target")
        results.append(Result(**row, target=None if target is None else Target(**target)))
    return results
