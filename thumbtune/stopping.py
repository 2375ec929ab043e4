"""Handle signals while an event loop runs: the work ends cleanly, or the process exits after a limit.

The signals don't raise an exception, as they do elsewhere (`thumbtune.interrupts`), because it would be raised in
any code of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from thumbtune.interrupts import SIGNALS, STOPPED_EARLY, exit_within

__all__ = ["run", "run_until_stopped"]

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE_S = 2.0
"""Seconds that the current work may still take after a second signal."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop that does not wait for its threads: one may look up a name for minutes."""

    async def main() -> T:
        asyncio.get_running_loop().set_default_executor(_NotAwaited())
        return await work

    return asyncio.run(main())


def run_until_stopped(
    start: Callable[[asyncio.Event], Coroutine[Any, Any, T]], *, patience_s: float | None = None
) -> T:
    """Run with Ctrl-C, SIGTERM and SIGHUP setting an event, so that the sync stops cleanly; a second signal cancels it.

    Args:
        start: returns the coroutine to run, given the event.
        patience_s: seconds after a signal until the process exits with 0. None: no limit.

    Raises:
        KeyboardInterrupt: a second signal was received.
    """
    try:
        return run(_Stopping(patience_s).run(start))
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error


class _Stopping:
    """Handles the signals of one run. Create it before the event loop, which has its own handler for Ctrl-C."""

    def __init__(self, patience_s: float | None) -> None:
        self._patience_s = patience_s
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}
        self._deadline: threading.Timer | None = None
        self._again = False

    async def run(self, start: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
        """Return the result of `start`.

        Raises:
            asyncio.CancelledError: a second signal was received.
        """
        loop, stop, task = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
        assert task is not None
        for number in SIGNALS:
            try:
                loop.add_signal_handler(number, self._on_signal, stop, task)
            except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
                break
        try:
            result = await start(stop)
            # The work may have finished despite the cancellation; a second signal is reported in the same way.
            if self._again:
                raise asyncio.CancelledError
            return result
        finally:
            self._restore(loop)

    def _on_signal(self, stop: asyncio.Event, task: asyncio.Task[Any]) -> None:
        if not stop.is_set():
            stop.set()
            if self._patience_s is not None:
                self._deadline = _give_up_after(self._patience_s, 0)
            return
        self._again = True
        if self._deadline is not None:
            self._deadline.cancel()
        _give_up_after(AT_ONCE_S, STOPPED_EARLY)
        task.cancel()
        self._restore(task.get_loop())

    def _restore(self, loop: asyncio.AbstractEventLoop) -> None:
        for number, handler in self._previous.items():
            try:
                if loop.remove_signal_handler(number):
                    signal.signal(number, handler)
            except (NotImplementedError, RuntimeError, ValueError):
                return


class _NotAwaited(ThreadPoolExecutor):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)


def _give_up_after(seconds: float, code: int) -> threading.Timer:
    """Exit the process if it has not ended by then: a thread that waits for a lock or a DNS lookup can't be stopped.

    As after `kill -9`, the database rolls back uncommitted changes.
    """
    return exit_within(
        seconds, code, lambda: log.warning("the current work can't be finished in time; everything before it is kept")
    )
