"""Compare two runs on the same thumbnails: McNemar's table, and the thumbnails on which they differ."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.orm import Session

from store.training import snapshot_pairs
from thumbtune.ui.forms import one_of
from thumbtune.ui.site import SITE, Modelled

__all__ = ["show"]

_SPLITS = ("valid", "test", "train")
_MOST_SHOWN = 60


async def show(request: web.Request) -> web.Response:
    """GET /runs/compare: `a` and `b` as in 'thumbtune runs compare', and `split`."""
    site, query = request.app[SITE], request.query
    a, b = (query.get(name, "").strip()[:40] for name in ("a", "b"))
    split = one_of(query.get("split"), _SPLITS) or "valid"
    modelled = Modelled(problem="name two runs: a run's number, or N:base for the base model of run N")
    if a and b:
        modelled = await site.ask({"ask": "compare", "a": a, "b": b, "split": split, "most": _MOST_SHOWN})
    shown: list[dict[str, Any]] = []
    flipped = 0
    pictures: dict[str, tuple[str, str]] = {}
    if modelled.answer is not None:
        found = modelled.answer
        shown, flipped = found["changes"], found["flipped"]

        def read(session: Session) -> dict[str, tuple[str, str]]:
            return snapshot_pairs(session, found["b"]["snapshot_id"], [change["video_id"] for change in shown])

        pictures = await site.store.read(read)
    return site.page(
        request,
        "compare.html",
        reload=modelled.progress is not None,
        active="runs",
        a=a,
        b=b,
        split=split,
        splits=_SPLITS,
        modelled=modelled,
        won=[change for change in shown if change["rank_b"] == 1],
        lost=[change for change in shown if change["rank_a"] == 1],
        flipped=flipped,
        most_shown=_MOST_SHOWN,
        pictures=pictures,
    )
