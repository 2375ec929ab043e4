"""Output for users and programs: result lines, tables, progress and JSON, each on the right stream.

stdout carries results, and with `--json` exactly one JSON document; everything else goes to stderr. Titles are
untrusted text, so control characters (terminal escapes, bidirectional overrides) are escaped in all output.
"""

from __future__ import annotations

import io
import json
import math
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, TextIO

from store.urls import shown_text
from thumbtune.interrupts import raise_if_received
from thumbtune.wrapping import terminal_width, wrapped

__all__ = ["Console", "Progress", "printable"]

# Characters that reorder the text around them: harmless in a browser, but misleading in a terminal.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, limit: int | None = None) -> str:
    r"""Return `text` as one safe line: control characters as `\xNN`, cut to `limit` characters with an ellipsis."""
    if limit is not None and len(text) > limit:
        text = text[: max(0, limit - 1)] + "…"
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _BIDI_CONTROLS
        else char
        for char in text
    )


class Progress:
    """The progress display of a task. This base class shows nothing."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more items as completed."""

    def update(self, *, total: int | None = None, description: str | None = None) -> None:
        """Change the total or the description."""


@dataclass
class Console:
    """The output of a command.

    Args:
        verbosity: -1 quiet (results and errors only), 0 normal, 1 and above: also logs.
        json_wanted: whether `--json` was given: result lines go to stderr, and only `print_json` writes to stdout.
    """

    verbosity: int = 0
    json_wanted: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    def print_json(self, document: object) -> None:
        """Write one JSON document to stdout: datetimes in ISO 8601, NaN and infinity as null.

        It is in ASCII if stdout can't encode it.
        """
        document = _finite(document)
        text = json.dumps(document, indent=2, ensure_ascii=False, default=_plain)
        try:
            text.encode(self.out.encoding or "utf-8")
        except UnicodeEncodeError:
            # The stream's error handler would write escapes that are not valid JSON, such as \U0001f98a.
            text = json.dumps(document, indent=2, default=_plain)
        print(text, file=self.out)

    def say(self, text: str) -> None:
        """Write one line of the command's result."""
        if self.json_wanted and self.verbosity < 0:
            return
        _write(text, self.err if self.json_wanted else self.out)

    @property
    def on_terminal(self) -> bool:
        """Whether results go to a terminal."""
        return (self.err if self.json_wanted else self.out).isatty()

    def next_step(self, command: str) -> None:
        """Write the command that the user most likely needs next, unless the output is quiet or for a program."""
        if not self.json_wanted and self.out.isatty():
            self.note(f"next: {command}")

    def note(self, text: str) -> None:
        """Write one line about the work to stderr, unless quiet."""
        if self.verbosity >= 0:
            _write(text, self.err)

    def error(self, text: str) -> None:
        """Write the one-line message that says why the command failed."""
        _write(f"error: {shown_text(text)}", self.err)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
        """Write a table of results as aligned columns without a grid. Numbers are right-aligned.

        Pipes get every cell whole. On a terminal, titles and reasons are cut to fit; ids, figures and URLs are never
        cut. If they need more than the terminal's width, each row is written as lines of `column  value` instead.
        """
        if self.json_wanted and self.verbosity < 0:
            return
        stream = self.err if self.json_wanted else self.out
        names = [printable(column) for column in columns]
        cells = [[_shown(cell) for cell in row] for row in rows]
        if title:
            _write(title, stream)
        for line in _lines_of_table(names, cells, stream):
            print(line, file=stream)

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Progress]:
        """Show a task's progress: a bar on a terminal, elsewhere a plain line at the start and at each tenth."""
        if self.verbosity < 0:
            yield Progress()
        elif self.err.isatty():
            with _drawn(self.err, description, total) as bar:
                yield bar
        else:
            yield _PlainProgress(self, description, total)

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a phase of the trainer's work, which a signal ends; see `trainer.progress.Progress`."""
        with self.progress(description, total) as bar:

            def advance(n: int) -> None:
                raise_if_received()
                bar.advance(n)

            yield advance

    def warn(self, text: str) -> None:
        """Show what a run could not do, or did differently than requested."""
        self.note(f"note: {text}")


def _write(text: str, stream: TextIO) -> None:
    """Write one safe line, which a terminal shows as several if it is too long."""
    for line in wrapped(printable(text), terminal_width(stream)):
        print(line, file=stream)


def _finite(value: Any) -> Any:
    """Return a document in which None stands for the numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


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


GAP = 2
"""The number of terminal cells between two columns."""
SHORTEST_CUT = 16
"""The minimum width of a cut column of prose, in terminal cells."""


def _may_be_cut(name: str) -> bool:
    """Whether a column contains prose that is recognisable by its beginning."""
    return name.lower().endswith(("title", "first", "error", "reason"))


def _lines_of_table(names: Sequence[str], cells: Sequence[Sequence[str]], stream: TextIO) -> Iterator[str]:
    from rich.cells import cell_len  # noqa: PLC0415 (only when a table is drawn)
    from rich.console import Console as RichConsole  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    width = terminal_width(stream)
    natural = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    # Values in a table of names and values are not cut.
    is_of_facts = len(names) == 2
    least = (
        min(w, SHORTEST_CUT) if _may_be_cut(name) and not is_of_facts else w
        for name, w in zip(names, natural, strict=True)
    )
    if sum(least) + GAP * (len(names) - 1) > width:
        yield from _facts((names, *cells) if is_of_facts else _upright(names, cells), width)
        return
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for i, name in enumerate(names):
        justify: Literal["left", "right"] = "right" if _is_numeric(row[i] for row in cells) else "left"
        table.add_column(Text(name), justify=justify, no_wrap=not _may_be_cut(name))
    for row in cells:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    drawing = RichConsole(file=io.StringIO(), width=width, color_system=None)
    with drawing.capture() as captured:
        drawing.print(table)
    yield from (line.rstrip() for line in captured.get().splitlines())


def _upright(names: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Each row as lines of a column's name and its value, with an empty line between rows."""
    for number, row in enumerate(cells):
        if number:
            yield ("", "")
        yield from zip(names, row, strict=True)


def _facts(rows: Iterable[Sequence[str]], width: int) -> Iterator[str]:
    """Lines of a name and its value; a value that is too long continues below its beginning."""
    from rich.cells import cell_len  # noqa: PLC0415

    shown = list(rows)
    left = max(cell_len(name) for name, _ in shown) + GAP
    for name, value in shown:
        first, *more = wrapped(value, max(width - left, SHORTEST_CUT))
        yield f"{name}{' ' * (left - cell_len(name))}{first}".rstrip()
        yield from (" " * left + line for line in more)


def _floats(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True


class _PlainProgress(Progress):
    """Progress for logs and pipes: a line at the start, and one at each tenth."""

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
def _drawn(stream: TextIO, description: str, total: int | None) -> Iterator[Progress]:
    from rich.console import Console as RichConsole  # noqa: PLC0415 (only when one is drawn)
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as RichProgress  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class Counted(MofNCompleteColumn):
        """How many items are done, of how many if that is known; nothing for work without items."""

        def render(self, task: Task) -> Text:
            if task.fields["uncounted"]:
                return Text("")
            return super().render(task) if task.total is not None else Text(f"{task.completed:.0f}")

    columns = (TextColumn("{task.description}"), BarColumn(), Counted(), TimeElapsedColumn())
    with RichProgress(*columns, console=RichConsole(file=stream)) as drawn:
        task = drawn.add_task(escape(printable(description)), total=total, uncounted=not total)

        class Bar(Progress):
            def advance(self, n: int = 1) -> None:
                drawn.update(task, advance=n, uncounted=False)

            def update(self, *, total: int | None = None, description: str | None = None) -> None:
                shown = None if description is None else escape(printable(description))
                drawn.update(task, total=total, description=shown)
                if total:
                    drawn.update(task, uncounted=False)

        yield Bar()
        # Complete the bar at the end: items that were not counted are done too.
        shown = drawn.tasks[0]
        end = shown.completed if shown.total is None else shown.total
        if not end:
            drawn.update(task, uncounted=True)
        drawn.update(task, total=end or 1, completed=end or 1)
