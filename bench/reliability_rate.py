"""A first sync's rate beside that of img2dataset, which downloads just the same pictures from the same server.

img2dataset (https://github.com/rom1504/img2dataset) needs an environment of its own: IMG2DATASET names that one's
Python. It is given as many processes as there are processors, and all of its addresses beforehand; a sync is one
process, which lists the channel, reads the details, and commits each picture with its title. What one process does is
compared as well, and what a bare loop does without all that a sync adds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.memory import large_channel
from bench.reliability_lab import Row, sqlite_url
from bench.reliability_served import served

__all__ = ["rate"]

TIMES_ITS_RATE = 0.9

DOWNLOAD = """
import json, sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], output_folder=sys.argv[2], output_format="files", extract_exif=False, retries=2,
             **json.loads(sys.argv[3]))
"""
CHECKING: dict[str, Any] = {"resize_mode": "no", "skip_reencode": True, "compute_hash": "sha256"}
"""Each picture is decoded and hashed, and its bytes are kept: a sync's work."""
TAKING: dict[str, Any] = {"disable_all_reencoding": True, "compute_hash": None}
"""Whatever comes is written to a file unseen."""
WHOLE_MACHINE: dict[str, Any] = {"processes_count": os.cpu_count() or 1, "thread_count": 32}
ONE_PROCESS: dict[str, Any] = {"processes_count": 1, "thread_count": 256}
"""Its defaults."""


def rate(folder: Path, *, quick: bool) -> list[Row]:
    """Take turns, each from nothing, in processes of their own, start included."""
    promise = f"a first sync fetches at least {TIMES_ITS_RATE} times the pictures a second of img2dataset"
    python = os.environ.get("IMG2DATASET")
    if python is None:
        return [Row(promise, "nothing: IMG2DATASET names no Python that has it", 0, "not run", None)]
    videos, rounds = (500, 1) if quick else (20_000, 2)
    theirs: dict[str, tuple[dict[str, Any], list[float]]] = {
        "it decodes and hashes each, as a sync does": (CHECKING | WHOLE_MACHINE, []),
        "it does so in one process, as a sync does": (CHECKING | ONE_PROCESS, []),
        "it writes whatever comes": (TAKING | WHOLE_MACHINE, []),
    }
    ours: list[float] = []
    bare: list[float] = []
    with served(large_channel, videos) as environment:
        urls = folder / "urls.txt"
        host = environment["THUMBTUNE_THUMBNAIL_HOSTS"]
        ids = list(large_channel(videos).videos)
        urls.write_text("".join(f"http://{host}/vi/{video_id}/hqdefault.jpg\n" for video_id in ids))
        for number in range(rounds):
            ours.append(videos / _synced(sqlite_url(folder, f"store-{number}"), environment))
            bare.append(videos / _fetched_barely(urls, folder / "bare.db"))
            for options, rates in theirs.values():
                rates.append(videos / _downloaded(python, urls, folder / "downloaded", videos, options))
    done = f"{videos:,} pictures, one after the other from one server; start included"
    stated = Row(
        "what a sync adds to a bare loop of fetch, decode check and insert",
        done,
        rounds,
        _compared(ours, bare),
        None,
    )
    return [
        *(
            Row(promise, f"{done}; {how}", rounds, _compared(ours, rates), _least(ours, rates) >= TIMES_ITS_RATE)
            for how, (_, rates) in theirs.items()
        ),
        stated,
    ]


def _least(ours: list[float], theirs: list[float]) -> float:
    return min(a / b for a, b in zip(ours, theirs, strict=True))


def _compared(ours: list[float], theirs: list[float]) -> str:
    return f"{min(ours):.0f} and {min(theirs):.0f} pictures/s at least: {_least(ours, theirs):.2f} times"


def _downloaded(python: str, urls: Path, folder: Path, videos: int, options: dict[str, Any]) -> float:
    script = folder.with_suffix(".py")
    script.write_text(DOWNLOAD)
    started = time.perf_counter()
    command = [python, str(script), str(urls), str(folder), json.dumps(options)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - started
    found = sum(1 for _ in folder.rglob("*.jpg"))
    if found != videos:
        raise SystemExit(f"img2dataset fetched {found:,} of {videos:,} pictures; the comparison says nothing")
    shutil.rmtree(folder)
    return seconds


def _fetched_barely(urls: Path, store: Path) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bench.bare_loop", str(urls), str(store)], check=True)
    seconds = time.perf_counter() - started
    for file in store.parent.glob(store.name + "*"):
        file.unlink()
    return seconds


def _synced(store: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-m", "thumbtune", "-q", "--db", store, "sync", "@large", "--json"]
    started = time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
