"""Limits on concurrent requests to a host, and on the bytes in memory."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.http import ByteBudget, InFlight
from collector.http.flow import Flow
from store.db import Database
from tests.collector.channels import channel, sync
from tests.standin import Fault, Faults, StandIn


def test_a_burst_of_refusals_halves_the_limit_once() -> None:
    flow = Flow()
    sent_after = flow.halvings
    for _ in range(64):
        flow.refused(sent_after)
    assert flow.limit == 32
    flow.refused(flow.halvings)
    assert flow.limit == 16


def test_a_round_of_responses_raises_the_limit_by_about_one() -> None:
    flow = Flow(limit=8.0)
    for _ in range(8):
        flow.answered()
    assert flow.limit == pytest.approx(9, abs=0.1)


@given(st.lists(st.booleans(), max_size=500))
def test_the_limit_stays_within_its_bounds(answers: list[bool]) -> None:
    flow = Flow()
    for answered in answers:
        if answered:
            flow.answered()
        else:
            flow.refused(flow.halvings)
        assert flow.least <= flow.limit <= flow.most


async def test_no_more_requests_run_than_the_limit_allows() -> None:
    in_flight, most = InFlight(Flow(most=4, limit=4.0)), 0
    release = asyncio.Event()

    async def request() -> None:
        nonlocal most
        async with in_flight.place():
            most = max(most, in_flight.running)
            await release.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(request())
        for _ in range(10):
            await asyncio.sleep(0)
        assert in_flight.running == 4
        release.set()
    assert (most, in_flight.running) == (4, 0)


async def test_the_byte_budget_is_kept_except_for_a_single_large_item() -> None:
    budget = ByteBudget(10)
    await budget.take(6)
    waiting = asyncio.ensure_future(budget.take(20))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    await budget.give_back(6)
    await waiting
    assert budget.held == 20


async def test_every_thumbnail_is_fetched_after_initial_refusals(sqlite_database: Database) -> None:
    busy = Fault("status", path="/vi/", status=429, times=40)
    async with StandIn(channel(100), faults=Faults([busy])) as server:
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched) == ("complete", 100)
