"""Collects thumbnails into batches for one write: one transaction per thumbnail would take most of a sync's time."""

from __future__ import annotations

import asyncio

from collector.http import LARGE_BYTES
from store.youtube import FetchedPicture, PictureOutcome

__all__ = ["gather"]

PICTURES_A_WRITE = 64
BYTES_A_WRITE = 4 << 20
LONGEST_UNWRITTEN_S = 0.5


async def gather(outcomes: asyncio.Queue[PictureOutcome | None], batch: list[PictureOutcome]) -> bool:
    """Move outcomes from a queue to an empty batch, until it is full or its first outcome has waited for half a second.

    Half a second bounds what a kill can lose on a slow network. A large thumbnail ends its batch, because the next
    large thumbnail waits for its memory. On cancellation, `batch` holds the outcomes taken so far.

    Returns:
        Whether the queue has ended with None.
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
    """The next outcome in the queue. Sets a timeout only if the queue is empty, which is rare.

    Raises:
        TimeoutError: no outcome arrived by `until`, a time of the event loop's clock.
    """
    try:
        return outcomes.get_nowait()
    except asyncio.QueueEmpty:
        async with asyncio.timeout_at(until):
            return await outcomes.get()
