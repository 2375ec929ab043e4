"""Rank title ideas for thumbnails among the channel's titles, each with its probability."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

__all__ = ["Matched", "Matches", "Placed", "Prepared", "ideas_in", "match_prepared", "match_titles", "prepare"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A title and how well it fits the thumbnail.

    Args:
        title: exactly as given, or as stored.
        score: cosine similarity to the thumbnail.
        stands: its rank if it were added to the compared titles, 1 is best; None if there are no compared titles.
        times: how often it was given.
        video_ids: for a current title, the videos that show the thumbnail with this title.
        probability: the probability that it is the thumbnail's own title, if it were added to the compared titles; None
            if the model is not calibrated, or there are no compared titles.
    """

    title: str
    score: float
    stands: int | None
    times: int = 1
    video_ids: tuple[str, ...] = ()
    probability: Probability | None = None


@dataclass(frozen=True)
class Matched:
    """The result of matching titles with one thumbnail.

    Args:
        name: the thumbnail, as the user named it.
        ideas: the given titles, each once, best first; equal scores in the order given.
        current: the titles that the thumbnail has in the store now, best first.
        compared: the number of the store's titles that the others are ranked among. The thumbnail's current titles are
            not among them, because an idea would replace them.
        words: the words read on the thumbnail, empty if it has no words; None if the reader is not installed.
    """

    name: str
    ideas: list[Placed]
    current: list[Placed]
    compared: int
    words: str | None = None

    def near_ties(self) -> list[tuple[int, int]]:
        """The ranks (1 is best) of neighbouring ideas whose probability intervals overlap."""
        return [
            (rank, rank + 1)
            for rank, (one, other) in enumerate(zip(self.ideas, self.ideas[1:], strict=False), start=1)
            if one.probability is not None and other.probability is not None
            if one.probability.overlaps(other.probability)
        ]


@dataclass(frozen=True)
class Matches:
    """The results of matching the same title ideas with several thumbnails.

    Args:
        model: `run N`, `run N, base`, or the model's name.
        run_id: the run that the model belongs to, or None.
        calibration: converts scores to probabilities, with its error and the number of thumbnails it was measured on;
            None if there are no probabilities.
        uncalibrated: why there are no probabilities.
        thumbnails: a result for each thumbnail, in the order given; all have the same ideas.
    """

    model: str
    run_id: int | None
    calibration: Calibration | None
    uncalibrated: str | None
    thumbnails: list[Matched]


@dataclass(frozen=True)
class Prepared:
    """A thumbnail and the titles that ideas for it are ranked among; the same for all ideas.

    Args:
        name: the thumbnail, as the user named it.
        queries: its (d,) vector by the model, then by each fold's version.
        stored: {title: column of `scores`} of the compared titles and the current ones.
        scores: (v, n) cosines of these titles by each version.
        rivals: columns of the titles that ideas are ranked among, as often as they occur.
        rival_scores: (v, r) their cosines.
        current: {current title: ids of the videos that show the thumbnail with it}.
        words: see `Matched`.
    """

    name: str
    queries: list[Vectors]
    stored: dict[str, int]
    scores: NDArray[np.float64]
    rivals: NDArray[np.intp]
    rival_scores: NDArray[np.float64]
    current: dict[str, tuple[str, ...]]
    words: str | None


def prepare(
    versions: Versions,
    picture: QueryPicture,
    pairs: Sequence[Pair],
    *,
    channels: Collection[str] = (),
    database: Database | None = None,
    shown: frozenset[str] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Score the store's titles for a thumbnail. The arguments and errors are those of `match_titles`."""
    shown = _same_pictures(database, picture, pairs) if shown is None else shown | {picture.digest}
    others = [
        pair.title
        for pair in pairs
        if pair.picture_sha256 not in shown
        and pair.video_id != picture.video_id
        and (not channels or pair.channel_id in channels)
    ]
    current = _current(pairs, picture, shown)
    # Pictures that are not in the store are not cached in it.
    keep = picture.video_id is not None
    queries = [vectors[0] for vectors in versions.pictures([picture.digest], picture, keep)]
    known = list(dict.fromkeys([*others, *current]))
    stored = {title: column for column, title in enumerate(known)}
    scores = _scores(versions, queries, known, progress or Silent(), keep=True)
    rivals = np.array([stored[title] for title in others], dtype=np.intp)
    words = None if database is None else _words(database, picture, keep)
    return Prepared(picture.name, queries, stored, scores, rivals, scores[:, rivals], current, words)


def match_titles(
    embedder: Embedder,
    picture: QueryPicture,
    titles: Sequence[str],
    pairs: Sequence[Pair],
    *,
    channels: Collection[str] = (),
    database: Database | None = None,
    calibrated: Calibrated | None = None,
    shown: frozenset[str] | None = None,
    progress: Progress | None = None,
) -> Matched:
    """Rank titles by how well they fit a thumbnail, and each title among the titles of the store's pairs.

    Args:
        embedder: the model.
        picture: the thumbnail, stored or from a file.
        titles: the ideas; duplicates are ranked once.
        pairs: all pairs of the store.
        channels: ids of the channels to compare with; empty for all.
        database: the store, used to recognise the picture among the pairs' thumbnails at any size and encoding, and to
            look up or cache the words on it. None: it is recognised only by its bytes, and its words are not read.
        calibrated: converts scores to probabilities; None for no probabilities.
        shown: digests of the pairs' thumbnails that show the same as this one, if already known.
        progress: receives each distinct title.

    Raises:
        BadSetting: there are no titles, or a title is not Unicode text.
        RunUnusable: the model's vectors can't be compared.
    """
    times = ideas_in(titles)
    folds = () if calibrated is None else calibrated.folds
    versions = embedder if isinstance(embedder, Versions) else Versions(embedder, folds)
    prepared = prepare(versions, picture, pairs, channels=channels, database=database, shown=shown, progress=progress)
    return match_prepared(versions, prepared, times, calibrated, progress)


def ideas_in(titles: Sequence[str]) -> Counter[str]:
    """Return {title: how often it is given}, in the order given, without blank titles.

    Raises:
        BadSetting: there are no titles, or a title is not Unicode text.
    """
    times = Counter(title.strip() for title in titles if title.strip())
    if not times:
        raise BadSetting("there is no title to match; give one or more after the picture, or a file with --titles")
    for title in times:
        require_unicode(title)
    return times


def match_prepared(
    versions: Versions,
    prepared: Prepared,
    times: Mapping[str, int],
    calibrated: Calibrated | None = None,
    progress: Progress | None = None,
) -> Matched:
    """Rank ideas for a thumbnail whose comparison is prepared, see `match_titles`.

    Args:
        versions: the model, and its versions without each fold.
        prepared: the thumbnail.
        times: see `ideas_in`.
        calibrated: converts scores to probabilities; None for no probabilities.
        progress: receives each distinct title.
    """
    # A stored title that is also an idea is embedded as a stored title.
    new = {title: column for column, title in enumerate(title for title in times if title not in prepared.stored)}
    scores = _scores(versions, prepared.queries, list(new), progress or Silent(), keep=False)
    rivals = prepared.rival_scores

    def placed(title: str, count: int, videos: tuple[str, ...] = ()) -> Placed:
        known = prepared.stored.get(title)
        own = scores[:, new[title]] if known is None else prepared.scores[:, known]
        stands, chance = None, None
        if rivals.shape[1]:
            stands = int((rivals[0] > own[0]).sum()) + 1
        if rivals.shape[1] and calibrated is not None:
            # A title that another video has does not compete with itself.
            rest = rivals if known is None else rivals[:, prepared.rivals != known]
            chance = probability(calibrated.calibration, own.tolist(), list(rest))
        return Placed(title, float(own[0]), stands, count, videos, chance)

    ideas = [placed(title, n) for title, n in times.items()]
    current = [placed(title, 1, videos) for title, videos in prepared.current.items()]
    return Matched(prepared.name, _best_first(ideas), _best_first(current), rivals.shape[1], prepared.words)


def _words(database: Database, picture: QueryPicture, keep: bool) -> str | None:
    """Read the words on a thumbnail; None if the packages that read them are not installed."""
    try:
        return read_words(database, RapidReader(), [picture.digest], picture, _silent, keep=keep)[picture.digest]
    except ReaderMissing:
        return None


def _silent(_n: int) -> None:
    pass


def _best_first(titles: list[Placed]) -> list[Placed]:
    return sorted(titles, key=lambda title: -title.score)


def _same_pictures(database: Database | None, picture: QueryPicture, pairs: Sequence[Pair]) -> frozenset[str]:
    """Digests of the stored thumbnails that show the same as the query picture."""
    same = frozenset([picture.digest])
    if database is None:
        return same
    return same | showing(database, picture.image, (pair.picture_sha256 for pair in pairs))


def _current(pairs: Sequence[Pair], picture: QueryPicture, shown: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """The thumbnail's current titles as {title: video ids}: of the named video, or of all videos that show it."""
    if picture.video_id is not None:
        return {str(picture.title): (picture.video_id,)}
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        if pair.picture_sha256 in shown:
            found[pair.title] = (*found.get(pair.title, ()), pair.video_id)
    return found


def _scores(
    versions: Versions, queries: Sequence[Vectors], titles: Sequence[str], progress: Progress, *, keep: bool
) -> NDArray[np.float64]:
    """(v, n) cosine similarities of titles to the thumbnail by each version."""
    if not titles:
        return np.empty((len(queries), 0))
    with progress.phase("Comparing titles", len(titles)) as count:
        said = versions.titles(titles, count, keep)
    return np.stack([cosines(query, vectors) for query, vectors in zip(queries, said, strict=True)])
