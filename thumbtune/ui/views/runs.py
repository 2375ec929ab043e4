"""All runs: a table, recall over time, and the history of champions."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.orm import Session

from store.training import champion_ids, finished_runs
from thumbtune.answers.stored import list_champions, list_runs
from thumbtune.ui.charts import RecallChart, recall_chart
from thumbtune.ui.forms import whole
from thumbtune.ui.site import SITE

__all__ = ["show"]

PAGE = 100


async def show(request: web.Request) -> web.Response:
    """GET /runs."""
    site = request.app[SITE]
    page = whole(request.query.get("page"), 1, 1, 100_000)

    def read(session: Session) -> tuple[list[dict[str, Any]], list[dict[str, Any]], RecallChart | None]:
        rows = list(reversed(list_runs(session)))
        chart = recall_chart(finished_runs(session), champion_ids(session))
        return rows, list_champions(session)[::-1], chart

    rows, champions, chart = await site.store.read(read)
    start = (page - 1) * PAGE
    return site.page(
        request,
        "runs.html",
        active="runs",
        rows=rows[start : start + PAGE],
        total=len(rows),
        next_page=f"/runs?page={page + 1}" if start + PAGE < len(rows) else None,
        comparable=[row["run_id"] for row in rows if row["status"] == "done"],
        champions=champions,
        chart=chart,
    )
