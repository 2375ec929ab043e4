"""Limit the number of threads of torch and NumPy, and use the other cores for independent parts of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Event
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["concurrently", "one_thread", "raise_if_cancelled"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

_MOST = 8
"""Maximum number of parts at a time, because each part has its own copies of the rows."""

_cores: ContextVar[int | None] = ContextVar("_cores", default=None)
"""Within `one_thread`, the number of threads that torch used before; in a part of `concurrently`, 1."""
_cancelled: ContextVar[Event | None] = ContextVar("_cancelled", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch and NumPy to one thread. A nested call does nothing, because finding the libraries takes 20 ms.

    The matrix products of a step take less than a millisecond, about as long as the synchronisation of threads. On busy
    cores, one thread trains projections three times faster than two threads, and fits ridge maps thirty times faster.
    Results also do not depend on the number of cores: products computed in parts differ in their last bits.
    """
    if _cores.get() is not None:
        yield
        return
    threads = torch.get_num_threads()
    token = _cores.set(threads)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
        _cores.reset(token)


def concurrently(work: Callable[[_Part], _Result], parts: Iterable[_Part]) -> list[_Result]:
    """Apply a function to independent parts, such as folds, in as many threads as torch used before `one_thread`.

    Each part itself is computed in one thread, so the results do not depend on the number of threads, at most 8.
    Outside of `one_thread`, and in a part of another call, the parts are computed one after another.

    Returns:
        The results, in the order of the parts.

    Raises:
        Exception: what `work` raised for the first part that failed.
    """
    all_parts = list(parts)
    threads = min(_cores.get() or 1, _MOST, len(all_parts))
    if threads < 2:
        return [work(part) for part in all_parts]
    cancelled = Event()

    def in_one_thread(part: _Part) -> _Result:
        _cores.set(1)
        _cancelled.set(cancelled)
        torch.set_num_threads(1)  # OpenMP has a limit for each thread
        return work(part)

    with ThreadPoolExecutor(threads, thread_name_prefix="fold") as pool:
        try:
            started = [pool.submit(copy_context().run, in_one_thread, part) for part in all_parts]
            return [future.result() for future in started]
        except BaseException:
            # The `with` statement waits for the parts that run.
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def raise_if_cancelled() -> None:
    """End a part of `concurrently` early if its result is no longer needed, as after Ctrl-C. Else do nothing.

    Raises:
        CancelledError: another part failed, or the main thread was interrupted.
    """
    cancelled = _cancelled.get()
    if cancelled is not None and cancelled.is_set():
        raise CancelledError
