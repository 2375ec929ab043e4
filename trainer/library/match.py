"""Title ideas for a picture: ranked, and placed among the titles that the channel has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from store.db import Database
from store.training import Pair
from trainer.data import showing
from trainer.errors import BadSetting
from trainer.library.library import cosines, picture_vector, require_unicode, usable
from trainer.library.query_picture import QueryPicture
from trainer.models import Embedder, Vectors
from trainer.progress import Progress, Silent

__all__ = ["Matched", "Placed", "match_titles"]


@dataclass(frozen=True, slots=True)
class Placed:
    """One title and how well it fits the picture.

    Args:
        title: exactly as given, or as the store has it.
        score: cosine similarity to the picture.
        stands: its rank if it were added to the compared titles, 1 is best; None where there are none.
        times: how often it was given.
        video_ids: for a current title, the videos that show the picture under it.
    """

    title: str
    score: float
    stands: int | None
    times: int = 1
    video_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """What matching found.

    Args:
        ideas: the titles given, each once, best first; equal scores in the order given.
        current: the titles that the picture has in the store now, best first.
        compared: how many titles of the store the others stand among. Those that the picture has now are set apart:
            an idea would take their place.
    """

    ideas: list[Placed]
    current: list[Placed]
    compared: int


def match_titles(
    embedder: Embedder,
    picture: QueryPicture,
    titles: Sequence[str],
    pairs: Sequence[Pair],
    *,
    channels: Collection[str] = (),
    database: Database | None = None,
    progress: Progress | None = None,
) -> Matched:
    """Rank titles by how well they fit a picture, and place each among the titles of the store's pairs.

    Args:
        embedder: the model.
        picture: what the titles are for.
        titles: the ideas; one given twice is ranked once.
        pairs: all pairs of the store.
        channels: ids of those to compare with; empty for all.
        database: where the pairs' pictures are, to recognise the file's picture among them whatever its size and
            coding; None: by its bytes alone.
        progress: told of each distinct title.

    Raises:
        BadSetting: there is no title, or one is not Unicode text.
        RunUnusable: the model's vectors can't be compared.
    """
    times = Counter(title.strip() for title in titles if title.strip())
    if not times:
        raise BadSetting("there is no title to match; give one or more after the picture, or a file with --titles")
    for title in times:
        require_unicode(title)
    shown = _same_pictures(database, picture, pairs)
    others = [
        pair.title
        for pair in pairs
        if pair.picture_sha256 not in shown
        and pair.video_id != picture.video_id
        and (not channels or pair.channel_id in channels)
    ]
    mine = _current(pairs, picture, shown)
    query = picture_vector(embedder, picture)
    scores = _scores(embedder, query, list(times), [*others, *mine], progress or Silent())
    rivals = np.array([scores[title] for title in others])

    def placed(title: str, count: int, videos: tuple[str, ...] = ()) -> Placed:
        stands = int((rivals > scores[title]).sum()) + 1 if others else None
        return Placed(title, scores[title], stands, count, videos)

    ideas = [placed(title, n) for title, n in times.items()]
    current = [placed(title, 1, videos) for title, videos in mine.items()]
    return Matched(_best_first(ideas), _best_first(current), len(others))


def _best_first(titles: list[Placed]) -> list[Placed]:
    return sorted(titles, key=lambda title: -title.score)


def _same_pictures(database: Database | None, picture: QueryPicture, pairs: Sequence[Pair]) -> frozenset[str]:
    """Digests of the pictures that show the same as the one asked about."""
    same = frozenset([picture.digest])
    if database is None:
        return same
    return same | showing(database, picture.image, (pair.picture_sha256 for pair in pairs))


def _current(pairs: Sequence[Pair], picture: QueryPicture, shown: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """{title: videos} that the picture has now: that of the video that was named, or those of all that show this."""
    if picture.video_id is not None:
        return {str(picture.title): (picture.video_id,)}
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        if pair.picture_sha256 in shown:
            found[pair.title] = (*found.get(pair.title, ()), pair.video_id)
    return found


def _scores(
    embedder: Embedder, query: Vectors, ideas: Sequence[str], stored: Sequence[str], progress: Progress
) -> dict[str, float]:
    """{title: cosine similarity}. A title of the store is embedded as such, also where it is an idea too."""
    known = list(dict.fromkeys(stored))
    seen = frozenset(known)
    new = [title for title in ideas if title not in seen]
    scores: dict[str, float] = {}
    with progress.phase("Comparing titles", len(known) + len(new)) as count:
        for titles, keep in ((known, True), (new, False)):
            if titles:
                vectors = usable(embedder.title_vectors(titles, count, keep=keep))
                scores.update(zip(titles, cosines(query, vectors).tolist(), strict=True))
    return scores
