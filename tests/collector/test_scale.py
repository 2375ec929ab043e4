"""A large channel is synced completely, in memory that does not grow with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from store.db import open_database, rows_as_dicts
from tests.collector.channels import drawn, video
from tests.standin import StandIn
from thumbtune.standin.catalogue import Catalogue, channel_id_from

pytestmark = pytest.mark.processes

COUNT = 20_000
PAIRS = COUNT // 100
PEAK_MIB = 150

# Run the command, then print its peak memory in KiB. (getrusage would not work: its maximum begins
# with that of the parent process.)
MEASURED = """
import pathlib, re, sys
from thumbtune.cli import main
try:
    main(sys.argv[1:])
finally:
    status = pathlib.Path("/proc/self/status")
    print(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1] if status.exists() else 0, file=sys.stderr)
"""


def test_twenty_thousand_videos(sqlite_url: str) -> None:
    same = drawn("all alike")
    videos = [video(n, picture=same, duration_s=600 if n % 100 == 0 else 60) for n in range(COUNT)]
    catalogue = Catalogue(channel_id_from("large"), "@large", "Large", videos={v.id: v for v in videos})
    with StandIn(catalogue) as server:
        for units in (1 + 2 * COUNT // 50, 0):
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, "-q", "--db", sqlite_url, "sync", "@large", "--json"],
                env={**os.environ, **server.environment()},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            (report,) = json.loads(done.stdout)["channels"]
            assert report["units"] == units
            assert int(done.stderr.split()[-1]) < PEAK_MIB << 10
    database = open_database(sqlite_url)
    with database.read() as session:
        (counts,) = rows_as_dicts(
            session, "SELECT COUNT(*) AS videos, (SELECT COUNT(*) FROM pairs) AS pairs FROM video"
        )
    database.close()
    assert counts == {"videos": COUNT, "pairs": PAIRS}
