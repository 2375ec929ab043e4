"""How much of a title a model reads, and whether it knows the language."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.models.families import input_module

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["CHINESE", "ENGLISH", "is_mostly_foreign", "language_of", "text_limit", "token_counts"]

ENGLISH, CHINESE = "English", "Chinese"

_CLIPS_VOCABULARY = 49_408
_NO_LIMIT = 4096
"""No title has as many tokens: YouTube's have at most 100 characters."""
_MARKS = 2
"""Tokens that begin and end a text."""
_MOST_TOKENS_A_LETTER = 0.25
"""CLIP's vocabulary was made of English: on average it takes 0.21 tokens for a letter of an English title, 0.28 or more
for one of a French, Italian, Spanish, German, Dutch, Portuguese, Polish, Turkish or Indonesian title, and 0.9 or more
in other scripts. Chosen on a real English channel and 53 made-up titles in 13 other languages: 15 % of the channel's
titles have more than this, and 89 % or more of those in each language."""


def text_limit(model: SentenceTransformer) -> int | None:
    """The most tokens of a title that the model reads, begin and end included; None: more than any title has."""
    module = input_module(model, "text")
    fixed = getattr(module, "processing_kwargs", {}).get("text", {}).get("max_length")
    limit = fixed or getattr(module, "max_seq_length", None)
    tokenizer = getattr(module, "tokenizer", None)
    return None if limit is None or limit > _NO_LIMIT or not callable(tokenizer) else int(limit)


def language_of(model: SentenceTransformer) -> str | None:
    """The one language that the model's text tower was trained in; None: several, or unknown."""
    config: Any = getattr(getattr(input_module(model, "text"), "model", None), "config", None)
    words = getattr(config, "text_config", config)
    kind = getattr(config, "model_type", None)
    if kind == "chinese_clip":
        return CHINESE
    return ENGLISH if kind == "clip" and words.vocab_size == _CLIPS_VOCABULARY else None


def token_counts(model: SentenceTransformer, titles: Sequence[str]) -> list[int]:
    """How many tokens each title has, begin and end included, however many of them the model reads."""
    tokenizer = input_module(model, "text").tokenizer
    found = tokenizer(list(titles), padding=False, truncation=False, verbose=False)
    return [len(tokens) for tokens in found["input_ids"]]


def is_mostly_foreign(language: str | None, titles: Sequence[str], counts: NDArray[np.float32]) -> bool:
    """Whether titles are mostly in other languages than the model's only one; False where it has several.

    Args:
        language: as `language_of` gives it.
        titles: n titles.
        counts: (n,) tokens of each, as `token_counts` gives them.
    """
    if language == CHINESE:
        return sum(any(_is_han(char) for char in title) for title in titles) < len(titles) / 2
    if language != ENGLISH:
        return False
    return sum(_tokens_a_letter(*each) > _MOST_TOKENS_A_LETTER for each in zip(titles, counts, strict=True)) > (
        len(titles) / 2
    )


def _tokens_a_letter(title: str, tokens: float) -> float:
    # Marks are parts of letters in many scripts. Digits and signs are tokens of their own in every language.
    kinds = [unicodedata.category(char)[0] for char in title]
    letters, others = sum(kind in "LM" for kind in kinds), sum(kind in "NPS" for kind in kinds)
    return (float(tokens) - _MARKS - others) / letters if letters else 0.0


def _is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"
