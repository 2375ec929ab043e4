"""A child process of the service: one at a time, its output goes to the log, and it ends with the service."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

__all__ = ["Child"]

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""Seconds from SIGTERM to SIGKILL."""
LONGEST_LINE = 1 << 14
DID_NOT_START = 127
"""The exit code that shells use for a command that can't be run."""


class Child:
    """Starts and stops a command, and copies its output to the log.

    Args:
        name: the command's name in the log.
        command: the program and its arguments.
        environment: the complete environment of the process.
        ended: called with the exit code each time the process ends; negative for a signal.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], ended: Callable[[int], object]
    ) -> None:
        self._name = name
        self._command = tuple(command)
        self._environment = dict(environment)
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._followed: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._followed is not None and not self._followed.done()

    async def start(self) -> None:
        """Start the process, unless it is running."""
        if self.running:
            return
        began = time.monotonic()
        # Not asyncio's pipe: with it, the process counts as ended only when all its descendants have closed the pipe.
        ours, theirs = os.pipe()
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach only the service, which stops the process cleanly
            )
        except OSError as error:
            os.close(ours)
            log.error("%s can't be started (%s); will try again later", self._name, error)
            self._ended(DID_NOT_START)
            return
        finally:
            os.close(theirs)
        log.info("%s has started", self._name, extra={"pid": process.pid})
        self._followed = asyncio.create_task(self._follow(process, ours, began))

    async def stop(self) -> None:
        """Stop the process with SIGTERM, and with SIGKILL after `GRACE_S`. Returns when it has ended."""
        if not self.running or self._process is None or self._followed is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(GRACE_S):
                await asyncio.shield(self._followed)
        except TimeoutError:
            log.warning("%s did not end within %g s and is killed", self._name, GRACE_S)
            self.kill()
            await self._followed

    def kill(self) -> None:
        """Kill the process if it is running."""
        if self.running and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _follow(self, process: asyncio.subprocess.Process, output: int, began: float) -> None:
        stream = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb", buffering=0)
        )
        reading = asyncio.create_task(self._read(stream))
        code = await process.wait()
        # A descendant of the process may keep the other end open forever.
        await asyncio.wait({reading}, timeout=1.0)
        reading.cancel()
        pipe.close()
        seconds = round(time.monotonic() - began, 3)
        level = logging.INFO if code in (0, 3) else logging.WARNING
        log.log(
            level,
            "%s ended with code %d after %.1f s",
            self._name,
            code,
            seconds,
            extra={"exit_code": code, "seconds": seconds},
        )
        self._ended(code)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            log.info("%s: %s", self._name, line)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the lines that are not blank; lines above 16 KiB are split."""
    rest = b""
    while piece := await stream.read(LONGEST_LINE):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) >= LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                yield text
    if text := rest.decode(errors="replace").rstrip():
        yield text
