"""The rate of a first sync compared with img2dataset, on loopback and with added latency.

    python -m bench.first_sync --latency-ms 50 --img2dataset /path/to/its/python

Both fetch the same thumbnails in turn from a stand-in server in another process, which delays each response.
img2dataset (https://github.com/rom1504/img2dataset) needs a separate environment; without it, only thumbtune's rate is
printed. img2dataset gets all URLs beforehand. Like a sync, it decodes and hashes each thumbnail and keeps its bytes, in
two processes with a total of 64 requests in flight. A sync is one process with at most 64 thumbnails in flight, which
also lists the channel, reads the details and commits each thumbnail with its title to a database.

The start of Python and imports do not count: a sync counts from the channel lookup to its report, img2dataset from the
start of its first shard to the end of its last shard, by its own statistics. On two cores, a sync can use one core and
img2dataset two, so other work on the machine changes the ratio: measure on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.memory import large_channel
from bench.reliability_served import served
from bench.results import Result, Target, add_json_option, say, show

__all__ = ["add_options", "measured", "options_from"]

PROCESSES = 2
IN_FLIGHT = 64
OF_ITS_RATE = 0.9

_DOWNLOAD = """
import json, sys
from img2dataset import download
if __name__ == "__main__":
    download(**json.loads(sys.argv[1]))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `python -m bench` passes on."""
    parser.add_argument(
        "--latency-ms", type=float, default=50.0, help="latency added to each response in the second row"
    )
    parser.add_argument(
        "--img2dataset",
        type=Path,
        default=os.environ.get("IMG2DATASET"),
        metavar="PYTHON",
        help="Python of an environment with img2dataset (default: IMG2DATASET)",
    )


def options_from(arguments: argparse.Namespace) -> list[str]:
    """Return the given options of `add_options` as arguments."""
    named = [] if arguments.img2dataset is None else ["--img2dataset", str(arguments.img2dataset)]
    return ["--latency-ms", f"{arguments.latency_ms:g}", *named]


def measured(videos: int, rounds: int, latency_ms: float, python: Path | None) -> Result:
    """Measure the row of one latency: medians of the rates, and of each round's ratio."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder, served(large_channel, videos, latency_ms) as environment:
        urls = Path(folder) / "urls.txt"
        host = environment["THUMBTUNE_THUMBNAIL_HOSTS"]
        urls.write_text("".join(f"http://{host}/vi/{name}/hqdefault.jpg\n" for name in large_channel(videos).videos))
        for number in range(rounds):
            ours.append(videos / _synced(Path(folder) / f"{number}.db", environment, videos))
            if python is not None:
                theirs.append(videos / _downloaded(python, urls, Path(folder) / "downloaded", videos))
            say(f"{latency_ms:g} ms: {ours[-1]:.0f}/s" + (f", img2dataset {theirs[-1]:.0f}/s" if theirs else ""))
    ratios = [a / b for a, b in zip(ours, theirs, strict=False)]
    how = f"`python -m bench.first_sync --latency-ms {latency_ms:g}`: median of {rounds}"
    return Result(
        what=f"first sync of {videos:,} thumbnails, {latency_ms:g} ms added to each response",
        recipe=statistics.median(theirs) if theirs else None,
        thumbtune=statistics.median(ours),
        unit="thumbnails/s",
        how=how if theirs else f"{how}; no comparison without --img2dataset",
        ratio=statistics.median(ratios) if ratios else None,
        target=Target(">=", OF_ITS_RATE) if ratios else None,
        against="img2dataset" if theirs else "",
        raw={"thumbtune_per_s": ours, "img2dataset_per_s": theirs, "ratios": ratios},
    )


def _synced(store: Path, environment: dict[str, str], videos: int) -> float:
    """Sync into a new store; return the seconds."""
    command = [sys.executable, "-m", "thumbtune", "-q", "--db", f"sqlite:///{store}", "sync", "@large", "--json"]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    (report,) = json.loads(done.stdout)["channels"]
    _check("thumbtune", report["thumbnails"]["fetched"], videos)
    return float(report["seconds"])


def _downloaded(python: Path, urls: Path, folder: Path, videos: int) -> float:
    """Run img2dataset; return the seconds of its shards."""
    options: dict[str, Any] = {
        "url_list": str(urls),
        "output_folder": str(folder),
        "output_format": "files",
        "processes_count": PROCESSES,
        "thread_count": IN_FLIGHT // PROCESSES,
        "number_sample_per_shard": -(-videos // PROCESSES),  # the default puts all into one process
        "resize_mode": "no",
        "skip_reencode": True,
        "compute_hash": "sha256",
        "extract_exif": False,
        "retries": 2,
    }
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    command = [str(python), str(_script(folder)), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"img2dataset exited with code {done.returncode}: {done.stderr.strip()[-500:]}")
    shards = [json.loads(file.read_text()) for file in folder.glob("*_stats.json")]
    _check("img2dataset", sum(1 for _ in folder.rglob("*.jpg")), videos)
    shutil.rmtree(folder)
    return float(max(shard["end_time"] for shard in shards) - min(shard["start_time"] for shard in shards))


def _script(folder: Path) -> Path:
    # A file, because img2dataset's spawned processes import the main module.
    script = folder.with_suffix(".py")
    script.write_text(_DOWNLOAD)
    return script


def _check(name: str, fetched: int, videos: int) -> None:
    if fetched != videos:
        raise SystemExit(f"{name} fetched only {fetched:,} of {videos:,} thumbnails; the comparison is invalid")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    add_options(parser)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.img2dataset is None:
        say("no comparison with img2dataset; name the Python of its environment with --img2dataset")
    latencies = dict.fromkeys((0.0, arguments.latency_ms))
    rows = [measured(arguments.videos, arguments.rounds, ms, arguments.img2dataset) for ms in latencies]
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
