"""The service: syncs on a schedule, retrains in a child process, and serves health and metrics endpoints."""

from collector.watch.schedule import Rhythm, Turn, due_at, parse_duration
from collector.watch.service import Retraining, Service, WatchOptions

__all__ = [
    "Retraining",
    "Rhythm",
    "Service",
    "Turn",
    "WatchOptions",
    "due_at",
    "parse_duration",
]
