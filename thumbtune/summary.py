"""Explain a run's scores in a sentence, and how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.db import Database
    from store.training import Recall

__all__ = ["meaning_of", "run_in_words", "trust_in"]

MEANING = {"test": "unseen thumbnails", "valid": "held-out thumbnails"}


def meaning_of(name: str, right: int, n: int, split: str, base: int | None = None) -> str:
    """State for how many thumbnails a model picks the right title, and how many guessing would get right.

    Guessing among the titles of n thumbnails is right for 1 of them on average, whatever n is.

    Args:
        name: the model.
        right: the number of thumbnails whose own title it ranks first.
        n: the number of thumbnails.
        split: `valid` or `test`.
        base: the same number for its base model; None if it was not measured.
    """
    beside = "" if base is None else f"its base model {base}, "
    return f"{name} picks the right title for {right} of {n} {MEANING[split]}; {beside}guessing 1"


def run_in_words(run_id: int, recalls: Mapping[str, Mapping[str, Recall]]) -> str | None:
    """The summary sentence of a recorded run, for test or else valid; None if neither was scored.

    Args:
        run_id: the run.
        recalls: {model: {split: recall@1}}, see `store.training.recalls_of`.
    """
    tuned, base = recalls.get("tuned", {}), recalls.get("base", {})
    for split in ("test", "valid"):
        if split in tuned:
            found, before = tuned[split], base.get(split)
            of_base = None if before is None else round(before.value * before.n)
            return meaning_of(f"run {run_id}", round(found.value * found.n), found.n, split, of_base)
    return None


def trust_in(database: Database, run_id: int | None, name: str) -> str:
    """One line on how far to trust a model's answers.

    Args:
        database: the store.
        run_id: the run that the model or base model belongs to; None for another model.
        name: `run N`, `run N, base`, or the model's name in words.
    """
    from store.training import recalls_of  # noqa: PLC0415 (SQLAlchemy is slow to import)

    fits = "a high score says that a title fits, not that it gets clicks"
    if run_id is None:
        return f"how far to trust this: {name} was not measured on your thumbnails; {fits}"
    with database.read() as session:
        recalls = recalls_of(session, run_id)
    is_base = name.endswith("base")
    who = f"the base model of run {run_id}" if is_base else name
    scored = recalls.get("base" if is_base else "tuned", {})
    split = next((split for split in ("test", "valid") if split in scored), None)
    if split is None:
        return f"how far to trust this: {who} was not measured on held-out thumbnails; {fits}"
    found = scored[split]
    right = f"{who} is right for {round(found.value * found.n)} of {found.n} {MEANING[split]} (guessing: 1)"
    return f"how far to trust this: {right}; {fits}"
