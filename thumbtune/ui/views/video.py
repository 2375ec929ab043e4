"""One video: its versions, the ranks of its title, and its nearest neighbours."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.orm import Session

from store.training import ranks_of_video
from store.youtube import VideoCard, VideoPage, video_cards, video_page
from thumbtune.ui.forms import video_id
from thumbtune.ui.site import SITE, Modelled
from thumbtune.ui.views.trust import Trust, how_far_to_trust

__all__ = ["show"]

_NEAREST = 8
_RANKS = 10


async def show(request: web.Request) -> web.Response:
    """GET /video/ID."""
    site, id_ = request.app[SITE], video_id(request.match_info["id"])
    if id_ is None or id_ != request.match_info["id"]:
        raise web.HTTPNotFound

    def read(session: Session) -> tuple[VideoPage, list[dict[str, Any]]]:
        return video_page(session, id_), ranks_of_video(session, id_, _RANKS)

    found, ranks = await site.store.read(read)
    modelled = Modelled()
    cards: dict[str, VideoCard] = {}
    trust: Trust | None = None
    if found.video.picture_sha256 is not None:
        modelled = await site.ask({"ask": "nearest", "picture": {"video": id_}, "k": _NEAREST})
    if modelled.answer is not None:
        answer = modelled.answer
        ids = [row["video_id"] for row in (*answer["thumbnails"], *answer["titles"])]
        cards, trust = await site.store.read(
            lambda session: (video_cards(session, ids), how_far_to_trust(session, answer))
        )
    return site.page(
        request,
        "video.html",
        reload=modelled.progress is not None,
        active="library",
        video=found.video,
        channel=found.channel,
        versions=found.versions,
        failure=found.failure,
        ranks=ranks,
        modelled=modelled,
        cards=cards,
        trust=trust,
    )
