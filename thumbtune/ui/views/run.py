"""One run: its settings, metrics, losses, and errors with thumbnails; and its promotion."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.orm import Session

from store.training import champion, get_run, mistakes
from store.youtube import video_cards
from thumbtune.answers.stored import RunDetails, run_details
from thumbtune.ui.charts import loss_chart
from thumbtune.ui.forms import one_of, read_fields, whole
from thumbtune.ui.model_process import ModelError
from thumbtune.ui.site import SITE

__all__ = ["ask_to_promote", "promote", "show"]

PAGE = 24
_MODELS = ("tuned", "base", "champion")
_SPLITS = ("valid", "test", "train")
_LONGEST_REASON = 500
_HIDDEN = frozenset({"host", "pid", "artifact_path", "output_path", "settings", "packages", "phase_seconds", "error"})
"""Columns about this machine, or that the page shows elsewhere."""


async def show(request: web.Request) -> web.Response:
    """GET /runs/N; `model`, `split` and `page` select the errors to show."""
    site, query, run_id = request.app[SITE], request.query, int(request.match_info["id"])
    model = one_of(query.get("model"), _MODELS) or "tuned"
    split = one_of(query.get("split"), _SPLITS) or "valid"
    page = whole(query.get("page"), 1, 1, 10_000)

    def read(session: Session) -> tuple[RunDetails, list[dict[str, Any]], dict[str, Any], bool]:
        wrong = mistakes(session, run_id, model, split, limit=PAGE + 1, skip=(page - 1) * PAGE)
        winners = video_cards(session, [row["top_video_id"] for row in wrong])
        in_use = champion(session)
        return run_details(session, run_id), wrong, winners, in_use is not None and in_use.id == run_id

    details, wrong, winners, in_use = await site.store.read(read)
    following = {"model": model, "split": split, "page": page + 1}
    return site.page(
        request,
        "run.html",
        active="runs",
        run=details.facts,
        facts=[(name.replace("_", " "), value) for name, value in details.facts.items() if name not in _HIDDEN],
        settings=details.facts["settings"] or {},
        metrics=_metrics(details.metrics),
        loss=loss_chart([(step["epoch"], step["loss"]) for step in details.steps]),
        wrong=wrong[:PAGE],
        winners=winners,
        next_page=f"/runs/{run_id}?{urlencode(following)}#mistakes" if len(wrong) > PAGE else None,
        model=model,
        split=split,
        models=_MODELS,
        splits=_SPLITS,
        in_use=in_use,
    )


def _metrics(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each direction, split and model over all channels, with a value for each metric."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        if row["scope"] == "all":
            key = (row["direction"], row["split"], row["model"])
            line = found.setdefault(key, dict(zip(("direction", "split", "model"), key, strict=True)) | {"n": row["n"]})
            line[row["metric"]] = row
    order = ("thumbnail_to_title", "title_to_thumbnail"), ("valid", "test", "train"), ("base", "champion", "tuned")
    return sorted(
        found.values(),
        key=lambda line: [
            names.index(line[of]) for names, of in zip(order, ("direction", "split", "model"), strict=True)
        ],
    )


async def ask_to_promote(request: web.Request) -> web.Response:
    """GET /runs/N/promote: what a promotion would change, and a form for the reason."""
    return await _ask(request, int(request.match_info["id"]))


async def _ask(request: web.Request, run_id: int, *, problem: str | None = None, status: int = 200) -> web.Response:
    site = request.app[SITE]

    def read(session: Session) -> tuple[Any, Any]:
        return get_run(session, run_id), champion(session)

    run, now = await site.store.read(read)
    return site.page(
        request, "promote.html", status=status, active="runs", run=run, champion=now, problem=problem, reason=""
    )


async def promote(request: web.Request) -> web.Response:
    """POST /runs/N/promote: take the run's model into use, with a reason."""
    site, run_id = request.app[SITE], int(request.match_info["id"])
    if site.settings.read_only:
        raise web.HTTPForbidden(text="this page is read-only; start it without --read-only to promote runs")
    reason = (await read_fields(request)).first("reason").replace("\0", "").strip()[:_LONGEST_REASON]
    if not reason:
        return await _ask(request, run_id, problem="say why; the reason is recorded with the promotion", status=400)
    try:
        await site.model.ask({"ask": "promote", "run_id": run_id, "reason": reason})
    except ModelError as error:
        return await _ask(request, run_id, problem=site.hidden(str(error)), status=409)
    raise web.HTTPSeeOther("/runs#history")
