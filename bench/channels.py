"""The measured channel: real pairs if available, otherwise pairs that thumbtune draws."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

from thumbtune.demo.channel import drawn_channel
from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.folder import load_folder
from thumbtune.standin.server import StandIn

__all__ = ["REAL_CHANNEL", "channel_of_pairs", "sync", "write_table"]

REAL_CHANNEL = Path(__file__).resolve().parents[2] / "shared" / "channel"


def channel_of_pairs(pairs: int, folder: Path | None = None, *, drawn: bool = False) -> Catalogue:
    """Return a channel of exactly `pairs` ordinary videos, the oldest of the source.

    Args:
        pairs: number of videos.
        folder: a folder with `videos.json` and `thumbnails/`; None: the real channel if available, else the drawn one.
        drawn: use the drawn channel, which has as many videos as wanted.

    Raises:
        SystemExit: the source has fewer videos.
    """
    if folder is None and not drawn and REAL_CHANNEL.is_dir():
        folder = REAL_CHANNEL
    catalogue = drawn_channel(pairs) if folder is None else load_folder(folder)
    # Shorts and the premiere are not pairs. `public` excludes private and deleted videos.
    ordinary = [v for v in catalogue.public() if (v.duration_s or 0) >= 180 and v.live == "none"][::-1]
    if len(ordinary) < pairs:
        raise SystemExit(f"the channel has {len(ordinary)} pairs, not {pairs}; ask for fewer with --pairs")
    kept = {video.id for video in ordinary[:pairs]}
    for video_id in set(catalogue.videos) - kept:
        catalogue.remove(video_id)
    return catalogue


def write_table(catalogue: Catalogue, server: StandIn, path: Path) -> None:
    """Write the recipe's list of videos, newest first: title and thumbnail URL."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("title", "url"))
        writer.writerows((video.title, f"{server.url}/vi/{video.id}/hqdefault.jpg") for video in catalogue.listed())


def sync(catalogue: Catalogue, server: StandIn, store: str) -> float:
    """Sync a channel into the store at the URL `store` with the real command; return the process's seconds."""
    environment = {**os.environ, **server.environment(), "THUMBTUNE_DB": store}
    command = [sys.executable, "-m", "thumbtune", "-q", "sync", catalogue.handle, "--json"]
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
