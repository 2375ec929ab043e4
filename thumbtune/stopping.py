"""Ctrl-C and SIGTERM while an event loop runs: what is at hand ends in order, and at last the process does.

Not by an exception out of a signal handler, as elsewhere (`thumbtune.interrupts`): that would land in whatever code of
the event loop runs just then.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from thumbtune.interrupts import STOPPED_EARLY

__all__ = ["run_until_stopped"]

log = logging.getLogger(__name__)

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AT_ONCE_S = 2.0
"""How long what is at hand may take after a second signal."""


def run_until_stopped(
    start: Callable[[asyncio.Event], Coroutine[Any, Any, T]], *, patience_s: float | None = None
) -> T:
    """Run with Ctrl-C and SIGTERM setting an event, so that the sync ends in order; a second one cancels what is on.

    Args:
        start: what is run, given the event.
        patience_s: how long what is at hand may take after a signal; then the process exits with 0. None: for ever.

    Raises:
        KeyboardInterrupt: there was a second signal.
    """
    stopping = _Stopping(patience_s)
    # What was imported stays: looking it through for garbage, again and again, was a tenth of a sync's time.
    gc.freeze()
    try:
        return asyncio.run(stopping.run(start))
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
    finally:
        stopping.call_off()


class _Stopping:
    """The signals of one run. Make it before the event loop, which handles Ctrl-C by itself."""

    def __init__(self, patience_s: float | None) -> None:
        self._patience_s = patience_s
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}
        self._deadlines: list[threading.Timer] = []
        self._again = False

    async def run(self, start: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
        """What `start` gives.

        Raises:
            asyncio.CancelledError: there was a second signal.
        """
        loop, stop, task = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
        assert task is not None
        for number in SIGNALS:
            try:
                loop.add_signal_handler(number, self._told, stop, task)
            except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
                break
        try:
            result = await start(stop)
            # What is at hand may have ended in spite of it; who asked twice is told the same either way.
            if self._again:
                raise asyncio.CancelledError
            return result
        finally:
            self._restore(loop)

    def call_off(self) -> None:
        """Let the process live on: all has ended in time."""
        for deadline in self._deadlines:
            deadline.cancel()

    def _told(self, stop: asyncio.Event, task: asyncio.Task[Any]) -> None:
        if not stop.is_set():
            stop.set()
            if self._patience_s is not None:
                self._deadlines.append(_exit_after(self._patience_s, 0))
            return
        self._again = True
        self.call_off()
        self._deadlines.append(_exit_after(AT_ONCE_S, STOPPED_EARLY))
        task.cancel()
        self._restore(task.get_loop())

    def _restore(self, loop: asyncio.AbstractEventLoop) -> None:
        for number, handler in self._previous.items():
            try:
                if loop.remove_signal_handler(number):
                    signal.signal(number, handler)
            except (NotImplementedError, RuntimeError, ValueError):
                return


def _exit_after(seconds: float, code: int) -> threading.Timer:
    """End the process if it has not ended by then: no thread that waits for a lock or a name can be told to stop.

    As after `kill -9`, the database undoes what was not committed.
    """

    def give_up() -> None:
        log.warning("what is at hand can't be finished in time; everything before it is kept")
        os._exit(code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    return timer
