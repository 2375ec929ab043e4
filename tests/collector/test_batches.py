"""Thumbnails are collected for one write; the event loop's clock only advances while something waits for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from collector.http import LARGE_BYTES
from collector.sync.batches import BYTES_A_WRITE, LONGEST_UNWRITTEN_S, PICTURES_A_WRITE, gather
from store.youtube import FetchedPicture, PictureOutcome, UnchangedPicture

Outcomes = asyncio.Queue[PictureOutcome | None]


class _Skipping(selectors.DefaultSelector):
    """Does not wait: the time passes at once."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.passed_s += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Skipping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.passed_s


def _run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(test)


def _unchanged(number: int) -> UnchangedPicture:
    return UnchangedPicture(f"video-{number}")


def _of(size: int) -> FetchedPicture:
    return FetchedPicture("video", "https://i.ytimg.com/a", bytes(size), "0" * 64, "image/jpeg", 1, 1, None, None)


def test_slow_outcomes_do_not_wait_for_a_full_batch() -> None:
    async def test() -> None:
        outcomes: Outcomes = asyncio.Queue()
        batch: list[PictureOutcome] = []
        step = 0.8 * LONGEST_UNWRITTEN_S

        async def trickle() -> None:
            for number in range(10):
                await asyncio.sleep(step)
                outcomes.put_nowait(_unchanged(number))

        trickling = asyncio.create_task(trickle())
        assert not await gather(outcomes, batch)
        assert batch == [_unchanged(0), _unchanged(1)]
        await trickling
        rest: list[PictureOutcome] = []
        assert not await gather(outcomes, rest)
        assert rest == [_unchanged(number) for number in range(2, 10)]

    _run(test())


def test_a_full_batch_leaves_the_rest() -> None:
    async def test() -> None:
        outcomes: Outcomes = asyncio.Queue()
        for number in range(PICTURES_A_WRITE + 1):
            outcomes.put_nowait(_unchanged(number))
        outcomes.put_nowait(None)
        first: list[PictureOutcome] = []
        assert not await gather(outcomes, first)
        assert len(first) == PICTURES_A_WRITE
        rest: list[PictureOutcome] = []
        assert await gather(outcomes, rest)
        assert rest == [_unchanged(PICTURES_A_WRITE)]

    _run(test())


def test_a_batch_is_limited_by_bytes_too() -> None:
    async def test() -> None:
        outcomes: Outcomes = asyncio.Queue()
        fit = BYTES_A_WRITE // LARGE_BYTES
        for _ in range(fit + 1):
            outcomes.put_nowait(_of(LARGE_BYTES))
        batch: list[PictureOutcome] = []
        assert not await gather(outcomes, batch)
        assert len(batch) == fit

    _run(test())


def test_a_large_thumbnail_ends_its_batch() -> None:
    async def test() -> None:
        outcomes: Outcomes = asyncio.Queue()
        for outcome in (_unchanged(0), _of(LARGE_BYTES + 1), _unchanged(1)):
            outcomes.put_nowait(outcome)
        batch: list[PictureOutcome] = []
        assert not await gather(outcomes, batch)
        assert batch == [_unchanged(0), _of(LARGE_BYTES + 1)]

    _run(test())


def test_the_end_of_the_queue_is_reported_for_an_empty_batch() -> None:
    async def test() -> None:
        outcomes: Outcomes = asyncio.Queue()
        outcomes.put_nowait(None)
        batch: list[PictureOutcome] = []
        assert await gather(outcomes, batch)
        assert not batch

    _run(test())


def test_a_cancelled_batch_has_the_outcomes_taken_so_far() -> None:
    async def test() -> None:
        outcomes: Outcomes = asyncio.Queue()
        outcomes.put_nowait(_unchanged(0))
        batch: list[PictureOutcome] = []
        gathering = asyncio.create_task(gather(outcomes, batch))
        await asyncio.sleep(0)
        gathering.cancel()
        await asyncio.wait([gathering])
        assert gathering.cancelled()
        assert batch == [_unchanged(0)]

    _run(test())
