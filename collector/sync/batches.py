"""Thumbnails gathered for one write: a transaction for each would take most of a sync's time."""

from __future__ import annotations

import asyncio

from collector.http import LARGE_BYTES
from store.youtube import FetchedPicture, PictureOutcome

__all__ = ["gather"]

PICTURES_A_WRITE = 64
BYTES_A_WRITE = 4 << 20
LONGEST_UNWRITTEN_S = 0.5


async def gather(outcomes: asyncio.Queue[PictureOutcome | None], batch: list[PictureOutcome]) -> bool:
    """Move outcomes from a queue to an empty batch, until it is full or its first has waited for half a second.

    However slowly they come: those that a slow network brought are not lost by the dozen when the process is killed.
    A large one ends its batch, because the next large one is waiting for its place. Whoever cancels this finds in
    `batch` what was taken.

    Returns:
        Whether none will follow: the queue's None was met.
    """
    loop, size, until = asyncio.get_running_loop(), 0, None
    while len(batch) < PICTURES_A_WRITE and size < BYTES_A_WRITE:
        try:
            outcome = await _next(outcomes, until)
        except TimeoutError:
            return False
        if outcome is None:
            return True
        batch.append(outcome)
        if isinstance(outcome, FetchedPicture):
            size += len(outcome.data)
            if len(outcome.data) > LARGE_BYTES:
                return False
        if until is None:
            until = loop.time() + LONGEST_UNWRITTEN_S
    return False


async def _next(outcomes: asyncio.Queue[PictureOutcome | None], until: float | None) -> PictureOutcome | None:
    """What is next in the queue. Mostly it is there already: a time limit is only set where it is not.

    Raises:
        TimeoutError: nothing came until then.
    """
    try:
        return outcomes.get_nowait()
    except asyncio.QueueEmpty:
        async with asyncio.timeout_at(until):
            return await outcomes.get()
