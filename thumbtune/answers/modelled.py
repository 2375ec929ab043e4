"""Answers from a model: search, match, and the nearest neighbours of a video. Needs the training stack.

An `Answerer` keeps the model, the pairs and their vectors for further questions. A command asks once, but the page asks
repeatedly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from store.db import Database
from store.errors import StoreError
from store.training import Pair, champion, library_mark, newest_done_run
from thumbtune.answers.remembering import Remembering
from trainer.data import showing
from trainer.errors import TrainerError
from trainer.library import (
    Found,
    Library,
    Matched,
    Matches,
    Placed,
    QueryPicture,
    all_pairs,
    load_library,
    match_titles,
    picture_vector,
    resolve_channels,
    search,
    searchable,
    text_vector,
)
from trainer.models import Vectors
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs import Calibrated, InUse, calibration_of, open_in_use

__all__ = [
    "Answerer",
    "Nearest",
    "Searched",
    "found_document",
    "match_document",
    "search_document",
    "thumbnail_document",
]

_MOST_SHOWN = 64
"""The maximum number of query pictures whose matching stored thumbnails are cached."""


@dataclass(frozen=True)
class Searched:
    """The results of a search, and the library that was searched."""

    found: list[Found]
    library: Library


@dataclass(frozen=True)
class Nearest:
    """The thumbnails and titles of other videos nearest to a video's thumbnail, and the rank of its own title."""

    thumbnails: list[Found]
    titles: list[Found]
    own: Matched


class Answerer:
    """Asks one model about one store. Changes in the store since the last question are read first.

    Args:
        database: the store.
        model: as for `open_in_use`; None for the model in use.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: receives each phase.
        untrained: the model to use if no run is done and no model is named; None: as `open_in_use` does.
        channels: ids or handles of the channels whose model to use; empty for all.
    """

    def __init__(
        self,
        database: Database,
        model: str | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        *,
        untrained: str | None = None,
        channels: Sequence[str] = (),
    ) -> None:
        self._database = database
        self._model = model
        self._device = device
        self._progress = progress or Silent()
        self._untrained = untrained
        self._channels = tuple(channels)
        self._mark: tuple[object, object] = (None, None)
        self._raw: InUse | None = None
        self._used: InUse | None = None
        self._calibrated: tuple[Calibrated | None, str | None] | None = None
        self._matching: Remembering | None = None
        self._pairs: list[Pair] | None = None
        self._libraries: dict[tuple[str, ...], Library] = {}
        self._shown: dict[str, frozenset[str]] = {}

    @property
    def used(self) -> InUse:
        """The model, opened on first use.

        Raises:
            NotFound, RunUnusable, ModelUnavailable, BadSetting: see `open_in_use`.
        """
        opened = self._opened()
        if self._used is None:
            self._used = replace(opened, embedder=Remembering(opened.embedder))
        return self._used

    def _opened(self) -> InUse:
        self._look_for_changes()
        if self._raw is None:
            scope = resolve_channels(self._database, self._channels)
            self._raw = open_in_use(self._database, self._named(), self._device, self._progress, scope)
        return self._raw

    def search(
        self,
        query: str | QueryPicture,
        k: int,
        channels: Sequence[str] = (),
        only: Collection[str] | None = None,
    ) -> Searched:
        """Find the `k` thumbnails that are most similar to a text or a picture, best first.

        Args:
            query: the text or picture. A video's own thumbnail is excluded from the results.
            k: the number of results, at least 1.
            channels: ids or handles of the channels to search; empty for all.
            only: ids of the videos to search; None for all.

        Raises:
            BadSetting: the text is blank, a channel is not in the store, or `k` is less than 1.
            NotEnoughPairs: there are no thumbnails to search.
            BadPicture: none of the thumbnails can be decoded.
            RunUnusable, ModelUnavailable: see `used`; or the model's vectors can't be compared.
        """
        self._look_for_changes()
        # Checked first, so that no model is loaded if there is nothing to search.
        pairs = None if tuple(channels) in self._libraries else searchable(self._database, channels)
        with quiet_libraries():
            vector = self._query_vector(query)
            library = self._library(tuple(channels), pairs)
        if only is not None:
            library = _restricted(library, only)
        without = None if isinstance(query, str) else query.video_id
        return Searched(search(library, vector, k, without=without) if library.pairs else [], library)

    def match(self, pictures: Sequence[QueryPicture], titles: Sequence[str], channels: Sequence[str] = ()) -> Matches:
        """Rank titles for each of several thumbnails, with the probability of each: see `match_titles`.

        Args:
            pictures: the thumbnails, at least one.
            titles: the ideas.
            channels: ids or handles of the channels whose titles to compare with; empty for all.

        Raises:
            BadSetting: there are no titles, a title is not Unicode text, or a channel is not in the store.
            RunUnusable, ModelUnavailable: see `used`.
        """
        wanted = resolve_channels(self._database, channels)
        with quiet_libraries():
            used, pairs, (calibrated, reason) = self.used, self._all_pairs(), self._calibration()
            embedder = self._versions(calibrated)
            found = [
                match_titles(
                    embedder,
                    picture,
                    titles,
                    pairs,
                    channels=wanted,
                    database=self._database,
                    calibrated=calibrated,
                    shown=self._showing(picture),
                    progress=self._progress,
                )
                for picture in pictures
            ]
        return Matches(used.name, used.run_id, None if calibrated is None else calibrated.calibration, reason, found)

    def nearest(self, picture: QueryPicture, k: int) -> Nearest:
        """Find the `k` thumbnails and titles of other videos that are nearest to a stored thumbnail.

        Raises:
            BadSetting, NotEnoughPairs, BadPicture, RunUnusable, ModelUnavailable: see `search`.
        """
        thumbnails = self.search(picture, k).found
        with quiet_libraries():
            pairs = self._all_pairs()
            vectors = self.used.embedder.title_vectors([pair.title for pair in pairs], lambda _n: None)
            vector = self._query_vector(picture)
        titles = search(Library(pairs, vectors, []), vector, k, without=picture.video_id)
        return Nearest(thumbnails, titles, self.match([picture], [str(picture.title)]).thumbnails[0])

    def _look_for_changes(self) -> None:
        with self._database.read() as session:
            pairs, models = library_mark(session)
        if pairs != self._mark[0]:
            self._pairs, self._libraries, self._shown = None, {}, {}
        if models != self._mark[1]:
            self._raw, self._used, self._calibrated, self._matching, self._libraries = None, None, None, None, {}
        self._mark = (pairs, models)

    def _named(self) -> str | None:
        if self._model is not None or self._untrained is None:
            return self._model
        with self._database.read() as session:
            trained = champion(session) is not None or newest_done_run(session) is not None
        return None if trained else self._untrained

    def _query_vector(self, query: str | QueryPicture) -> Vectors:
        embedder = self.used.embedder
        with self._progress.phase("Embedding the query"):
            return text_vector(embedder, query) if isinstance(query, str) else picture_vector(embedder, query)

    def _library(self, channels: tuple[str, ...], pairs: Sequence[Pair] | None) -> Library:
        embedder = self.used.embedder
        if channels not in self._libraries:
            pairs = searchable(self._database, channels) if pairs is None else pairs
            self._libraries[channels] = load_library(self._database, embedder, pairs, self._progress)
        return self._libraries[channels]

    def _all_pairs(self) -> list[Pair]:
        if self._pairs is None:
            self._pairs = all_pairs(self._database)
        return self._pairs

    def _calibration(self) -> tuple[Calibrated | None, str | None]:
        """Return the calibration, or None and the reason: a ranking without probabilities is still useful."""
        if self._calibrated is None:
            try:
                self._calibrated = calibration_of(self._database, self._opened(), self._progress), None
            except (TrainerError, StoreError) as error:
                self._calibrated = None, str(error)
        return self._calibrated

    def _versions(self, calibrated: Calibrated | None) -> Remembering:
        """The model and its versions fitted without each fold; without folds, the model of `used`."""
        if self._matching is None:
            folds = () if calibrated is None else calibrated.folds
            self._matching = Remembering(self._opened().embedder, folds)
        return self._matching

    def _showing(self, picture: QueryPicture) -> frozenset[str]:
        """The digests of stored thumbnails that show the same as the picture, even if their bytes differ."""
        if picture.digest not in self._shown:
            if len(self._shown) >= _MOST_SHOWN:
                self._shown.clear()
            digests = (pair.picture_sha256 for pair in self._all_pairs())
            self._shown[picture.digest] = showing(self._database, picture.image, digests)
        return self._shown[picture.digest]


def _restricted(library: Library, only: Collection[str]) -> Library:
    rows = [row for row, pair in enumerate(library.pairs) if pair.video_id in only]
    return Library([library.pairs[row] for row in rows], library.vectors[rows], library.left_out)


def search_document(answer: Searched, used: InUse, text: str | None, like: str | None) -> dict[str, Any]:
    """Return a search's answer as printed by `search --json`, except for the contact sheet."""
    return {
        "text": text,
        "like": like,
        "model": used.name,
        "run_id": used.run_id,
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
            "url": f"https://youtu.be/{answer.pair.video_id}",
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
        "stands": placed.stands,
        "of": compared + 1 if placed.stands else None,
        "probability": None if chance is None else chance.value,
        "probability_low": None if chance is None else chance.low,
        "probability_high": None if chance is None else chance.high,
    }
