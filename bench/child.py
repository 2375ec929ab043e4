"""Measure one function in a new process: `python -m bench.child MODULE JSON`.

Calls `run(clock, **arguments)` of `bench.MODULE` and prints the result and the seconds as one JSON document, with the
time of imports separate. `measure` starts the process, and times it from outside.
"""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clock import Clock

__all__ = ["Measured", "measure"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Measured:
    """The measurements of a process.

    Args:
        process_s: seconds of the whole process, measured from outside, including interpreter start and imports.
        imports_s: seconds of imports.
        work_s: seconds of work, measured from inside, without imports.
        phases: seconds of each phase.
        peak_rss_mb: peak resident memory, in 10**6 bytes.
        report: the return value of `run`.
    """

    process_s: float
    imports_s: float
    work_s: float
    phases: dict[str, float]
    peak_rss_mb: float
    report: dict[str, Any]


def measure(module: str, environment: Mapping[str, str] | None = None, **arguments: Any) -> Measured:
    """Run `bench.MODULE` in a new process.

    Raises:
        SystemExit: the process failed; its error is on stderr.
    """
    command = [sys.executable, "-m", "bench.child", module, json.dumps(arguments)]
    started = time.perf_counter()
    process = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"bench.{module} exited with code {process.returncode}; see the error above")
    return Measured(process_s=seconds, **json.loads(process.stdout))


def main() -> None:
    module, arguments = sys.argv[1], json.loads(sys.argv[2])
    clock = Clock()
    clock.start()
    # Libraries may print to stdout, which is reserved for the JSON document.
    with redirect_stdout(sys.stderr):
        report = importlib.import_module(f"bench.{module}").run(clock, **arguments)
    work_s = clock.work_s
    seconds = {"imports_s": clock.imports_s, "work_s": work_s, "phases": clock.phases}
    print(json.dumps({**seconds, "peak_rss_mb": _peak_rss_mb(), "report": report}))


def _peak_rss_mb() -> float:
    """Return this process's peak resident memory."""
    # On Linux, getrusage includes the peak of the parent process; /proc has this process's own peak.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    # macOS reports bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
