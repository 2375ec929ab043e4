"""Test the reliability guarantees with real servers, processes, signals, disks and files.

    python -m bench.reliability [--quick] [--only kill-sync] [--json]

Injects faults, checks the results, and prints one table. The exit code is 1 if a guarantee is violated. The quick parts
also run as tests. If a part can't run, for example without permission to mount, its row says so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from bench.reliability_lab import Row, table

__all__ = ["PARTS", "main"]

PARTS = {
    "faults": "reliability_faults:faults",
    "down": "reliability_faults:down",
    "quota": "reliability_faults:quota",
    "kill-sync": "reliability_kills:kill_syncs",
    "kill-train": "reliability_train_kills:kill_trainings",
    "full-disk": "reliability_disk:full_disk",
    "damaged": "reliability_damage:damaged",
    "processes": "reliability_processes:processes",
    "large": "reliability_large:large",
    "signals": "reliability_signals:signals",
    "interrupts": "reliability_interrupts:interrupts",
    "away": "reliability_shared:away",
    "shared": "reliability_shared:shared",
    "models": "reliability_models:models",
    "half-open": "reliability_unlucky:half_open",
    "clock": "reliability_unlucky:clock",
    "clocks": "reliability_clocks:clocks",
    "synced": "reliability_unlucky:synced",
    "permissions": "reliability_unlucky:permissions",
    "hostile": "reliability_tests:hostile",
}
"""The parts for `--only`: functions that take a folder and `quick=`, and return rows."""


def run(name: str, *, quick: bool, parts: Mapping[str, str] = PARTS) -> list[Row]:
    """Run one part in a temporary folder; return its rows."""
    module, _, function = parts[name].partition(":")
    part: Callable[..., list[Row]] = getattr(importlib.import_module(f"bench.{module}"), function)
    started = time.monotonic()
    print(f"{name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=f"thumbtune-{name}-") as folder:
        rows = part(Path(folder), quick=quick)
    for row in rows:
        print("    " + " | ".join(row.cells()), file=sys.stderr, flush=True)
    print(f"    {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return rows


def main(parts: Mapping[str, str] = PARTS, description: str | None = __doc__) -> int:
    """Run all parts, or the requested parts, and print their rows."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=parts, help="run only this part (can be repeated)")
    parser.add_argument(
        "--quick", action="store_true", help="small channels, few repetitions: checks that all parts run"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead of the table")
    arguments = parser.parse_args()
    rows = [row for name in arguments.only or parts for row in run(name, quick=arguments.quick, parts=parts)]
    print(json.dumps([asdict(row) for row in rows], indent=1) if arguments.json else table(rows))
    return 1 if any(row.kept is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
