"""A process of its own that does one measured piece of work: `python -m bench.child MODULE JSON`.

Calls `run(clock, **arguments)` of `bench.MODULE`, whose imports are counted apart, and prints what it returns with the
seconds as one JSON document. `measure` starts it, and times the whole process from outside.
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
    """What a process did.

    Args:
        process_s: the whole process, from outside: interpreter and imports included.
        imports_s: imports alone.
        work_s: from inside, imports left out.
        phases: seconds of each phase.
        peak_rss_mb: its peak of resident memory, in 10**6 bytes.
        report: what else it says.
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
        SystemExit: it failed; what it said is on stderr.
    """
    command = [sys.executable, "-m", "bench.child", module, json.dumps(arguments)]
    started = time.perf_counter()
    process = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"bench.{module} ended with code {process.returncode}; see above for why")
    return Measured(process_s=seconds, **json.loads(process.stdout))


def main() -> None:
    module, arguments = sys.argv[1], json.loads(sys.argv[2])
    clock = Clock()
    clock.start()
    # Libraries print; stdout is for the one document.
    with redirect_stdout(sys.stderr):
        report = importlib.import_module(f"bench.{module}").run(clock, **arguments)
    work_s = clock.work_s
    seconds = {"imports_s": clock.imports_s, "work_s": work_s, "phases": clock.phases}
    print(json.dumps({**seconds, "peak_rss_mb": _peak_rss_mb(), "report": report}))


def _peak_rss_mb() -> float:
    """This process's peak of resident memory."""
    # Linux's getrusage begins with the peak of the process that started this one; only /proc knows its own.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    # In bytes, as macOS has it.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
