"""A child of the service: when it counts as ended."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import pytest

from collector.watch.child import Child

pytestmark = pytest.mark.processes


async def test_the_child_ends_although_a_descendant_keeps_its_output_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    left = "import signal; signal.pause()"
    command = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {left!r}]).pid); sys.exit(3)"
    code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await Child("retraining", [sys.executable, "-c", command], os.environ, code.set_result).start()
    async with asyncio.timeout(60):
        assert await code == 3
    (pid,) = [int(message.split()[-1]) for message in caplog.messages if message.removeprefix("retraining: ").isdigit()]
    os.kill(pid, signal.SIGKILL)
