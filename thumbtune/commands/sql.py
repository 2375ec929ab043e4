"""`thumbtune sql`: read-only SQL queries on the store."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import click

from thumbtune.cli import App
from thumbtune.commands.options import json_option
from thumbtune.console import printable

__all__ = ["sql"]

# A terminal table needs all its rows before it can be drawn; larger results are better read as CSV or JSON.
TABLE_ROWS = 1000


class _TakesComments(click.Command):
    """A command whose argument may begin with an SQL comment, which click would read as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move such an argument to the end, after `--`, which ends options: no option has a space after its dashes."""
        queries = [word for word in args if re.match(r"--\s", word)]
        if queries and "--" not in args:
            args = [*(word for word in args if word not in queries), "--", *queries]
        return super().parse_args(ctx, args)


@click.command(cls=_TakesComments)
@click.argument("query")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header line.")
@click.pass_obj
def sql(app: App, query: str, as_json: bool, as_csv: bool) -> None:
    """Run QUERY on the store, read-only, and print its rows; '-' reads it from standard input.

    The views pairs, sync_history, run_history, run_errors, champions and changes are made for queries; docs/store.md
    describes them. Binary values are shown as their length. --json prints a list with one object for each row.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; give one of them.")
    if query == "-":
        query = _from_stdin()
    from itertools import islice  # noqa: PLC0415

    from store.db import run_query  # noqa: PLC0415

    with app.open_database(read_only=True) as database, run_query(database, query) as answer:
        if as_json:
            _require_names(answer.columns)
            rows = [dict(zip(answer.columns, map(_json_value, _plain(row)), strict=True)) for row in answer.rows]
            app.console.print_json(rows)
        elif as_csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(answer.columns)
            writer.writerows(_text(row) for row in answer.rows)
        else:
            shown = [_text(row) for row in islice(answer.rows, TABLE_ROWS)]
            app.console.table([printable(column) for column in answer.columns], shown)
            if next(answer.rows, None) is not None:
                app.console.note(f"only the first {TABLE_ROWS} rows are shown; use --csv or --json for all")


def _require_names(columns: Sequence[str]) -> None:
    """Refuse columns with the same name, because a JSON object would only keep the last of them."""
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise click.UsageError(f"--json needs different column names, but {twice!r} occurs twice; rename one with AS.")


def _from_stdin() -> str:
    try:
        return "" if sys.stdin is None else sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8 text ({error.reason}); save it as UTF-8.") from error


def _plain(row: Sequence[object]) -> list[object]:
    return [f"<{len(cell)} bytes>" if isinstance(cell, bytes | memoryview) else cell for cell in row]


def _json_value(cell: object) -> object:
    """Return a value for JSON: PostgreSQL also has exact numbers, intervals, times, ranges, UUIDs and lists."""
    if isinstance(cell, Decimal):
        return int(cell) if cell.is_finite() and cell == cell.to_integral_value() else float(cell)
    if isinstance(cell, list):
        return [_json_value(item) for item in cell]
    return cell if cell is None or isinstance(cell, bool | int | float | str | dict | date) else str(cell)


def _text(row: Sequence[object]) -> list[object]:
    """Return values as text: PostgreSQL returns JSON columns as objects, SQLite as text."""
    return [json.dumps(_json_value(cell)) if isinstance(cell, dict | list) else cell for cell in _plain(row)]
