"""The public views have the documented columns, in the documented order, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from store.db import Database
from store.tables.views import VIEWS


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_view_has_the_documented_columns(database: Database, name: str) -> None:
    with database.read() as session:
        result = session.execute(text(f"SELECT * FROM {name}"))
        assert list(result.keys()) == list(VIEWS[name].columns)
