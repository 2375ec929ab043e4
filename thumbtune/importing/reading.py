"""Read the entries of tables, lists and saved datasets. An entry that can't be read does not affect the others."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from store.errors import StoreError

__all__ = ["BadRow", "ImportFailed", "read_entries"]

_LARGEST_CELL = 16 << 20
"""The most characters of a CSV cell: Python's default, 131,072, is less than the transcript of a long video."""
_DELIMITERS = ",;\t|"
"""In the order of preference. Spreadsheets write semicolons where the comma is the decimal separator."""
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that is not UTF-8, as `surrogateescape` decodes it."""
_NO_TEXT = "it is not UTF-8 text; save the file as UTF-8"


class ImportFailed(StoreError):
    """The source can't be read at all; the message says why, and which sources can be read."""

    exit_code = 2


class BadRow(Exception):
    """A row can't be imported. The other rows are not affected."""


def read_entries(file: Path, has_title: Callable[[Mapping[str, Any]], bool]) -> Iterator[Any]:
    """Yield each entry of a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file, or a `BadRow` in its place.

    Args:
        file: the file.
        has_title: whether one of an entry's columns is known as the title; it decides which delimiter a CSV file has.

    Raises:
        ImportFailed: the file, or the rest of it, can't be read.
    """
    kind = file.suffix.lower()
    try:
        if kind == ".parquet":
            yield from _parquet(file)
        elif kind == ".json":
            yield from _json(file)
        elif kind == ".jsonl":
            yield from _json_lines(file)
        else:
            yield from _csv(file, has_title)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = _NO_TEXT if isinstance(error, UnicodeDecodeError) else error
        raise ImportFailed(f"{file} can't be read ({reason}); repair the file") from error


def _json(file: Path) -> Iterator[Any]:
    entries = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(entries, list):
        raise ValueError("it must be a list of objects")
    yield from entries


def _json_lines(file: Path) -> Iterator[Any]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            try:
                text = line.decode("utf-8-sig" if number == 0 else "utf-8")
                if text.strip():
                    yield json.loads(text)
            except UnicodeDecodeError:
                yield BadRow(_NO_TEXT)
            except (ValueError, RecursionError) as error:
                yield BadRow(f"it is not valid JSON ({error})")


def _csv(file: Path, has_title: Callable[[Mapping[str, Any]], bool]) -> Iterator[Any]:
    csv.field_size_limit(_LARGEST_CELL)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        first = lines.readline()
        if _ESCAPED_BYTE.search(first):
            raise ValueError(_NO_TEXT)
        delimiters = sorted(_DELIMITERS, key="\t".__ne__) if file.suffix.lower() == ".tsv" else _DELIMITERS
        fitting = (one for one in delimiters if has_title(dict.fromkeys(next(csv.reader([first], delimiter=one), []))))
        # Strict: otherwise a quote that is not closed takes all rows up to the next one into its cell.
        rows = csv.DictReader(
            itertools.chain([first], lines), delimiter=next(fitting, delimiters[0]), restkey="", strict=True
        )
        names = rows.fieldnames  # an error of the header concerns all rows
        while names:
            try:
                entry: dict[str, Any] = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(f"its quotes or cells are wrong ({error})")
                continue
            yield _problem_of(entry) or entry


def _problem_of(entry: Mapping[str, Any]) -> BadRow | None:
    surplus = entry.get("")
    if isinstance(surplus, list) and any(cell.strip() for cell in surplus):
        return BadRow("it has more cells than the first line; put quotes around a cell that contains the delimiter")
    cells = (cell for cell in entry.values() if isinstance(cell, str))
    return BadRow(_NO_TEXT) if any(map(_ESCAPED_BYTE.search, cells)) else None


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException  # noqa: PLC0415 (slow to import)
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415

    try:
        with ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=64):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ValueError(str(error)) from error
