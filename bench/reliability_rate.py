"""A first sync's rate beside that of img2dataset, which downloads just the same pictures from the same server.

img2dataset (https://github.com/rom1504/img2dataset) needs an environment of its own: IMG2DATASET names that one's
Python. It is given as many processes as there are processors, and neither decodes nor changes a picture; a sync decodes
each and commits it with its title.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.memory import large_channel
from bench.reliability_lab import Row, sqlite_url
from bench.reliability_served import served

__all__ = ["rate"]

TIMES_ITS_RATE = 1.5

DOWNLOAD = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], output_folder=sys.argv[2], processes_count=int(sys.argv[3]), thread_count=32,
             output_format="files", disable_all_reencoding=True, compute_hash=None, extract_exif=False, retries=2)
"""


def rate(folder: Path, *, quick: bool) -> list[Row]:
    """Alternate between the two, each from nothing, in processes of their own, start included."""
    promise = f"a first sync fetches at least {TIMES_ITS_RATE} times the pictures a second of img2dataset"
    python = os.environ.get("IMG2DATASET")
    if python is None:
        return [Row(promise, "nothing: IMG2DATASET names no Python that has it", 0, "not run", None)]
    videos, rounds = (500, 1) if quick else (20_000, 1)
    ours, theirs = [], []
    with served(large_channel, videos) as environment:
        urls = folder / "urls.txt"
        host = environment["THUMBTUNE_THUMBNAIL_HOSTS"]
        ids = list(large_channel(videos).videos)
        urls.write_text("".join(f"http://{host}/vi/{video_id}/hqdefault.jpg\n" for video_id in ids))
        for number in range(rounds):
            theirs.append(videos / _downloaded(python, urls, folder / f"files-{number}", videos))
            ours.append(videos / _synced(sqlite_url(folder, f"store-{number}"), environment))
    ratio = min(a / b for a, b in zip(ours, theirs, strict=True))
    return [
        Row(
            promise,
            f"{videos:,} pictures, one after the other from one server; start included",
            rounds,
            f"{ours[0]:.0f} and {theirs[0]:.0f} pictures/s: {ratio:.2f} times",
            ratio >= TIMES_ITS_RATE,
        )
    ]


def _downloaded(python: str, urls: Path, folder: Path, videos: int) -> float:
    script = folder.with_suffix(".py")
    script.write_text(DOWNLOAD)
    started = time.perf_counter()
    command = [python, str(script), str(urls), str(folder), str(os.cpu_count() or 1)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - started
    found = sum(1 for _ in folder.rglob("*.jpg"))
    if found != videos:
        raise SystemExit(f"img2dataset fetched {found:,} of {videos:,} pictures; the comparison says nothing")
    shutil.rmtree(folder)
    return seconds


def _synced(store: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-m", "thumbtune", "-q", "--db", store, "sync", "@large", "--json"]
    started = time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
