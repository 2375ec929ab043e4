"""How many threads torch computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: a step's products take less than a millisecond, and threads wait for each other as long.

    On cores that are busy, one thread trains projections three times faster than two. And products that are cut in
    parts differ in their last bits: in one thread, results do not hang on how many cores a machine has.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
