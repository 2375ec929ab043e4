"""Ctrl-C, SIGTERM and SIGHUP raise an exception, and set a flag in case a library swallows it.

A command's process handles them in three ways, in this order: while it imports its modules it exits at once
(`exit_at_once`), then the exception ends its work (`install`), and when its work is done it exits at once again.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

__all__ = [
    "INTERRUPTED",
    "STOPPED_EARLY",
    "exit_at_once",
    "exit_within",
    "install",
    "raise_if_received",
    "was_received",
    "work_is_complete",
]

STOPPED_EARLY = 3
"""The exit code of a command that a signal or a spent quota ended; the next run continues its work."""

INTERRUPTED = "interrupted; everything so far is kept; run the command again to continue"

SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a command: also SIGHUP, of a terminal that is closed, unless it is ignored, as by nohup."""
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
    SIGNALS = (*SIGNALS, signal.SIGHUP)

STUCK_S = 8.0
"""Seconds that a call of a C library may keep Python from handling a signal: service managers kill after 10 s."""
AGAIN_S = 0.05
"""Seconds after which a signal is handled again, if Python ignored what its handler raised."""
THREADS_S = 2.0
"""Seconds that a command whose work is done waits for its threads."""
UNWINDING_S = 2.0
"""Seconds after a signal in which further ones are ignored: they would interrupt what closes and deletes files."""

_received: list[float] = []
"""When signals were received, by the monotonic clock."""
_pipe: list[int] = []


def exit_at_once(code: int | None = None) -> None:
    """Make the signals exit the process at once, before and after the work, when nothing can be lost.

    Args:
        code: the command's exit code, after the work. It is kept, and no message is printed, because the command has
            printed its own. None: before the work; the exit code is `STOPPED_EARLY`, after a message.
    """
    _handle(_exit if code is None else lambda _number, _frame: os._exit(code))


def exit_within(seconds: float, code: int, tell: Callable[[], None] = lambda: None) -> threading.Timer:
    """Exit the process if it has not ended by then. Return the timer, which can be cancelled.

    Python waits for all threads at its end, and a thread that looks up a host's name can't be stopped.

    Args:
        seconds: the limit.
        code: the exit code then.
        tell: called before the exit.
    """

    def give_up() -> None:
        tell()
        os._exit(code)

    return _after(seconds, give_up)


def install() -> None:
    """Handle the signals like Ctrl-C, because service managers send SIGTERM. The work so far is kept."""
    # Registered before those of all libraries, so it runs after them.
    atexit.register(_ignore)
    _watch_for_stuck_calls()
    _repeat_ignored_signals()
    _handle(_stop)


def work_is_complete() -> None:
    """Ignore the signals from now on: only the result is left to print, and the command can't be run again.

    A repeated backup or export would fail because its file or folder exists.
    """
    if signal.getsignal(signal.SIGINT) is _stop:
        _ignore()


def was_received() -> bool:
    """Whether a signal was received."""
    return bool(_received)


def raise_if_received() -> None:
    """Raise the exception again if a library swallowed it.

    Raises:
        KeyboardInterrupt: a signal was received.
    """
    if _received:
        raise KeyboardInterrupt


def _after(seconds: float, call: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    _received.append(time.monotonic())
    if len(_received) == 1:
        raise KeyboardInterrupt
    if _received[-1] - _received[0] > UNWINDING_S:
        _exit(number, frame)


def _ignore() -> None:
    # While Python ends, too: it removes handlers first, and a signal would then kill the process.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _exit(_number: int, _frame: FrameType | None) -> None:
    # Not by an exception, which would be reported with a traceback during an import or at the interpreter's end.
    try:
        os.write(2, f"error: {INTERRUPTED}\n".encode())
    finally:
        os._exit(STOPPED_EARLY)


def _repeat_ignored_signals() -> None:
    """Handle a signal again if its exception was raised in a destructor or a callback, where Python only reports it."""
    report = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            # After a signal, destructors fail because what they need is closed already.
            if not _received:
                report(unraisable)
        elif signal.getsignal(signal.SIGINT) is _stop:
            _received.clear()
            # Not at once: the main thread is still in the hook, which would raise the exception only to lose it again.
            _after(AGAIN_S, _thread.interrupt_main)

    sys.unraisablehook = hook


def _watch_for_stuck_calls() -> None:
    """Exit if Python can't handle a signal, because the main thread is in a call that does not return to Python.

    The kernel's handler writes each signal's number to a pipe at once, whatever the main thread does; see
    `signal.set_wakeup_fd`. An event loop replaces the pipe by its own while it handles signals itself.
    """
    if not _pipe:
        _pipe.extend(os.pipe())
        os.set_blocking(_pipe[1], False)
        # A forked process has no such thread, and its signals are not this process's.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=_exit_if_stuck, args=(_pipe[0],), name="signals", daemon=True).start()
    signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)


def _exit_if_stuck(pipe: int) -> None:
    while number := os.read(pipe, 1):
        if number[0] in SIGNALS:
            _after(STUCK_S, _exit_unless_handled)


def _exit_unless_handled() -> None:
    if not _received and signal.getsignal(signal.SIGINT) is _stop:
        _exit(0, None)
