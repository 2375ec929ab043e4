"""Rank title ideas for thumbnails among the channel's titles, each with its probability and its range over folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.db import Database
from store.training import Pair
from trainer.data import PictureSource, normalised
from trainer.errors import BadSetting, ReaderMissing
from trainer.fitting import Fitted, WithReader, inner_of
from trainer.library.library import ROUNDING, cosines, require_unicode, usable
from trainer.library.query_picture import QueryPicture
from trainer.models import CachedEmbedder, Embedder, Projections, RapidReader, Vectors, read_words
from trainer.progress import Progress, Silent, uncounted
from trainer.runs import Calibrated
from trainer.scoring import Calibration, Probability, probability, side_by_side

__all__ = [
    "Matched",
    "Matches",
    "Placed",
    "Prepared",
    "Versions",
    "ideas_in",
    "match_prepared",
    "prepare",
    "titles_in",
]


@dataclass(frozen=True, slots=True)
class Placed:
    """A title and how well it fits the thumbnail.

    Args:
        title: exactly as given, or as stored.
        score: cosine similarity to the thumbnail.
        position: its rank if it were added to the compared titles, 1 is best; None if there are no compared titles.
        times: how often it was given.
        video_ids: for a current title, the videos that show the thumbnail with this title.
        probability: the probability that it is the thumbnail's own title, if it were added to the compared titles; None
            if the model is not calibrated, or there are no compared titles.
    """

    title: str
    score: float
    position: int | None
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
        """The ranks (1 is best) of neighbouring ideas that can't be told apart.

        These are ideas whose probability ranges overlap or, without probabilities, whose scores only differ by
        rounding, as for two titles that are equal up to the model's limit.
        """
        return [
            (rank, rank + 1)
            for rank, (one, other) in enumerate(zip(self.ideas, self.ideas[1:], strict=False), start=1)
            if _overlap(one, other)
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


class Versions:
    """A model and its versions fitted without each fold. The towers and the reader run once for all of them.

    Args:
        embedder: the model, as `trainer.runs` opens it.
        folds: the model fitted without each fold; empty if not available.
    """

    def __init__(self, embedder: Embedder, folds: Sequence[Fitted] = ()) -> None:
        self.embedder, self.folds = embedder, folds

    def pictures(self, digests: Sequence[str], source: PictureSource, keep: bool) -> list[Vectors]:
        """Embed thumbnails: (n, d) float32 of length 1 by the model, then by each fold's version.

        Raises:
            RunUnusable: the model's vectors can't be compared.
        """
        model, reader = inner_of(self.embedder), self._reader()
        pooled = model.features.pictures(digests, source, uncounted, keep=keep)
        seen = [projections.pictures(pooled) for projections in self._projections(model)]
        if reader is not None:
            words = reader.reader.features.pictures(digests, source, uncounted, keep=keep)
            seen = self._with_reader(
                seen, [projections.pictures(words) for projections in self._readers(reader)], reader
            )
        usable(seen[0])
        return seen

    def titles(self, titles: Sequence[str], count: Callable[[int], None], keep: bool) -> list[Vectors]:
        """Embed titles, as `pictures` does; `count` receives the number of embedded titles."""
        model, reader = inner_of(self.embedder), self._reader()
        pooled = model.features.titles(titles, count, keep=keep)
        said = [projections.titles(pooled) for projections in self._projections(model)]
        if reader is not None:
            words = reader.reader.features.titles(titles, uncounted, keep=keep)
            said = self._with_reader(said, [projections.titles(words) for projections in self._readers(reader)], reader)
        usable(said[0])
        return said

    def _projections(self, model: CachedEmbedder) -> list[Projections]:
        return [model.projections, *(fold.projections for fold in self.folds)]

    def _reader(self) -> WithReader | None:
        return self.embedder if isinstance(self.embedder, WithReader) else None

    def _readers(self, reader: WithReader) -> list[Projections]:
        return [reader.reader.projections, *(fold.reader or reader.reader.projections for fold in self.folds)]

    def _with_reader(self, vectors: list[Vectors], read: list[Vectors], reader: WithReader) -> list[Vectors]:
        weights = [reader.weights, *(fold.weights or reader.weights for fold in self.folds)]
        return [side_by_side(*one) for one in zip(vectors, read, weights, strict=True)]


def titles_in(content: bytes, name: str) -> list[str]:
    """Return the titles in a file: UTF-8 with or without a byte-order mark, one title per line, blank lines skipped.

    Raises:
        BadSetting: the content is not UTF-8; the message contains `name`.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSetting(f"{name} is not valid UTF-8 (byte {error.start + 1}); save it as UTF-8") from error
    # Not `splitlines`: it also splits at rarer characters, which a title may contain.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]


@dataclass(frozen=True)
class Prepared:
    """A thumbnail and the titles that ideas for it are ranked among; the same for all ideas.

    Args:
        name: the thumbnail, as the user named it.
        queries: its (d,) vector by the model, then by each fold's version.
        stored: {title: column of `scores`} of the compared titles and the current ones.
        scores: (v, n) cosines of these titles by each version.
        rivals: columns of the titles that ideas are ranked among, as often as they occur.
        once: {normalised title: column} of the same titles.
        current: {current title: ids of the videos that show the thumbnail with it}.
        words: see `Matched`.
    """

    name: str
    queries: list[Vectors]
    stored: dict[str, int]
    scores: NDArray[np.float64]
    rivals: NDArray[np.intp]
    once: dict[str, int]
    current: dict[str, tuple[str, ...]]
    words: str | None


def prepare(
    versions: Versions,
    picture: QueryPicture,
    pairs: Sequence[Pair],
    *,
    database: Database,
    shown: frozenset[str],
    channels: Collection[str] = (),
    progress: Progress | None = None,
) -> Prepared:
    """Score the store's titles for a thumbnail, so that ideas can be ranked among them by `match_prepared`.

    Args:
        versions: the model, and its versions without each fold.
        picture: the thumbnail, stored or from a file.
        pairs: all pairs of the store.
        database: the store, in which the words on the thumbnail are looked up or cached.
        shown: digests of the pairs' thumbnails that show the same picture, see `trainer.data.showing`.
        channels: ids of the channels to compare with; empty for all.
        progress: receives each distinct title.

    Raises:
        RunUnusable: the model's vectors can't be compared.
    """
    shown |= {picture.digest}
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
    once = {normalised(title): stored[title] for title in others}
    return Prepared(picture.name, queries, stored, scores, rivals, once, current, _words(database, picture, keep))


def ideas_in(titles: Sequence[str]) -> Counter[str]:
    """Return {title: how often it is given}, in the order given, without blank titles.

    Raises:
        BadSetting: there are no titles, or a title is not Unicode text.
    """
    times = Counter(title.strip() for title in titles if title.strip())
    if not times:
        raise BadSetting("no titles were given; give titles after IMAGE, or a file with --titles")
    for title in times:
        require_unicode(title)
    return times


def match_prepared(
    versions: Versions,
    prepared: Prepared,
    times: Mapping[str, int],
    calibrated: Calibrated | None = None,
) -> Matched:
    """Rank title ideas by how well they fit a thumbnail, and each idea among the titles of the store's pairs.

    Args:
        versions: the model, and its versions without each fold.
        prepared: the thumbnail.
        times: see `ideas_in`.
        calibrated: converts scores to probabilities; None for no probabilities.

    Raises:
        RunUnusable: the model's vectors can't be compared.
    """
    # A stored title that is also an idea is embedded as a stored title.
    new = {title: column for column, title in enumerate(title for title in times if title not in prepared.stored)}
    scores = _scores(versions, prepared.queries, list(new), Silent(), keep=False)
    ranked = prepared.scores[0, prepared.rivals]
    once = np.fromiter(prepared.once.values(), np.intp)

    def placed(title: str, count: int, videos: tuple[str, ...] = ()) -> Placed:
        known = prepared.stored.get(title)
        own = scores[:, new[title]] if known is None else prepared.scores[:, known]
        position, chance = None, None
        if len(ranked):
            position = int((ranked > own[0]).sum()) + 1
        if len(ranked) and calibrated is not None:
            # As in the calibration: each title counts once, and does not compete with itself.
            rest = once[once != prepared.once.get(normalised(title), -1)]
            chance = probability(calibrated.calibration, own.tolist(), list(prepared.scores[:, rest]))
        return Placed(title, float(own[0]), position, count, videos, chance)

    ideas = [placed(title, n) for title, n in times.items()]
    current = [placed(title, 1, videos) for title, videos in prepared.current.items()]
    return Matched(prepared.name, _best_first(ideas), _best_first(current), len(ranked), prepared.words)


def _words(database: Database, picture: QueryPicture, keep: bool) -> str | None:
    """Read the words on a thumbnail; None if the packages that read them are not installed."""
    try:
        return read_words(database, RapidReader(), [picture.digest], picture, uncounted, keep=keep)[picture.digest]
    except ReaderMissing:
        return None


def _overlap(one: Placed, other: Placed) -> bool:
    if one.probability is None or other.probability is None:
        return abs(one.score - other.score) <= ROUNDING
    return one.probability.overlaps(other.probability)


def _best_first(titles: list[Placed]) -> list[Placed]:
    return sorted(titles, key=lambda title: -title.score)


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
    with progress.phase("Embedding titles", len(titles)) as count:
        said = versions.titles(titles, count, keep)
    return np.stack([cosines(query, vectors) for query, vectors in zip(queries, said, strict=True)])
