"""A stand-in server in a separate process, so that it does not affect the measured process."""

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
    """Serve a channel; yield the environment variables that make thumbtune use the server.

    Args:
        make: a module-level function that returns the channel; called in the server's process.
        videos: the argument of `make`.
        latency_ms: the latency that the server adds to each response.
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
        # Returns when the other end is closed.
        connection.poll(None)
