"""A stand-in server in a process of its own: so that its work is not done by the process that measures."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from tests.standin import Fault, Faults, StandIn
from thumbtune.standin.catalogue import Catalogue

__all__ = ["served"]


@contextmanager
def served(make: Callable[[int], Catalogue], videos: int, latency_ms: float = 0.0) -> Iterator[dict[str, str]]:
    """Serve a channel of so many videos; gives the environment that points thumbtune at it.

    Args:
        make: a function of a module, which makes the channel; called in the server's process.
        videos: what it is given.
        latency_ms: what the server adds to each answer.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(make, videos, latency_ms, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(30)
        process.kill()


def _serve(make: Callable[[int], Catalogue], videos: int, latency_ms: float, connection: Connection) -> None:
    slow = [Fault("slow", delay_s=latency_ms / 1000)] if latency_ms else []
    with StandIn(make(videos), faults=Faults(slow, most_in_a_row=None)) as server:
        connection.send(server.environment())
        # The other end is closed when the server is no longer needed.
        connection.poll(None)
