"""Durations of phases without imports, with a clock that the imported modules advance."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import clock as clock_module
from bench.clock import Clock


class Hands:
    """A clock that the test advances."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(clock_module, "time", found)
    return found


@pytest.fixture
def clock(hands: Hands) -> Iterator[Clock]:
    started = Clock()
    started.start()
    yield started
    sys.meta_path.remove(started)


@pytest.fixture
def module_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hands: Hands
) -> Callable[[str, float, str], None]:
    """Writes modules to import; each advances the clock by some seconds and then runs code."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "hands", hands, raising=False)

    def write(name: str, seconds: float, then: str) -> None:
        (tmp_path / f"{name}.py").write_text(f"import sys\nsys.hands.now += {seconds}\n{then}\n")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_imports_in_a_phase_are_counted_separately_and_once(
    clock: Clock, hands: Hands, module_that_takes: Callable[[str, float, str], None]
) -> None:
    module_that_takes("bench_inner", 3, "VALUE = 7")
    module_that_takes("bench_outer", 5, "from bench_inner import VALUE")
    with clock.phase("work"):
        hands.now += 1
        outer = __import__("bench_outer")
        __import__("bench_outer")
        hands.now += 1
    with clock.phase("work"):
        hands.now += 0.5
    assert outer.VALUE == 7
    assert clock.imports_s == 8
    assert clock.phases == {"work": 2.5}
    assert clock.work_s == 2.5


def test_a_failed_import_is_counted_and_raises(
    clock: Clock, module_that_takes: Callable[[str, float, str], None]
) -> None:
    module_that_takes("bench_broken", 2, "raise ValueError('broken')")
    with pytest.raises(ValueError, match="broken"):
        __import__("bench_broken")
    with pytest.raises(ModuleNotFoundError):
        __import__("bench_not_there")
    assert clock.imports_s == 2
