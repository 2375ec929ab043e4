"""Signals at some moments of some commands; `python -m bench.reliability --only interrupts` tries all commands."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.reliability_interrupts import Template, filled_template, interrupt_command

pytestmark = [pytest.mark.processes, pytest.mark.slow]

TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    with filled_template(tmp_path_factory.mktemp("interrupts") / "template") as made:
        yield made


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("name", "signals", "after_s"),
    [
        ("db copy", (TERM,), 0.3),
        ("db check", (TERM, TERM), 0.2),
        ("import", (INT, INT), 0.4),
        ("export dataset --csv", (TERM,), 0.8),
        ("train --train projection", (TERM,), 1.5),
    ],
)
def test_a_signal_loses_no_data_and_leaves_no_partial_files(
    template: Template, tmp_path: Path, name: str, signals: tuple[signal.Signals, ...], after_s: float
) -> None:
    assert interrupt_command(template, tmp_path / "trial", name, signals, after_s=after_s, gap_s=0.02) == []
