"""Find what the models can't read: titles that are too long or in other languages, and thumbnails without words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from store.db import Database
from store.training import channel_titles, read_words_of
from trainer.data import Selection
from trainer.models import Features, LazyModel, RapidReader
from trainer.settings import READER, TrainSettings

__all__ = ["Unread", "find_unread", "find_unread_words"]

_MULTILINGUAL = (
    "a multilingual base model may be better, for example --model google/siglip2-base-patch16-224, or --model "
    "sentence-transformers/clip-ViT-B-32 with --text-model sentence-transformers/clip-ViT-B-32-multilingual-v1"
)

_MANY_ACCENTED, _MANY_FOREIGN = 0.05, 0.25
"""The shares of a channel's letters from which its thumbnails probably have words that the OCR reads wrongly."""


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
    of_channels = _titles_of_channels(chosen)
    foreign = [channel_id for channel_id, said in of_channels if features.are_mostly_foreign(said)]
    if foreign:
        with database.read() as session:
            known = channel_titles(session)
        names = ", ".join(known[channel_id][0] or channel_id for channel_id in foreign if channel_id in known)
        warnings.append(
            f"the titles of {names} are mostly not in {model.facts.language}, the only language of {model.name}; "
            f"{_MULTILINGUAL}"
        )
    return Unread(cut, warnings)


def find_unread_words(database: Database, chosen: Selection, settings: TrainSettings) -> list[str]:
    """Return a warning if most thumbnails have no words, and one for each kind of letters that the OCR does not know.

    Args:
        database: the store, with the words of the thumbnails.
        chosen: the examples, whose thumbnails were read.
        settings: the run's settings, with the reader.
    """
    digests = sorted({example.picture_sha256 for example in chosen.examples})
    with database.read() as session:
        words = read_words_of(session, RapidReader().name, digests)
        known = channel_titles(session)
    warnings = []
    empty = sum(not text for text in words.values())
    if empty > len(digests) / 2:
        rest = "can't rank titles for these" if settings.model == READER else "ranks these without the reader"
        warnings.append(f"no words were read on {empty} of {len(digests)} thumbnails; the model {rest}")
    foreign, accented = [], []
    for channel_id, titles in _titles_of_channels(chosen):
        name = known[channel_id][0] if channel_id in known else None
        shares = _unread_letters(titles)
        if shares[0] > _MANY_FOREIGN:
            foreign.append(name or channel_id)
        elif shares[1] > _MANY_ACCENTED:
            accented.append(name or channel_id)
    if foreign:
        warnings.append(
            f"the titles of {', '.join(foreign)} have letters that the OCR can't read on thumbnails: it reads Latin "
            "letters, digits and Chinese characters, and other scripts wrongly or not at all"
        )
    if accented:
        warnings.append(
            f"the titles of {', '.join(accented)} have many letters with accents, most of which the OCR reads without "
            "the accents"
        )
    return warnings


def _titles_of_channels(chosen: Selection) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for example in chosen.examples:
        found.setdefault(example.channel_id, []).append(example.title)
    return sorted(found.items())


def _unread_letters(titles: Iterable[str]) -> tuple[float, float]:
    """The shares of letters that are neither Latin nor Chinese, and of Latin letters beyond A to Z."""
    letters = [char for title in titles for char in unicodedata.normalize("NFKC", title) if char.isalpha()]
    scripts = [unicodedata.name(char, "").split(" ")[0] for char in letters if not char.isascii()]
    n = max(len(letters), 1)
    return sum(script not in ("LATIN", "CJK") for script in scripts) / n, scripts.count("LATIN") / n
