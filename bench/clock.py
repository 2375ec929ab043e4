"""Time the phases of a process without the imports in them.

Libraries import many of their modules on first use, which would otherwise count for the phase that uses them first.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["Clock"]


class Clock(MetaPathFinder):
    """Times phases without imports. Only imports of the main thread count, because others overlap its work.

    `start()` installs it as the first of Python's finders, so that it sees every import of a new module.
    """

    def __init__(self) -> None:
        self.imports_s = 0.0
        self.phases: dict[str, float] = {}
        self._importing = False
        self._started = time.perf_counter()

    def start(self) -> None:
        """Start timing, and install the finder."""
        sys.meta_path.insert(0, self)
        self._started = time.perf_counter()

    @property
    def work_s(self) -> float:
        """Seconds since the start, without imports."""
        return time.perf_counter() - self._started - self.imports_s

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's seconds, without imports, to a phase."""
        before = self.work_s
        yield
        self.phases[name] = self.phases.get(name, 0.0) + self.work_s - before

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the module with the other finders, and time its loading."""
        with self._import():
            found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
            spec = next((spec for spec in found if spec is not None), None)
        loader: Any = None if spec is None else spec.loader
        # Loaders of built-in modules are classes and take no time. A loader of several modules is wrapped once.
        if isinstance(loader, type) or not hasattr(loader, "exec_module") or "exec_module" in vars(loader):
            return spec
        load = loader.exec_module

        def timed(module: ModuleType) -> None:
            with self._import():
                load(module)

        loader.exec_module = timed
        return spec

    @contextmanager
    def _import(self) -> Iterator[None]:
        """Add the block's seconds to the imports, unless an enclosing import is already timed."""
        if self._importing or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._importing, started = True, time.perf_counter()
        try:
            yield
        finally:
            self._importing = False
            self.imports_s += time.perf_counter() - started
