"""The requests that the server received: a bounded log and cheap counts, for tests that assert on cost."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.standin.faults import FaultKind

__all__ = ["Endpoint", "Journal", "LoggedRequest"]

Endpoint = Literal["channels", "playlistItems", "videos", "feed", "picture", "other"]


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One finished request.

    `headers` contains the request's headers, with names in lower case. `status` is None when there was no answer (the
    connection was reset, or the client disconnected). `fault` is the injected fault.
    """

    endpoint: Endpoint
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int | None
    fault: FaultKind | None


class Journal:
    """The newest `kept` requests in full, and counts over all of them. Safe to read from any thread."""

    def __init__(self, kept: int = 20_000) -> None:
        self._requests: deque[LoggedRequest] = deque(maxlen=kept)
        self._by_endpoint: Counter[str] = Counter()
        self._by_status: Counter[tuple[str, int | None]] = Counter()
        self._lock = threading.Lock()

    def add(self, request: LoggedRequest) -> None:
        """Record one request."""
        with self._lock:
            self._requests.append(request)
            self._by_endpoint[request.endpoint] += 1
            self._by_status[request.endpoint, request.status] += 1

    def requests(self, endpoint: Endpoint | None = None) -> list[LoggedRequest]:
        """Return the newest requests, oldest first; only those of one endpoint if given."""
        with self._lock:
            return [r for r in self._requests if endpoint in (None, r.endpoint)]

    def count(self, endpoint: Endpoint | None = None, status: int | None = None) -> int:
        """Return the number of requests, only those of one endpoint and with one status if given."""
        with self._lock:
            if status is None:
                return self._by_endpoint.total() if endpoint is None else self._by_endpoint[endpoint]
            pairs = self._by_status.items()
            return sum(n for (e, s), n in pairs if s == status and endpoint in (None, e))

    def clear(self) -> None:
        """Clear the log and the counts, for example before a second sync that is counted separately."""
        with self._lock:
            self._requests.clear()
            self._by_endpoint.clear()
            self._by_status.clear()
