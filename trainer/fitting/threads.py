"""The number of threads that torch and NumPy compute with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["one_thread"]


_bounded = ContextVar("_bounded", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: a step's products take under a millisecond, about as long as threads wait for each other.

    On busy cores, one thread trains projections three times faster than two, and fits ridge maps thirty times faster.
    Products computed in parts also differ in their last bits: with one thread, results don't depend on the number of
    cores. Inside another block this does nothing, as looking for the libraries' threads takes 20 ms.
    """
    if _bounded.get():
        yield
        return
    threads, token = torch.get_num_threads(), _bounded.set(True)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
        _bounded.reset(token)
