"""All measurements, one after another on this machine, as one table.

    python -m bench [--full] [--only retraining] [--latency-ms 50] [--img2dataset PYTHON] [--out build/bench.json]

Prints the table; the raw figures go to a JSON file. Needs a quiet machine: whatever else runs spoils it. Ends with 1 if
a script fails; a target that is missed is a result, not a failure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import first_sync
from bench.results import Result, from_json, say, table
from trainer.runs.provenance import git_commit, package_versions

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Script:
    """A module of `bench` that prints its results with `--json`.

    Args:
        name: of the module.
        options: what it is given.
        quick: what it is given instead with `--quick`.
        models: whether it takes `--models`, a folder to share the models in.
        full: whether it is only run with `--full`.
        network: whether it takes `--latency-ms` and `--img2dataset`.
    """

    name: str
    options: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    models: bool = False
    full: bool = False
    network: bool = False


LARGE = ("--model", "vit-l-14")
SCRIPTS = (
    Script("retraining", quick=("--pairs", "24", "--rounds", "1", "--reruns", "1"), models=True),
    Script("encoding", quick=("--pairs", "24", "--repeats", "1"), models=True),
    Script("memory", quick=("--videos", "300"), models=True),
    Script("first_sync", quick=("--videos", "100", "--rounds", "1"), network=True),
    Script("searching", quick=("--vectors", "10000", "--queries", "3")),
    Script("page", quick=("--videos", "300", "--queries", "3")),
    Script("mining_rows", quick=("--titles", "2000", "--beyond", "0")),
    Script("sweeping", quick=("--pairs", "24", "--trials", "5"), models=True),
    Script("retraining", (*LARGE, "--rounds", "1"), (*LARGE, "--pairs", "24", "--rounds", "1"), models=True, full=True),
    Script("encoding", (*LARGE, "--repeats", "2"), (*LARGE, "--pairs", "24", "--repeats", "1"), models=True, full=True),
)


def run(script: Script, quick: bool, models: Path, network: Sequence[str]) -> list[Result] | None:
    """One script's results; None where it is not there or fails (its own words are on stderr)."""
    if importlib.util.find_spec(f"bench.{script.name}") is None:
        say(f"bench.{script.name}: there is no such script; its rows are left out")
        return None
    options = [
        *(script.quick if quick else script.options),
        *(("--models", str(models)) if script.models else ()),
        *(network if script.network else ()),
    ]
    say(f"bench.{script.name} {' '.join(options)}")
    command = [sys.executable, "-m", f"bench.{script.name}", "--json", *options]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode != 0:
        say(f"bench.{script.name} ended with code {process.returncode}; its rows are left out")
        return None
    return from_json(process.stdout)


def machine() -> dict[str, Any]:
    """Where and when this is measured, and with what."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": package_versions(),
        "git_commit": git_commit(),
    }


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="the raw figures")
    parser.add_argument("--only", choices=sorted({script.name for script in SCRIPTS}), help="this script alone")
    parser.add_argument("--full", action="store_true", help="ViT-L/14 too, which takes much longer")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see that all runs: the figures mean little"
    )
    first_sync.add_options(parser)
    arguments = parser.parse_args()
    network = first_sync.options_from(arguments)
    wanted = [script for script in SCRIPTS if arguments.only in (None, script.name)]
    wanted = [script for script in wanted if arguments.full or not script.full]
    about, results, whole = machine(), list[Result](), True
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as models:
        for script in wanted:
            found = run(script, arguments.quick, Path(models), network)
            whole = whole and found is not None
            results += found or []
            # After each: what was measured is not lost with a later script.
            rows = [{**asdict(result), "met": result.met} for result in results]
            arguments.out.write_text(json.dumps({"machine": about, "results": rows}, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    print(f"\n{about['cores']} cores of {about['processor']}, load {about['load_before']:.1f} before; {arguments.out}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
