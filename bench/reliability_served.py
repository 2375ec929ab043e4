"""A stand-in server in a process of its own: so that its work is not done by the process that measures."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.server import StandIn

__all__ = ["served"]


@contextmanager
def served(make: Callable[[int], Catalogue], videos: int) -> Iterator[dict[str, str]]:
    """Serve a channel of so many videos; gives the environment that points thumbtune at it.

    Args:
        make: a function of a module, which makes the channel; called in the server's process.
        videos: what it is given.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(make, videos, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(30)
        process.kill()


def _serve(make: Callable[[int], Catalogue], videos: int, connection: Connection) -> None:
    with StandIn(make(videos)) as server:
        connection.send(server.environment())
        # The other end is closed when the server is no longer needed.
        connection.poll(None)
