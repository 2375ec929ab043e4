"""Output: safe characters, the right stream, one JSON document."""

from __future__ import annotations

import io
import json
import re
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from thumbtune.console import Console, printable

TITLE = "\x1b[31mred\x9b\u202e [bold]x[/bold]"
SHOWN = "\\x1b[31mred\\x9b\\u202e [bold]x[/bold]"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_console(**options: object) -> tuple[Console, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Console(out=out, err=err, **options), out, err  # type: ignore[arg-type]


@given(st.text())
def test_no_output_contains_terminal_escapes(text: str) -> None:
    shown = printable(text)
    assert not any(char in shown for char in "\x1b\x07\x08\r\n\t\x9b\u202e\u2066\u2028")
    shown.encode("utf-8")


def test_titles_in_errors_are_escaped() -> None:
    console, _, err = a_console()
    console.error(f"{TITLE}\nis no channel")
    assert err.getvalue() == f"error: {SHOWN}\\nis no channel\n"


def test_ordinary_text_is_unchanged() -> None:
    assert printable("狐 🦊 naïve — שלום") == "狐 🦊 naïve — שלום"
    assert printable("\x1b[31mred\u202e") == "\\x1b[31mred\\u202e"
    assert printable("x" * 10, limit=4) == "xxx…"


def test_with_json_stdout_is_one_document() -> None:
    console, out, err = a_console(json_wanted=True)
    console.say("done")
    console.note("working")
    console.table(["a"], [["b"]])
    console.print_json({"at": datetime(2024, 1, 1, tzinfo=UTC), "title": "狐"})
    assert json.loads(out.getvalue()) == {"at": "2024-01-01T00:00:00+00:00", "title": "狐"}
    assert "狐" in out.getvalue()
    assert err.getvalue().splitlines()[:2] == ["done", "working"]


def test_quiet_hides_the_work_but_not_the_result() -> None:
    console, out, err = a_console(verbosity=-1)
    console.note("working")
    with console.progress("pictures", total=10) as progress:
        progress.advance(10)
    console.say("result")
    console.error("went wrong; do this")
    assert out.getvalue() == "result\n"
    assert err.getvalue() == "error: went wrong; do this\n"


def test_table_columns_are_aligned() -> None:
    console, out, _ = a_console()
    console.table(["title", "n"], [["狐", 5], ["long title", 1234], [None, None]])
    assert out.getvalue().splitlines() == [
        "title          n",
        "狐             5",
        "long title  1234",
        "-              -",
    ]


def test_a_table_on_a_terminal_has_the_same_cells() -> None:
    terminal = Terminal()
    Console(out=terminal, err=io.StringIO()).table(["[bold]title", "n"], [["[red]x\x1b[0m", 1.23456]], title="T")
    drawn = terminal.getvalue()
    assert "[bold]title" in drawn
    assert "[red]x\\x1b[0m" in drawn
    assert "1.235" in drawn


WIDE = ["id", "score", "title", "url"]
ROW = ["dQw4w9WgXcQ", 0.12345, "狐" * 60, "https://youtu.be/dQw4w9WgXcQ"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_terminal_tables_truncate_titles_but_not_ids_figures_or_urls(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    Console(out=terminal, err=io.StringIO()).table(WIDE, [ROW])
    header, row = terminal.getvalue().splitlines()
    assert header.split() == WIDE
    assert row.split()[:2] == ["dQw4w9WgXcQ", "0.1235"]
    assert row.endswith("…  https://youtu.be/dQw4w9WgXcQ")
    assert cell_len(row) in (width, width - 1)  # a character of two cells may not fit the last one


def test_rows_wider_than_the_terminal_are_printed_vertically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    columns = [f"column_{number}" for number in range(28)]
    Console(out=terminal, err=io.StringIO()).table(columns, [list(range(100, 128)), list(range(200, 228))])
    lines = terminal.getvalue().splitlines()
    assert len(lines) == 28 * 2 + 1
    assert lines[0].split() == ["column_0", "100"]
    assert lines[28] == ""
    assert lines[-1].split() == ["column_27", "227"]


def test_piped_tables_are_not_truncated() -> None:
    console, out, _ = a_console()
    console.table(WIDE, [ROW])
    assert "狐" * 60 in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_description_and_count(terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    with Console(out=io.StringIO(), err=stream).progress("pictures", total=20) as progress:
        progress.advance(10)
        progress.update(description="titles [x]", total=40)
        progress.advance(30)
    assert "pictures" in stream.getvalue()
    assert "titles [x]" in stream.getvalue()
    assert ("40/40" if terminal else "40 of 40") in stream.getvalue()


@pytest.mark.parametrize("later", [True, False])
def test_titles_in_progress_bars_are_escaped(later: bool) -> None:
    stream = Terminal()
    with Console(out=io.StringIO(), err=stream).progress("pictures" if later else TITLE, total=1) as progress:
        progress.update(description=TITLE if later else None)
    assert SHOWN in stream.getvalue()
    assert not {"\x9b", "\u202e"} & set(stream.getvalue())
    assert "\x1b[31mred" not in stream.getvalue()


def test_progress_without_a_terminal_is_a_few_lines() -> None:
    console, _, err = a_console()
    with console.progress("pictures", total=20_000) as progress:
        for _ in range(20_000):
            progress.advance()
    assert len(err.getvalue().splitlines()) == 11


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_are_not_wrapped_within_words_or_quoted_commands(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    told = f"狐 can't be read; run 'thumbtune db check --repair', {'or see the next word ' * 5}https://{'x' * 130}"
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        Console(out=io.StringIO(), err=stream).error(told)
    lines = terminal.getvalue().splitlines()
    assert " ".join(lines) == pipe.getvalue().rstrip("\n") == f"error: {told}"
    assert all(cell_len(line) <= width for line in lines[:-1])
    assert any("'thumbtune db check --repair'," in line for line in lines)


def test_long_facts_are_wrapped_below_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    Console(out=terminal, err=io.StringIO()).table(("fact", "value"), [("decision", "a reason " * 8), ("n", 5)])
    _, first, second, *_, last = terminal.getvalue().splitlines()
    assert first.startswith("decision  a reason")
    assert second.startswith(f"{' ' * 10}reason a reason")
    assert last == "n         5"


@pytest.mark.parametrize("total", [None, 0])
@pytest.mark.parametrize("fails", [True, False])
def test_work_without_items_shows_no_count(total: int | None, fails: bool) -> None:
    stream = Terminal()
    with suppress(ValueError), Console(out=io.StringIO(), err=stream).progress("Opening", total=total):
        if fails:
            raise ValueError
    assert "Opening" in stream.getvalue()
    assert not re.search(r"\d/[\d?]", stream.getvalue())
