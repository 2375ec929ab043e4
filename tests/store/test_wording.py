"""Words of messages."""

from __future__ import annotations

import pytest

from store.wording import counted


@pytest.mark.parametrize(("n", "found"), [(0, "0 videos"), (1, "1 video"), (2, "2 videos"), (20_000, "20,000 videos")])
def test_counted_nouns_have_the_right_number(n: int, found: str) -> None:
    assert counted(n, "video") == found
