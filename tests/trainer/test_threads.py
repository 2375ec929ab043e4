"""Independent parts in threads: at the same time, in order, and each in one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch

from trainer.fitting.threads import concurrently, one_thread, raise_if_cancelled


@pytest.fixture(autouse=True)
def _two_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_parts_run_at_the_same_time_and_their_results_are_in_order() -> None:
    both = threading.Barrier(2)

    def work(part: int) -> int:
        both.wait(timeout=60)  # fails if the other part does not run at the same time
        return part * part

    with one_thread():
        assert concurrently(work, [3, 1, 2, 0]) == [9, 1, 4, 0]


def test_parts_of_a_part_are_computed_in_its_thread_and_outside_of_one_thread_there_are_no_threads() -> None:
    def inner(_part: int) -> int:
        return threading.get_ident()

    def outer(_part: int) -> bool:
        return set(concurrently(inner, range(4))) == {threading.get_ident()} and torch.get_num_threads() == 1

    with one_thread():
        assert all(concurrently(outer, range(4)))
    assert set(concurrently(inner, range(4))) == {threading.get_ident()}


def test_the_first_failing_parts_error_is_raised() -> None:
    def work(part: int) -> None:
        if part:
            raise ValueError(f"part {part}")

    with one_thread(), pytest.raises(ValueError, match="part 1"):
        concurrently(work, range(4))


def test_parts_that_run_are_told_that_their_result_is_not_needed() -> None:
    running, ended = threading.Event(), threading.Event()

    def work(part: int) -> None:
        if part == 0:
            assert running.wait(timeout=60)
            raise KeyboardInterrupt
        running.set()
        try:
            while True:
                raise_if_cancelled()
        except CancelledError:
            ended.set()
            raise

    with one_thread(), pytest.raises(KeyboardInterrupt):
        concurrently(work, range(2))
    assert ended.is_set()
    raise_if_cancelled()


def test_products_in_threads_are_those_of_one_thread_bit_for_bit() -> None:
    vectors = np.random.default_rng(0).normal(size=(8, 200, 200))

    def work(part: int) -> bytes:
        product = torch.from_numpy(vectors[part]) @ torch.from_numpy(vectors[part]).T
        return product.numpy().tobytes() + np.linalg.eigh(vectors[part] @ vectors[part].T)[1].tobytes()

    with one_thread():
        assert concurrently(work, range(8)) == [work(part) for part in range(8)]
