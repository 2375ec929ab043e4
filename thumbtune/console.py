"""What a person or a program reads: result lines, tables, progress and JSON, each on the right stream.

stdout carries results, and with `--json` exactly one JSON document; everything else goes to stderr. Titles come from
strangers, so control characters (terminal escapes, bidirectional overrides) are made visible in whatever is shown.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol, TextIO

__all__ = ["Console", "Progress", "printable"]

# Characters that reorder the text around them: harmless in a browser's title, misleading in a terminal.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, limit: int | None = None) -> str:
    r"""`text` as one safe line: control characters as `\xNN` escapes, cut to `limit` characters with an ellipsis."""
    if limit is not None and len(text) > limit:
        text = text[: max(0, limit - 1)] + "…"
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _BIDI_CONTROLS
        else char
        for char in text
    )


class Progress(Protocol):
    """A running piece of work as it is shown; passed down to the libraries, which know nothing of terminals."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more items as done."""

    def update(self, *, total: int | None = None, description: str | None = None) -> None:
        """Change what is expected or being done."""


@dataclass
class Console:
    """Where a command writes to.

    Args:
        verbosity: -1 quiet (results and errors only), 0 normal, 1 and up: logs too.
        json_wanted: the command was asked for `--json`: result lines go to stderr, stdout is for `print_json` alone.
    """

    verbosity: int = 0
    json_wanted: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    def print_json(self, document: object) -> None:
        """Write one JSON document to stdout; datetimes as ISO 8601, and in ASCII where stdout can't hold the rest."""
        text = json.dumps(document, indent=2, ensure_ascii=False, default=_plain)
        try:
            text.encode(self.out.encoding or "utf-8")
        except UnicodeEncodeError:
            # Not left to the stream's error handler: JSON has no \U0001f98a.
            text = json.dumps(document, indent=2, default=_plain)
        print(text, file=self.out)

    def say(self, text: str) -> None:
        """Write one line of the command's result."""
        if self.json_wanted and self.verbosity < 0:
            return
        print(printable(text), file=self.err if self.json_wanted else self.out)

    def note(self, text: str) -> None:
        """Write one line about the work to stderr, unless quiet."""
        if self.verbosity >= 0:
            print(printable(text), file=self.err)

    def error(self, text: str) -> None:
        """Write the one line that says why the command failed."""
        print(f"error: {printable(text)}", file=self.err)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
        """Write a table of results: boxed on a terminal, aligned plain columns elsewhere. Numbers align right."""
        if self.json_wanted and self.verbosity < 0:
            return
        stream = self.err if self.json_wanted else self.out
        cells = [[_shown(cell) for cell in row] for row in rows]
        if stream.isatty():
            self._rich_table(stream, columns, cells, title)
            return
        if title:
            print(printable(title), file=stream)
        from rich.cells import cell_len  # noqa: PLC0415 (only when one is drawn)

        widths = [max(cell_len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
        right = [_is_numeric(row[i] for row in cells) for i in range(len(columns))]
        for line in [list(columns), *cells]:
            gaps = (" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
            padded = (
                gap + cell if to_right else cell + gap for cell, gap, to_right in zip(line, gaps, right, strict=True)
            )
            print("  ".join(padded).rstrip(), file=stream)

    @staticmethod
    def _rich_table(stream: TextIO, columns: Sequence[str], cells: list[list[str]], title: str | None) -> None:
        from rich.console import Console as RichConsole  # noqa: PLC0415 (only when one is drawn)
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(title=Text(printable(title)) if title else None)
        for index, column in enumerate(columns):
            numeric = _is_numeric(row[index] for row in cells)
            table.add_column(Text(column), justify="right" if numeric else "left")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        RichConsole(file=stream).print(table)

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Progress]:
        """Show a piece of work: a bar on a terminal, a plain line at the start and at each tenth elsewhere."""
        if self.verbosity < 0:
            yield _SilentProgress()
        elif self.err.isatty():
            with _rich_progress(self.err, description, total) as bar:
                yield bar
        else:
            yield _PlainProgress(self, description, total)


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    if isinstance(cell, datetime):
        return cell.strftime("%Y-%m-%d %H:%M")
    return printable(str(cell))


def _is_numeric(cells: Iterable[str]) -> bool:
    shown = [cell for cell in cells if cell != "-"]
    return bool(shown) and all(cell.replace(",", "").lstrip("+-")[:1].isdigit() and _floats(cell) for cell in shown)


def _floats(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True


class _SilentProgress:
    def advance(self, n: int = 1) -> None:
        pass

    def update(self, *, total: int | None = None, description: str | None = None) -> None:
        pass


class _PlainProgress:
    """For logs and pipes: a line at the start, and one whenever another tenth is done."""

    def __init__(self, console: Console, description: str, total: int | None) -> None:
        self._console = console
        self._description = description
        self._total = total
        self._done = 0
        self._tenth = 0
        console.note(f"{description} ...")

    def advance(self, n: int = 1) -> None:
        self._done += n
        if not self._total or self._total < 10:
            return
        tenth = self._done * 10 // self._total
        if tenth > self._tenth:
            self._tenth = tenth
            self._console.note(f"{self._description}: {self._done} of {self._total}")

    def update(self, *, total: int | None = None, description: str | None = None) -> None:
        if total is not None:
            self._total = total
        if description is not None and description != self._description:
            self._description = description
            self._console.note(f"{description} ...")


@contextmanager
def _rich_progress(stream: TextIO, description: str, total: int | None) -> Iterator[Progress]:
    from rich.console import Console as RichConsole  # noqa: PLC0415 (only when one is drawn)
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as RichProgress  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=RichConsole(file=stream)) as drawn:
        task = drawn.add_task(escape(printable(description)), total=total)

        class _Bar:
            def advance(self, n: int = 1) -> None:
                drawn.advance(task, n)

            def update(self, *, total: int | None = None, description: str | None = None) -> None:
                shown = None if description is None else escape(printable(description))
                drawn.update(task, total=total, description=shown)

        yield _Bar()
