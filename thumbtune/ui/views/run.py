"""One run: its settings, metrics, losses, and errors with thumbnails; and its promotion."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.orm import Session

from store.tables import TrainingRun
from store.training import Champion, channel_titles, current_models, get_run, mistakes, scope_of
from thumbtune.answers.stored import RunDetails, run_details
from thumbtune.scopes import scope_in_words
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

    def read(session: Session) -> tuple[RunDetails, list[dict[str, Any]], list[Champion], dict[str, str]]:
        wrong = mistakes(session, run_id, model, split, limit=PAGE + 1, skip=(page - 1) * PAGE)
        in_use = [one for one in current_models(session) if one.run.id == run_id]
        return run_details(session, run_id), wrong, in_use, _channel_names(session)

    details, wrong, in_use, names = await site.store.read(read)
    scope = scope_of(details.facts["settings"])
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
        next_page=f"/runs/{run_id}?{urlencode(following)}#mistakes" if len(wrong) > PAGE else None,
        model=model,
        split=split,
        models=_MODELS,
        splits=_SPLITS,
        in_use=[scope_in_words(one.scope, names) for one in in_use],
        channels=scope_in_words(scope, names),
        can_be_promoted=not site.settings.read_only and all(one.scope != scope for one in in_use),
    )


def _channel_names(session: Session) -> dict[str, str]:
    return {channel: handle or channel for channel, (handle, _) in channel_titles(session).items()}


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


async def _ask(
    request: web.Request, run_id: int, *, reason: str = "", problem: str | None = None, status: int = 200
) -> web.Response:
    site = request.app[SITE]

    def read(session: Session) -> tuple[TrainingRun, str, Champion | None]:
        run = get_run(session, run_id)
        scope = scope_of(run.settings)
        replaced = next((one for one in current_models(session) if one.scope == scope), None)
        return run, scope_in_words(scope, _channel_names(session)), replaced

    run, channels, now = await site.store.read(read)
    return site.page(
        request,
        "promote.html",
        status=status,
        active="runs",
        run=run,
        channels=channels,
        replaced=None if now is None else now.run.id,
        problem=problem,
        reason=reason,
    )


async def promote(request: web.Request) -> web.Response:
    """POST /runs/N/promote: put the run's model into use, with a reason."""
    site, run_id = request.app[SITE], int(request.match_info["id"])
    if site.settings.read_only:
        raise web.HTTPForbidden(text="this page is read-only; start it without --read-only to promote runs")
    reason = (await read_fields(request)).first("reason").replace("\0", "").strip()[:_LONGEST_REASON]
    if not reason:
        return await _ask(request, run_id, problem="give a reason; it is recorded with the promotion", status=400)
    try:
        await site.model.ask({"ask": "promote", "run_id": run_id, "reason": reason})
    except ModelError as error:
        return await _ask(request, run_id, reason=reason, problem=site.hidden(str(error)), status=409)
    raise web.HTTPSeeOther("/runs#history")
