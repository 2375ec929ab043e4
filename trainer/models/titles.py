"""Count the tokens of titles, and check whether a model was trained on their language."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.errors import panics_as_errors
from trainer.errors import DamagedModel
from trainer.models.families import input_module

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["failures_on", "is_mostly_foreign", "language_of", "text_limit", "token_counts"]

ENGLISH, CHINESE = "English", "Chinese"

_CLIPS_VOCABULARY = 49_408
_NO_LIMIT = 4096
"""More tokens than any title has: titles on YouTube have at most 100 characters."""
_MARKS = 2
"""Number of begin and end tokens of a text."""
_MOST_TOKENS_A_LETTER = 0.25
"""CLIP's vocabulary was made from English text. On average, a letter takes 0.21 tokens in English titles, 0.28 or more
in French, Italian, Spanish, German, Dutch, Portuguese, Polish, Turkish and Indonesian titles, and 0.9 or more in other
scripts. Chosen on a real English channel and 53 invented titles in 13 other languages: 15 % of the channel's titles
exceed this value, and at least 89 % of the titles in each other language."""


_OF_AN_INPUT = (IndexError, KeyError, OverflowError, TypeError, ValueError)


def text_limit(model: SentenceTransformer) -> int | None:
    """Return the model's maximum number of tokens of a title, begin and end included; None if no title exceeds it."""
    module = input_module(model, "text")
    fixed = getattr(module, "processing_kwargs", {}).get("text", {}).get("max_length")
    limit = fixed or getattr(module, "max_seq_length", None)
    tokenizer = getattr(module, "tokenizer", None)
    return None if limit is None or limit > _NO_LIMIT or not callable(tokenizer) else int(limit)


def language_of(model: SentenceTransformer) -> str | None:
    """Return the language of the text tower's training texts; None for several languages, or an unknown language."""
    config: Any = getattr(getattr(input_module(model, "text"), "model", None), "config", None)
    words = getattr(config, "text_config", config)
    kind = getattr(config, "model_type", None)
    if kind == "chinese_clip":
        return CHINESE
    return ENGLISH if kind == "clip" and words.vocab_size == _CLIPS_VOCABULARY else None


@contextmanager
def failures_on(what: str) -> Iterator[None]:
    """Convert what a model's preprocessing raises on one input: the model was tried out, but not with this input.

    Examples are a tokenizer with an expression that backtracks without end, and a token that the model has no vector
    for.

    Args:
        what: `title` or `thumbnail`, for the error message.

    Raises:
        DamagedModel: the model fails on an input.
    """
    try:
        with panics_as_errors(ValueError):
            yield
    except Exception as error:
        # The tokenizers library raises `Exception` itself. Other errors, such as a lack of memory, have other causes.
        if isinstance(error, UnicodeError) or not (isinstance(error, _OF_AN_INPUT) or type(error) is Exception):
            raise
        part = "tokenizer" if what == "title" else "preprocessing"
        reason = " ".join(str(error).split())[:200]
        raise DamagedModel(f"the model's {part} fails on a {what} ({reason}); use another model") from error


def token_counts(model: SentenceTransformer, titles: Sequence[str]) -> list[int]:
    """Return the number of tokens of each title before truncation, begin and end included."""
    tokenizer = input_module(model, "text").tokenizer
    with failures_on("title"):
        found = tokenizer(list(titles), padding=False, truncation=False, verbose=False)
    return [len(tokens) for tokens in found["input_ids"]]


def is_mostly_foreign(language: str | None, titles: Sequence[str], counts: NDArray[np.float32]) -> bool:
    """Whether most titles are not in the model's language. False for a model of several languages.

    Args:
        language: the result of `language_of`.
        titles: n titles.
        counts: (n,) the number of tokens of each title, from `token_counts`.
    """
    if language == CHINESE:
        return sum(any(_is_han(char) for char in title) for title in titles) < len(titles) / 2
    if language != ENGLISH:
        return False
    return sum(_tokens_a_letter(*each) > _MOST_TOKENS_A_LETTER for each in zip(titles, counts, strict=True)) > (
        len(titles) / 2
    )


def _tokens_a_letter(title: str, tokens: float) -> float:
    # In many scripts, marks are parts of letters. Digits and symbols are separate tokens in every language.
    kinds = [unicodedata.category(char)[0] for char in title]
    letters, others = sum(kind in "LM" for kind in kinds), sum(kind in "NPS" for kind in kinds)
    return (float(tokens) - _MARKS - others) / letters if letters else 0.0


def _is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"
