"""The server's side of the model process, which is started on the first question and restarted after a crash."""

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

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from thumbtune.ui.messages import decoded, encoded
from thumbtune.ui.settings import PageSettings

__all__ = ["ModelBusy", "ModelDied", "ModelError", "ModelProcess", "Progressed"]

log = logging.getLogger(__name__)

_LONGEST_LINE = 64 << 20
_MOST_WAITING = 32
"""The maximum number of questions that wait while another is answered."""
_TOLD_APART = 4096
_SECRETS = frozenset({"YOUTUBE_API_KEY", "YOUTUBE_API_KEY_FILE", "YOUTUBE_API_KEYS_FILE", "THUMBTUNE_DB_FILE"})
_PASSWORDS = frozenset({"PGPASSWORD", "PGPASSFILE"})


class ModelError(Exception):
    """The model can't answer this question. The message has the form `what happened; what to do`."""


class ModelDied(ModelError):
    """The model process ended while it answered a question, twice."""


class ModelBusy(ModelError):
    """Too many questions are waiting."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """The current phase of the model process, and its progress if known."""

    phase: str
    done: int = 0
    total: int | None = None


class ModelProcess:
    """Asks the model, one question at a time.

    Args:
        settings: the store and the model.
        command: the program; None for the real model process.
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
        self._died: str | None = None
        """How the process ended, if it crashed and this has not been reported yet."""

    @property
    def pid(self) -> int | None:
        """The process id while the process runs, else None."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def ask(self, question: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> dict[str, Any]:
        """Return the answer to a question. If the process crashes, the question is asked once more in a new process.

        Raises:
            ModelError: the model can't answer; the message says why.
            ModelDied: the process crashed twice.
            ModelBusy: too many questions are waiting.
        """
        if self._waiting >= _MOST_WAITING:
            raise ModelBusy("too many questions wait for the model; try again in a moment")
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                try:
                    return await self._ask(question, blobs)
                except _Ended as ended:
                    log.warning("the model's process %s and is restarted. %s", ended, self._last_words)
                    self._died = str(ended)
                try:
                    return await self._ask(question, blobs)
                except _Ended as ended:
                    raise ModelDied(
                        f"the model's process {ended} twice while it answered this question; check that there is "
                        "enough memory, and the log of 'thumbtune -v ui'"
                    ) from ended
        finally:
            self._waiting -= 1

    async def _ask(self, question: Mapping[str, Any], blobs: Sequence[bytes]) -> dict[str, Any]:
        self.progress = Progressed("Starting" if self.pid is None else "Working")
        try:
            return await self._asked(await self._started(), question, blobs)
        except (ModelError, _Ended):
            raise
        except BaseException:
            # Cancelled, or the answer can't be read. A partly sent question or the rest of an answer must not affect
            # the next question, so the process is ended.
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
                raise ModelError(message["error"])
            else:
                answer: dict[str, Any] = message["answer"]
                answer["restarted"], self._died = self._died, None
                return answer
        raise _Ended(_how_it_ended(await process.wait()))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        if self._process is not None and self._process.returncode is not None:
            self._died = self._died or _how_it_ended(self._process.returncode)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=_environment(self._settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                start_new_session=True,  # Ctrl-C is for the server, which then ends this process itself
            )
        except OSError as error:
            raise ModelError(f"the model's process can't be started ({error.strerror}); try again later") from error
        assert self._process.stderr is not None
        self._log = asyncio.create_task(self._follow(self._process.stderr))
        log.info("the model's process has begun", extra={"pid": self._process.pid})
        return self._process

    async def _follow(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(_TOLD_APART):
            self._last_words = piece.decode(errors="replace").rstrip()
            log.debug("the model's process: %s", self._last_words)

    async def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            # asyncio waits for the end of the output, which it does not read while too much of it is unread.
            while process.stdout is not None and await process.stdout.read(1 << 16):
                pass
            await process.wait()
        if self._log is not None:
            self._log.cancel()


def _environment(settings: PageSettings) -> dict[str, str]:
    """Return the model process's environment: the server's, without the secrets that it does not need.

    The store's URL is passed here, because it may contain a password and every user can read a process's arguments.
    libpq's variables for passwords are kept for a PostgreSQL URL without one.
    """
    left_out = _SECRETS if _needs_password(settings.db_url) else _SECRETS | _PASSWORDS
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    kept["THUMBTUNE_DB"] = settings.db_url
    if settings.model is not None:
        kept["THUMBTUNE_UI_MODEL"] = settings.model
    if settings.read_only:
        kept["THUMBTUNE_UI_READ_ONLY"] = "1"
    return kept


def _needs_password(url: str) -> bool:
    try:
        return url.startswith("postgres") and make_url(url).password is None
    except (ArgumentError, ValueError):
        return False  # invalid: the model process says so


class _Ended(Exception):
    """The process ended while it answered a question."""


def _how_it_ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
