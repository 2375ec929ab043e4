"""Limit the number of threads of torch and NumPy, and use the other cores for independent parts of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["concurrently", "one_thread"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

_MOST = 8
"""Maximum number of parts at a time, because each part has its own copies of the rows."""

_cores: ContextVar[int | None] = ContextVar("_cores", default=None)
"""Within `one_thread`, the number of threads that torch used before; in a part of `concurrently`, 1."""


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
    """Apply a function to independent parts, such as folds, in a thread for each core that `one_thread` left unused.

    Each part itself is computed in one thread, so the results do not depend on the number of cores. Outside of
    `one_thread`, and in a part of another call, the parts are computed one after another.

    Returns:
        The results, in the order of the parts.

    Raises:
        Exception: what `work` raised for the first part that failed.
    """
    every = list(parts)
    threads = min(_cores.get() or 1, _MOST, len(every))
    if threads < 2:
        return [work(part) for part in every]

    def alone(part: _Part) -> _Result:
        _cores.set(1)
        return work(part)

    with ThreadPoolExecutor(threads, thread_name_prefix="fold") as pool:
        started = [pool.submit(copy_context().run, alone, part) for part in every]
        try:
            return [future.result() for future in started]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the parts that run are awaited by the `with` statement
            raise
