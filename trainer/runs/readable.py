"""Find the titles in a selection that the base model can't read: titles that are too long or in other languages."""

from __future__ import annotations

from dataclasses import dataclass

from store.db import Database
from store.training import channel_titles
from trainer.data import Selection
from trainer.models import Features, LazyModel
from trainer.settings import TrainSettings

__all__ = ["Unread", "find_unread"]

_MULTILINGUAL = (
    "a multilingual base model may be better, for example --model google/siglip2-base-patch16-224, or --model "
    "sentence-transformers/clip-ViT-B-32 with --text-model sentence-transformers/clip-ViT-B-32-multilingual-v1"
)


@dataclass(frozen=True)
class Unread:
    """The titles that the model can't read.

    Args:
        cut: the number of distinct titles that are longer than the model's limit.
        warnings: one warning for each kind.
    """

    cut: int
    warnings: list[str]


def find_unread(database: Database, model: LazyModel, chosen: Selection, settings: TrainSettings) -> Unread:
    """Check the titles that are trained and scored on. The model is loaded only if it has not seen them yet."""
    features = Features(database, model, settings.precision, settings.fit, settings.bars)
    titles = sorted({example.title for example in chosen.examples})
    cut = len(features.cut_titles(titles))
    warnings = []
    if cut:
        warnings.append(
            f"{cut} of {len(titles)} titles are longer than the limit of {model.name}, {model.facts.limit} tokens; "
            "the rest of these titles is ignored"
        )
    foreign = [
        channel_id
        for channel_id in sorted({example.channel_id for example in chosen.examples})
        if features.are_mostly_foreign(
            [example.title for example in chosen.examples if example.channel_id == channel_id]
        )
    ]
    if foreign:
        with database.read() as session:
            known = channel_titles(session)
        names = ", ".join(known[channel_id][0] or channel_id for channel_id in foreign if channel_id in known)
        warnings.append(
            f"the titles of {names} are mostly not in {model.facts.language}, the only language of {model.name}; "
            f"{_MULTILINGUAL}"
        )
    return Unread(cut, warnings)
