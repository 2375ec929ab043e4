"""The Retry-After header, valid and invalid."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from collector.http import retry_after_s
from collector.http.session import Pauses

NOW = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Wed, 21 Oct 2015 07:30:00 GMT", 120),
        ("Wed, 21 Oct 2015 09:30:00 +0200", 120),
        ("Wed, 21 Oct 2015 07:30:00", 120),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        ("", None),
        ("-1", None),
        ("²", None),
        ("9999999999", None),
        ("soon", None),
        ("Wed, 32 Oct 2015 07:30:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_parsed_to_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_s({"Retry-After": value}, NOW) == seconds


def test_a_missing_or_invalid_retry_after_is_none() -> None:
    assert retry_after_s({}, NOW) is None


@pytest.mark.parametrize(
    ("attempt", "asked_s", "pause_s"),
    [
        (1, None, 8),
        (2, None, 16),
        (3, None, 20),
        (1, 0.0, 8),
        (2, 1.0, 16),
        (9, 7.0, 20),
        (9, 30.0, 30),
        (9, 100.0, 60),
    ],
)
def test_the_longer_of_retry_after_and_backoff_is_waited(attempt: int, asked_s: float | None, pause_s: float) -> None:
    assert Pauses(first_s=8, longest_s=20).before(attempt, asked_s, lambda: 1.0) == pause_s
