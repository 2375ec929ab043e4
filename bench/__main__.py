"""Run all benchmarks one after another, and print one table.

    python -m bench [--full] [--only retraining] [--latency-ms 50] [--img2dataset PYTHON] [--out build/bench.json]

Writes the raw figures to a JSON file. Run it on an idle machine, because other processes distort the results. The exit
code is 1 if a script fails; a missed target is a result, not a failure.
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
        name: the module's name.
        options: its arguments.
        quick: its arguments with `--quick`.
        models: whether it accepts `--models`, a folder to share models.
        full: whether it only runs with `--full`.
        network: whether it accepts `--latency-ms` and `--img2dataset`.
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
    Script("cold_start", quick=("--sizes", "--repeats", "1"), models=True),
    Script("page", quick=("--videos", "300", "--queries", "3")),
    Script("mining_rows", quick=("--titles", "2000", "--beyond", "0")),
    Script("big_projection", ("--batch-size", "256"), ("--pairs", "2000", "--train", "ridge"), full=True),
    Script("sweeping", quick=("--pairs", "24", "--trials", "5"), models=True),
    Script("retraining", (*LARGE, "--rounds", "1"), (*LARGE, "--pairs", "24", "--rounds", "1"), models=True, full=True),
    Script("encoding", (*LARGE, "--repeats", "2"), (*LARGE, "--pairs", "24", "--repeats", "1"), models=True, full=True),
)


def run(script: Script, quick: bool, models: Path, network: Sequence[str]) -> list[Result] | None:
    """Return a script's results; None if the script does not exist or fails (with its error on stderr)."""
    if importlib.util.find_spec(f"bench.{script.name}") is None:
        say(f"bench.{script.name} does not exist; its rows are omitted")
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
        say(f"bench.{script.name} exited with code {process.returncode}; its rows are omitted")
        return None
    return from_json(process.stdout)


def machine() -> dict[str, Any]:
    """Return the environment of the measurements: time, machine, package versions, commit."""
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
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="file for the raw figures")
    parser.add_argument("--only", choices=sorted({script.name for script in SCRIPTS}), help="run only this script")
    parser.add_argument("--full", action="store_true", help="also measure ViT-L/14, which takes much longer")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to check that all scripts run; the figures mean little"
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
            # After each script, so that results are not lost if a later script fails.
            rows = [{**asdict(result), "met": result.met} for result in results]
            arguments.out.write_text(json.dumps({"machine": about, "results": rows}, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    print(f"\n{about['cores']} cores of {about['processor']}, load {about['load_before']:.1f} before; {arguments.out}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
