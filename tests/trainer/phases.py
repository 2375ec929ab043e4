"""Act during a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CallsAt:
    """Progress that calls a function at the start of a phase."""

    def __init__(self, phase: str, call: Callable[[], object]) -> None:
        self._phase, self._call = phase, call

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        if description == self._phase:
            self._call()
        yield lambda _n: None

    def warn(self, text: str) -> None:
        pass
