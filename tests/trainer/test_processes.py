"""Whether the process of a run still runs, on this machine and on others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from store.training import has_ended, lives_here, this_machine
from store.types import utc_now

pytestmark = pytest.mark.processes

AGES_AGO = timedelta(days=36_500)
OLD_ROWS = socket.gethostname()
ANOTHER_BOOT = f"{socket.gethostname()} (00000000-1)"


@pytest.fixture
def living() -> Iterator[int]:
    """The id of a living process of this machine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize("host", [this_machine(), OLD_ROWS], ids=["today", "before"])
def test_a_process_of_this_machine_is_checked_directly(living: int, host: str) -> None:
    now = utc_now() + timedelta(seconds=5)
    assert lives_here(host, living, now)
    assert not has_ended(host, living, now)
    assert has_ended(host, living, now - AGES_AGO), "the process id is reused"
    assert not lives_here(host, living, now - AGES_AGO)
    # This process asks before it begins.
    assert has_ended(host, os.getpid(), now)
    assert not lives_here(host, os.getpid(), now)


def test_the_state_of_a_process_elsewhere_is_unknown(living: int) -> None:
    for started_at in (utc_now(), utc_now() - AGES_AGO):
        assert not lives_here("elsewhere (00000000-1)", living, started_at)
        assert not has_ended("elsewhere (00000000-1)", living, started_at)


@pytest.mark.skipif(sys.platform != "linux", reason="the boot is part of the name on Linux only")
def test_the_state_of_a_process_on_a_namesake_machine_is_unknown(living: int) -> None:
    """Another machine or container may have the same name, as this machine had before its restart."""
    assert this_machine() not in (OLD_ROWS, ANOTHER_BOOT)
    for heard_at in (utc_now(), utc_now() - AGES_AGO):
        assert not lives_here(ANOTHER_BOOT, living, heard_at)
        assert not has_ended(ANOTHER_BOOT, living, heard_at)
