"""Title ideas for thumbnails: ranked, placed among the titles that the channel has, each with its probability."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from store.db import Database
from store.training import Pair
from trainer.data import showing
from trainer.errors import BadSetting, ReaderMissing
from trainer.library.library import cosines, require_unicode
from trainer.library.query_picture import QueryPicture
from trainer.library.versions import Versions
from trainer.models import Embedder, RapidReader, Vectors, read_words
from trainer.progress import Progress, Silent
from trainer.runs import Calibrated
from trainer.scoring import Calibration, Probability, probability

__all__ = ["Matched", "Matches", "Placed", "match_titles"]


@dataclass(frozen=True, slots=True)
class Placed:
    """One title and how well it fits the picture.

    Args:
        title: exactly as given, or as the store has it.
        score: cosine similarity to the picture.
        stands: its rank if it were added to the compared titles, 1 is best; None where there are none.
        times: how often it was given.
        video_ids: for a current title, the videos that show the picture under it.
        probability: that it is the thumbnail's own title, if it were added to the compared titles; None where the model
            is not calibrated, or there are no titles to compare with.
    """

    title: str
    score: float
    stands: int | None
    times: int = 1
    video_ids: tuple[str, ...] = ()
    probability: Probability | None = None


@dataclass(frozen=True)
class Matched:
    """What matching found for one thumbnail.

    Args:
        name: the thumbnail, as the user named it.
        ideas: the titles given, each once, best first; equal scores in the order given.
        current: the titles that the picture has in the store now, best first.
        compared: how many titles of the store the others stand among. Those that the picture has now are set apart:
            an idea would take their place.
        words: the words read on the thumbnail, empty where it has none; None where nothing reads them.
    """

    name: str
    ideas: list[Placed]
    current: list[Placed]
    compared: int
    words: str | None = None

    def near_ties(self) -> list[tuple[int, int]]:
        """The ranks (1 is best) of neighbouring ideas that can't be told apart: their spreads overlap."""
        return [
            (rank, rank + 1)
            for rank, (one, other) in enumerate(zip(self.ideas, self.ideas[1:], strict=False), start=1)
            if one.probability is not None and other.probability is not None
            if one.probability.overlaps(other.probability)
        ]


@dataclass(frozen=True)
class Matches:
    """The same title ideas for several thumbnails.

    Args:
        model: `run N`, `run N, base`, or the model's name.
        run_id: the run whose model it is, or None.
        calibration: how scores became probabilities, with its error and the number of thumbnails it was measured on;
            None where there are no probabilities.
        uncalibrated: why there are none.
        thumbnails: a result for each thumbnail, in the order given; all have the same ideas.
    """

    model: str
    run_id: int | None
    calibration: Calibration | None
    uncalibrated: str | None
    thumbnails: list[Matched]


def match_titles(
    embedder: Embedder,
    picture: QueryPicture,
    titles: Sequence[str],
    pairs: Sequence[Pair],
    *,
    channels: Collection[str] = (),
    database: Database | None = None,
    calibrated: Calibrated | None = None,
    versions: Versions | None = None,
    shown: frozenset[str] | None = None,
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
            coding, and to look up or keep the words on it; None: by its bytes alone, and without words.
        calibrated: how scores become probabilities; None: they don't.
        versions: the model with its versions without a fold, if they are at hand.
        shown: digests of the pairs' pictures that show the same as this one, if they are known.
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
    shown = _same_pictures(database, picture, pairs) if shown is None else shown | {picture.digest}
    others = [
        pair.title
        for pair in pairs
        if pair.picture_sha256 not in shown
        and pair.video_id != picture.video_id
        and (not channels or pair.channel_id in channels)
    ]
    mine = _current(pairs, picture, shown)
    # What is not in the store is not to stay in its cache.
    keep = picture.video_id is not None
    versions = versions or Versions(embedder, () if calibrated is None else calibrated.folds)
    queries = [vectors[0] for vectors in versions.pictures([picture.digest], picture, keep)]
    scores = _scores(versions, queries, list(times), [*others, *mine], progress or Silent())
    rivals = np.array([[of[title] for title in others] for of in scores])

    def placed(title: str, count: int, videos: tuple[str, ...] = ()) -> Placed:
        stands, chance = None, None
        if others:
            stands = int((rivals[0] > scores[0][title]).sum()) + 1
        if others and calibrated is not None:
            # A title that another video has is no rival of itself.
            rest = rivals[:, [other != title for other in others]]
            chance = probability(calibrated.calibration, [of[title] for of in scores], list(rest))
        return Placed(title, scores[0][title], stands, count, videos, chance)

    ideas = [placed(title, n) for title, n in times.items()]
    current = [placed(title, 1, videos) for title, videos in mine.items()]
    words = None if database is None else _words(database, picture, keep)
    return Matched(picture.name, _best_first(ideas), _best_first(current), len(others), words)


def _words(database: Database, picture: QueryPicture, keep: bool) -> str | None:
    """The words on a thumbnail; None where the packages that read them are not installed."""
    try:
        return read_words(database, RapidReader(), [picture.digest], picture, _silent, keep=keep)[picture.digest]
    except ReaderMissing:
        return None


def _silent(_n: int) -> None:
    pass


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
    versions: Versions, queries: Sequence[Vectors], ideas: Sequence[str], stored: Sequence[str], progress: Progress
) -> list[dict[str, float]]:
    """{title: cosine similarity} by each version. A title of the store is embedded as such, even if it is an idea."""
    known = list(dict.fromkeys(stored))
    seen = frozenset(known)
    new = [title for title in ideas if title not in seen]
    scores: list[dict[str, float]] = [{} for _ in queries]
    with progress.phase("Comparing titles", len(known) + len(new)) as count:
        for titles, keep in ((known, True), (new, False)):
            if titles:
                said = versions.titles(titles, count, keep)
                for found, query, vectors in zip(scores, queries, said, strict=True):
                    found.update(zip(titles, cosines(query, vectors).tolist(), strict=True))
    return scores
