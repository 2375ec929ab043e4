"""The server's end of the model's process: started when it is first asked, and again after it has died."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from thumbtune.ui.messages import decoded, encoded
from thumbtune.ui.settings import PageSettings

__all__ = ["ModelBusy", "ModelDied", "ModelError", "ModelProcess", "Progressed"]

log = logging.getLogger(__name__)

_LONGEST_LINE = 64 << 20
_MOST_WAITING = 32
"""Questions that wait for the one that is being answered."""
_TOLD_APART = 4096


class ModelError(Exception):
    """The model can't answer this question.

    Args:
        text: why, and what to do.
        kind: the name of the error's class in the model's process.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class ModelDied(ModelError):
    """The model's process ended while it worked on a question, twice."""


class ModelBusy(ModelError):
    """Too many questions wait already."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """What the model's process is doing: a phase, and how far it is, if that is known."""

    phase: str
    done: int = 0
    total: int | None = None


class ModelProcess:
    """Asks the model, one question at a time.

    Args:
        settings: the store, and the model to ask.
        command: the program; None for the real one.
    """

    def __init__(self, settings: PageSettings, command: Sequence[str] | None = None) -> None:
        self._command = tuple(command or (sys.executable, "-m", "thumbtune.ui.model_child"))
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0
        self._last_words = ""
        self.progress: Progressed | None = None
        self.is_warm = False
        """Whether it has answered since it was started."""
        self._died: str | None = None
        """How it ended, from when it ended by itself until an answer has told so."""

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def ask(self, question: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> dict[str, Any]:
        """Return the answer to a question. If the process dies over it, another one is asked once more.

        Raises:
            ModelError: it says why it can't answer.
            ModelDied: it died twice.
            ModelBusy: too many questions wait.
        """
        if self._waiting >= _MOST_WAITING:
            raise ModelBusy("too many questions wait for the model; try again in a moment", "Busy")
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                try:
                    return await self._ask(question, blobs)
                except _Ended as ended:
                    log.warning("the model's process %s; it is started again. %s", ended, self._last_words)
                    self._died = str(ended)
                try:
                    return await self._ask(question, blobs)
                except _Ended as ended:
                    raise ModelDied(
                        f"the model's process {ended} twice over this question; is there enough memory? "
                        "The log of 'thumbtune -v ui' has more",
                        "Died",
                    ) from ended
        finally:
            self._waiting -= 1

    async def _ask(self, question: Mapping[str, Any], blobs: Sequence[bytes]) -> dict[str, Any]:
        self.progress = Progressed("Starting" if self.pid is None else "Working")
        try:
            return await self._asked(await self._started(), question, blobs)
        except asyncio.CancelledError:
            # Half a question was sent, or an answer is to come that nobody wants: neither may meet the next question.
            await self.stop()
            raise
        finally:
            self.progress = None

    async def _asked(
        self, process: asyncio.subprocess.Process, question: Mapping[str, Any], blobs: Sequence[bytes]
    ) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(ConnectionError):
            process.stdin.write(encoded(dict(question), blobs))
            await process.stdin.drain()
        while line := await process.stdout.readline():
            message, _ = decoded(line)
            if "progress" in message:
                self.progress = Progressed(message["progress"], message["done"], message["total"])
            elif "error" in message:
                raise ModelError(message["error"], message["kind"])
            else:
                self.is_warm = True
                answer: dict[str, Any] = message["answer"]
                answer["seconds"] = message["seconds"]
                answer["restarted"], self._died = self._died, None
                return answer
        self.is_warm = False
        raise _Ended(_how_it_ended(await process.wait()))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        if self._process is not None and self._process.returncode is not None:
            self._died = self._died or _how_it_ended(self._process.returncode)
        # The URL may hold a password: not among the arguments, which every user of the machine can read.
        environment = {name: value for name, value in os.environ.items() if name != "YOUTUBE_API_KEY"}
        environment["THUMBTUNE_DB"] = self._settings.db_url
        if self._settings.model is not None:
            environment["THUMBTUNE_UI_MODEL"] = self._settings.model
        if self._settings.read_only:
            environment["THUMBTUNE_UI_READ_ONLY"] = "1"
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for the server, which ends it in order
        )
        assert self._process.stderr is not None
        self._log = asyncio.create_task(self._follow(self._process.stderr))
        log.info("the model's process has begun", extra={"pid": self._process.pid})
        return self._process

    async def _follow(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(_TOLD_APART):
            self._last_words = piece.decode(errors="replace").rstrip()
            log.debug("the model's process: %s", self._last_words)

    async def stop(self) -> None:
        """End it."""
        process, self._process, self.is_warm = self._process, None, False
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._log is not None:
            self._log.cancel()


class _Ended(Exception):
    """The process ended over a question."""


def _how_it_ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
