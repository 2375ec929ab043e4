"""Answers of a model as JSON: what `--json` prints, and what the page gets from the model's process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from store.video_links import video_url

if TYPE_CHECKING:
    from thumbtune.answers.modelled import Searched
    from trainer.library import Found, Matched, Matches, Placed

__all__ = ["found_document", "match_document", "search_document", "thumbnail_document"]


def search_document(answer: Searched, text: str | None, like: str | None) -> dict[str, Any]:
    """Return a search's answer as printed by `search --json`, except for the contact sheet."""
    return {
        "text": text,
        "like": like,
        "model": answer.used.name,
        "run_id": answer.used.run_id,
        "searched": len(answer.library.pairs),
        "left_out": [pair.video_id for pair in answer.library.left_out],
        "results": found_document(answer.found),
    }


def found_document(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return found videos as JSON, best first."""
    return [
        {
            "rank": rank,
            "video_id": answer.pair.video_id,
            "channel_id": answer.pair.channel_id,
            "title": answer.pair.title,
            "score": answer.score,
            "url": video_url(answer.pair.video_id),
        }
        for rank, answer in enumerate(found, start=1)
    ]


def match_document(found: Matches) -> dict[str, Any]:
    """Return a match's answer as printed by `match --json`: of one thumbnail, or of several under `thumbnails`."""
    measured = found.calibration
    about = {
        "model": found.model,
        "run_id": found.run_id,
        "calibration": None
        if measured is None
        else {
            "scale": measured.scale,
            "expected_calibration_error": measured.error,
            "n": measured.n,
            "folds": len(measured.scales),
        },
    }
    thumbnails = [thumbnail_document(matched) for matched in found.thumbnails]
    return {**thumbnails[0], **about} if len(thumbnails) == 1 else {**about, "thumbnails": thumbnails}


def thumbnail_document(found: Matched) -> dict[str, Any]:
    """Return the answer for one thumbnail as JSON."""
    return {
        "image": found.name,
        "compared": found.compared,
        "words": found.words,
        "titles": [
            {"rank": rank, **_title(idea, found.compared), "times": idea.times}
            for rank, idea in enumerate(found.ideas, start=1)
        ],
        "current": [{**_title(now, found.compared), "video_ids": list(now.video_ids)} for now in found.current],
        "near_ties": found.near_ties(),
    }


def _title(placed: Placed, compared: int) -> dict[str, Any]:
    chance = placed.probability
    return {
        "title": placed.title,
        "score": placed.score,
        "position": placed.position,
        "stands": placed.position,  # its name in 0.1.0, until 1.0
        "of": compared + 1 if placed.position else None,
        "probability": None if chance is None else chance.value,
        "probability_low": None if chance is None else chance.low,
        "probability_high": None if chance is None else chance.high,
    }
