"""The service's metrics for Prometheus (https://prometheus.io/docs/practices/naming/), and the event loop's lag.

The label `channel` is the channel's id, or the given name until the id is known. No label contains a title or the key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from collector.sync import SyncReport

__all__ = ["LoopLag", "Metrics", "ModelInUse"]

SYNC_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """A run in use: for which channels (`all`, or ids joined by commas), since when, and its recall@1 on test."""

    run_id: int
    scope: str
    since: datetime
    recall: float | None


def _version() -> str:
    try:
        return version("thumbtune")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


class Metrics:
    """The metrics of a service, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._syncs = Counter("thumbtune_syncs", "Finished syncs, by status.", ["channel", "status"], registry=registry)
        self._failures = Counter("thumbtune_failures", "Failed syncs.", ["channel"], registry=registry)
        self._units = Counter("thumbtune_units", "Quota units spent by this process.", ["channel"], registry=registry)
        self._pictures = Counter(
            "thumbtune_pictures", "Processed thumbnails, by outcome.", ["channel", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "thumbtune_sync_seconds", "Duration of a sync.", ["channel"], buckets=SYNC_SECONDS, registry=registry
        )
        self._last_success = Gauge(
            "thumbtune_last_success_timestamp_seconds",
            "End of the last successful sync, by any process.",
            ["channel"],
            registry=registry,
        )
        self.units_today = Gauge(
            "thumbtune_units_today", "Units spent this Pacific day with this key, by all processes.", registry=registry
        )
        self.units_budget = Gauge("thumbtune_units_budget", "Units that may be spent a day.", registry=registry)
        self.paused = Gauge(
            "thumbtune_quota_paused", "1 while syncs are paused because the day's units are used up.", registry=registry
        )
        self.loop_lag = Histogram(
            "thumbtune_loop_lag_seconds",
            "Delay between the requested and the actual wake-up of a task.",
            buckets=LAG_SECONDS,
            registry=registry,
        )
        self._retrains = Counter(
            "thumbtune_retrains", "Finished retrainings, by exit code.", ["exit_code"], registry=registry
        )
        for code in (0, 1, 2, 3):  # Prometheus sees no increase in a series that starts with 1
            self._retrains.labels(str(code))
        self.retraining = Gauge("thumbtune_retraining", "1 while a retraining runs.", registry=registry)
        self._channel_info = Gauge(
            "thumbtune_channel_info", "1 for each channel, with its handle.", ["channel", "handle"], registry=registry
        )
        self._recall = Gauge(
            "thumbtune_model_recall_at_1",
            "Share of test thumbnails for which the model in use ranks the right title first, as measured by its run.",
            ["scope", "run"],
            registry=registry,
        )
        self._age = Gauge(
            "thumbtune_model_age_seconds", "How long the model has been in use.", ["scope", "run"], registry=registry
        )
        Gauge("thumbtune_build_info", "1, with the version.", ["version"], registry=registry).labels(_version()).set(1)
        self.store_errors = Counter(
            "thumbtune_store_errors", "Failures to read the schedule from the store.", registry=registry
        )

    def synced(self, channel: str, report: SyncReport) -> None:
        """Count a sync that returned a report."""
        self._syncs.labels(channel, report.status).inc()
        self._failures.labels(channel).inc(int(report.status == "failed"))
        self._units.labels(channel).inc(report.units)
        for outcome, count in (
            ("fetched", report.pictures_fetched),
            ("unchanged", report.pictures_unchanged),
            ("failed", report.pictures_failed),
        ):
            self._pictures.labels(channel, outcome).inc(count)
        if report.status != "busy":
            self._seconds.labels(channel).observe(report.seconds)

    def broke(self, channel: str) -> None:
        """Count a sync that ended with a store error or a bug."""
        self._syncs.labels(channel, "failed").inc()
        self._failures.labels(channel).inc()

    def succeeded(self, channel: str, when: datetime) -> None:
        """Set the end of a channel's last successful sync."""
        self._last_success.labels(channel).set(when.timestamp())

    def describe(self, handles: Mapping[str, str | None], models: Sequence[ModelInUse], now: datetime) -> None:
        """Set the channels' handles and the models in use; other channels and models are removed."""
        for gauge in (self._channel_info, self._recall, self._age):
            gauge.clear()
        for channel, handle in handles.items():
            self._channel_info.labels(channel, handle or "").set(1)
        for model in models:
            labels = (model.scope, str(model.run_id))
            self._age.labels(*labels).set(max(0.0, (now - model.since).total_seconds()))
            if model.recall is not None:
                self._recall.labels(*labels).set(model.recall)

    def retrained(self, exit_code: int) -> None:
        """Count a finished retraining."""
        self._retrains.labels(str(exit_code)).inc()

    def text(self) -> bytes:
        """The metrics in the Prometheus text format."""
        return generate_latest(self.registry)


TICK_S = 0.5
KEPT_TICKS = 20


class LoopLag:
    """Measures every half second how much longer than requested a sleep takes.

    Args:
        observe: called with each lag in seconds.
    """

    def __init__(self, observe: Callable[[float], object]) -> None:
        self._observe = observe
        self._lags: deque[float] = deque(maxlen=KEPT_TICKS)
        self._ticked_at: float | None = None

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Measure while the context is active."""
        task = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            task.cancel()

    def worst_s(self) -> float:
        """The longest lag of the last ten seconds, including the current tick if it is overdue."""
        overdue = 0.0 if self._ticked_at is None else asyncio.get_running_loop().time() - self._ticked_at - TICK_S
        return max([overdue, 0.0, *self._lags])

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._ticked_at = loop.time()
            await asyncio.sleep(TICK_S)
            lag = max(0.0, loop.time() - self._ticked_at - TICK_S)
            self._lags.append(lag)
            self._observe(lag)
