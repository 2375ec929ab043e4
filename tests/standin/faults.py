"""A plan of the faults to inject, declared beforehand and seedable.

A plan is a list of rules. For each request, matching rules with `times` are tried first, in the order of the list; then
one number drawn for this request decides among the shares, so
`[Fault("status", share=0.1), Fault("reset", share=0.05)]` fails 15 % of the requests, each in one way. The number
depends on the seed, the request and how often it was made before, not on the order in which concurrent requests
arrive: the same client gets the same faults.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

__all__ = ["MOST_DELAY_S", "Fault", "FaultKind", "Faults"]

FaultKind = Literal["status", "html", "body", "redirect", "reset", "cut", "cut_json", "slow", "hang"]

MOST_DELAY_S = 60.0
"""The most seconds that an answer is delayed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule: what happens, to which requests, how often.

    In place of the answer (nothing is computed, no unit is charged):

    - `status`: the HTTP status `status`, with `Retry-After: retry_after` unless that is None;
    - `html`: a page of HTML with status 200; `body`: any `body` of any `content_type`, with status `status` or 200;
    - `redirect`: to `location`, with status `status` or 302;
    - `reset`: the connection is reset before a byte is sent.

    Applied to the answer (which is computed and charged):

    - `cut`: the connection ends half way through the body that Content-Length announced;
    - `cut_json`: half the body, with a matching Content-Length;
    - `slow`: delayed by `delay_s`; `hang`: delayed until `StandIn.release`, the client disconnects, or `delay_s` is
      over, whichever comes first. Neither lasts longer than `MOST_DELAY_S`.

    A request matches when its path starts with `path` and its query has every pair of `query`. The first `after`
    matching requests are spared. With `times`, the fault happens to each of the next `times` matching requests;
    without it, to a `share` (0 to 1) of them.

    Raises:
        ValueError: a value is out of range, or one that the kind needs is missing.
    """

    kind: FaultKind
    path: str = "/"
    share: float = 1.0
    times: int | None = None
    after: int = 0
    query: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    status: int | None = None
    retry_after: int | None = None
    location: str | None = None
    body: bytes = b""
    content_type: str = "application/octet-stream"
    delay_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is a part of all requests, 0 to 1; got {self.share!r}")
        if self.after < 0 or (self.times is not None and self.times < 1):
            raise ValueError(f"after is at least 0 and times at least 1; got {self.after!r} and {self.times!r}")
        if not 0 <= self.delay_s <= MOST_DELAY_S:
            raise ValueError(f"delay_s is 0 to {MOST_DELAY_S:g} seconds; got {self.delay_s!r}")
        if self.kind == "status" and (self.status is None or not 400 <= self.status <= 599):
            raise ValueError(f"a status fault needs a status of 400 to 599; got {self.status!r}")
        if self.kind == "redirect" and not self.location:
            raise ValueError("a redirect fault needs a location")

    def matches(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether the rule applies to requests of this kind, regardless of its counts."""
        return path.startswith(self.path) and all(query.get(n) == v for n, v in self.query.items())


class Faults:
    """A plan of faults; call `decide` once for each request.

    `most_in_a_row` limits how often in a row a shared fault hits the same path and query, so that a client that
    repeats a request always succeeds; None removes the limit (a server that is down permanently). Rules with `times`
    end by themselves and are not limited by it.

    Raises:
        ValueError: the limit is below 1.
    """

    def __init__(self, rules: Iterable[Fault] = (), seed: int = 0, most_in_a_row: int | None = 1) -> None:
        if most_in_a_row is not None and most_in_a_row < 1:
            raise ValueError(f"most_in_a_row is at least 1, or None; got {most_in_a_row!r}")
        self.rules = tuple(rules)
        self.seed = seed
        self.most_in_a_row = most_in_a_row
        self.made: Counter[FaultKind] = Counter()
        """How many faults were injected, by kind."""
        self._matched: Counter[int] = Counter()
        self._taken: Counter[int] = Counter()
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._in_a_row: Counter[tuple[str, str]] = Counter()

    def decide(self, path: str, query: Mapping[str, str]) -> Fault | None:
        """Return the fault for this request, or None; updates the plan's counts.

        The query's `key` is ignored: the same call with two keys is the same call.
        """
        if not self.rules:
            return None
        identity = path, repr(sorted((n, v) for n, v in query.items() if n != "key"))
        due = self._due(path, query)
        fault = self._timed(due) or self._shared(due, identity)
        if fault is None:
            del self._in_a_row[identity]
        else:
            self._in_a_row[identity] += 1
            self.made[fault.kind] += 1
        return fault

    def _due(self, path: str, query: Mapping[str, str]) -> list[int]:
        due = []
        for number, rule in enumerate(self.rules):
            if rule.matches(path, query):
                self._matched[number] += 1
                if self._matched[number] > rule.after:
                    due.append(number)
        return due

    def _timed(self, due: list[int]) -> Fault | None:
        for number in due:
            rule = self.rules[number]
            if rule.times is not None and self._taken[number] < rule.times:
                self._taken[number] += 1
                return rule
        return None

    def _shared(self, due: list[int], identity: tuple[str, str]) -> Fault | None:
        self._attempts[identity] += 1
        if self.most_in_a_row is not None and self._in_a_row[identity] >= self.most_in_a_row:
            return None
        drawn = self._draw(identity, self._attempts[identity])
        for number in due:
            rule = self.rules[number]
            if rule.times is None:
                if drawn < rule.share:
                    return rule
                drawn -= rule.share
        return None

    def _draw(self, identity: tuple[str, str], attempt: int) -> float:
        digest = hashlib.blake2b(repr((self.seed, identity, attempt)).encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2**56
