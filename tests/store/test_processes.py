"""Distinguish the process that began a run from a later process with the same number."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest

from store.processes import is_alive, start_of
from store.types import utc_now


def sleeper() -> subprocess.Popen[bytes]:
    """A process that ends when its standard input is closed."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


@pytest.mark.processes
def test_a_process_is_alive_until_it_ends() -> None:
    with sleeper() as process:
        now = utc_now()
        assert is_alive(process.pid, now + timedelta(seconds=5))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(process.pid, now + timedelta(seconds=5)), "it has ended, although the system keeps its id"
        process.wait()
        assert not is_alive(process.pid, now)


def test_this_process_counts_as_a_different_process() -> None:
    assert not is_alive(os.getpid(), utc_now())


@pytest.mark.processes
def test_a_reused_process_id_is_another_process() -> None:
    with sleeper() as process:
        assert not is_alive(process.pid, utc_now() - timedelta(minutes=1))
        process.kill()


def test_a_process_that_cannot_be_signalled_is_alive() -> None:
    assert is_alive(1, utc_now())


@pytest.mark.processes
@pytest.mark.skipif(start_of(os.getpid()) is None, reason="starts are read from /proc")
def test_a_recorded_start_identifies_a_process_for_any_clock() -> None:
    with sleeper() as process:
        long_ago, start = utc_now() - timedelta(days=400), start_of(process.pid)
        assert start is not None
        assert is_alive(process.pid, long_ago, start)
        assert not is_alive(process.pid, utc_now(), start - 1), "another process had the id"
        process.kill()
