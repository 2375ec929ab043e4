"""Answers from a model: search, match, and the nearest neighbours of a video. Needs the training stack.

An `Answerer` keeps the model, the pairs and their vectors for further questions. A command asks once, but the page asks
repeatedly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from store.db import Database
from store.errors import StoreError
from store.training import Pair, library_mark, model_in_use
from thumbtune.answers.remembering import Remembering
from trainer.data import showing
from trainer.errors import TrainerError
from trainer.library import (
    Found,
    Library,
    Matched,
    Matches,
    Prepared,
    QueryPicture,
    all_pairs,
    ideas_in,
    load_library,
    match_prepared,
    picture_vector,
    prepare,
    resolve_channels,
    search,
    searchable,
    text_vector,
)
from trainer.models import Vectors
from trainer.progress import Progress, Silent, uncounted
from trainer.quiet import quiet_libraries
from trainer.runs import Calibrated, InUse, calibration_of, open_in_use

__all__ = ["Answerer", "Nearest", "Searched"]

_MOST_SHOWN = 64
"""The maximum number of query pictures whose matching stored thumbnails are cached."""
_MOST_PREPARED = 16
"""The maximum number of thumbnails whose comparison with the stored titles is kept: about 2 MB each for 20,000."""


@dataclass(frozen=True)
class Searched:
    """The results of a search, the library that was searched, and the model."""

    found: list[Found]
    library: Library
    used: InUse


@dataclass(frozen=True)
class Nearest:
    """The thumbnails and titles of other videos nearest to a video's thumbnail, and the rank of its own title."""

    thumbnails: list[Found]
    titles: list[Found]
    own: Matched
    used: InUse


class _Opened:
    """An open model, with cached results.

    Args:
        used: the model.
    """

    def __init__(self, used: InUse) -> None:
        self.uncached = used
        self.used = replace(used, embedder=Remembering(used.embedder))
        self.calibrated: tuple[Calibrated | None, str | None] | None = None
        self.versions: Remembering | None = None
        self.libraries: dict[frozenset[str], Library] = {}
        self.prepared: dict[object, Prepared] = {}


class Answerer:
    """Answers questions about one store. Changes in the store since the last question are read first.

    Each public method looks for changes once, so that one answer never mixes two states of the store's models.

    Args:
        database: the store.
        model: as for `open_in_use`; None for the model in use for the channels of a question.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: receives each phase.
        untrained: the model to use if no run is done and no model is named; None: as `open_in_use` does.
    """

    def __init__(
        self,
        database: Database,
        model: str | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        *,
        untrained: str | None = None,
    ) -> None:
        self._database = database
        self._model = model
        self._device = device
        self._progress = progress or Silent()
        self._untrained = untrained
        self._mark: tuple[object, object] = (None, None)
        self._pairs: list[Pair] | None = None
        self._models: dict[frozenset[str], _Opened] = {}
        """{channels: the model in use for them}; channels with the same model share one object."""
        self._shown: dict[str, frozenset[str]] = {}

    def used(self, channels: Sequence[str] = ()) -> InUse:
        """Return the model for these channels (ids or handles; empty for all).

        Raises:
            NotFound, RunUnusable, ModelUnavailable, BadSetting: see `open_in_use`.
        """
        self._look_for_changes()
        return self._opened(resolve_channels(self._database, channels)).used

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
            channels: ids or handles of the channels to search, with the model for them; empty for all.
            only: ids of the videos to search; None for all.

        Raises:
            BadSetting: the text is blank, a channel is not in the store, or `k` is less than 1.
            NotEnoughPairs: there are no thumbnails to search.
            BadPicture: none of the thumbnails can be decoded.
            RunUnusable, ModelUnavailable: see `used`; or the model's vectors can't be compared.
        """
        self._look_for_changes()
        return self._search(query, k, channels, only)

    def match(self, pictures: Sequence[QueryPicture], titles: Sequence[str], channels: Sequence[str] = ()) -> Matches:
        """Rank titles for each of several thumbnails, with the probability of each.

        Args:
            pictures: the thumbnails, at least one.
            titles: the ideas.
            channels: ids or handles of the channels whose titles to compare with, by the model for them; empty for all.

        Raises:
            BadSetting: there are no titles, a title is not Unicode text, or a channel is not in the store.
            RunUnusable, ModelUnavailable: see `used`.
        """
        self._look_for_changes()
        return self._match(pictures, titles, channels)

    def nearest(self, picture: QueryPicture, k: int) -> Nearest:
        """Find the `k` thumbnails and titles of other videos that are nearest to a stored thumbnail.

        Raises:
            BadSetting, NotEnoughPairs, BadPicture, RunUnusable, ModelUnavailable: see `search`.
        """
        self._look_for_changes()
        searched = self._search(picture, k)
        opened = self._opened(frozenset())
        with quiet_libraries():
            pairs = self._all_pairs()
            vectors = opened.used.embedder.title_vectors([pair.title for pair in pairs], uncounted)
            vector = self._query_vector(opened, picture)
        titles = search(Library(pairs, vectors, []), vector, k, without=picture.video_id)
        own = self._match([picture], [str(picture.title)]).thumbnails[0]
        return Nearest(searched.found, titles, own, opened.used)

    def _search(
        self,
        query: str | QueryPicture,
        k: int,
        channels: Sequence[str] = (),
        only: Collection[str] | None = None,
    ) -> Searched:
        channel_ids = resolve_channels(self._database, channels)
        known = self._models.get(channel_ids)
        # Checked first, so that no model is loaded if there is nothing to search.
        pairs = () if known is not None and channel_ids in known.libraries else searchable(self._database, channels)
        opened = self._opened(channel_ids)
        with quiet_libraries():
            vector = self._query_vector(opened, query)
            if channel_ids not in opened.libraries:
                opened.libraries[channel_ids] = load_library(
                    self._database, opened.used.embedder, pairs, self._progress
                )
        library = opened.libraries[channel_ids]
        if only is not None:
            library = _restricted(library, only)
        without = None if isinstance(query, str) else query.video_id
        found = search(library, vector, k, without=without) if library.pairs else []
        return Searched(found, library, opened.used)

    def _match(self, pictures: Sequence[QueryPicture], titles: Sequence[str], channels: Sequence[str] = ()) -> Matches:
        channel_ids = resolve_channels(self._database, channels)
        opened = self._opened(channel_ids)
        times = ideas_in(titles)
        with quiet_libraries():
            calibrated, reason = self._calibration(opened)
            versions = self._versions(opened, calibrated)
            found = [
                match_prepared(versions, self._prepared(opened, versions, picture, channel_ids), times, calibrated)
                for picture in pictures
            ]
        calibration = None if calibrated is None else calibrated.calibration
        return Matches(opened.used.name, opened.used.run_id, calibration, reason, found)

    def _look_for_changes(self) -> None:
        with self._database.read() as session:
            pairs, models = library_mark(session)
        if pairs != self._mark[0]:
            self._pairs, self._shown = None, {}
            for opened in self._models.values():
                opened.libraries.clear()
                opened.prepared.clear()
        if models != self._mark[1]:
            self._models = {}
        self._mark = (pairs, models)

    def _opened(self, channels: frozenset[str]) -> _Opened:
        if channels not in self._models:
            found = open_in_use(self._database, self._named(channels), self._device, self._progress, channels)
            same = (opened for opened in self._models.values() if opened.used.name == found.name)
            self._models[channels] = next(same, None) or _Opened(found)
        return self._models[channels]

    def _named(self, channels: frozenset[str]) -> str | None:
        if self._model is not None or self._untrained is None:
            return self._model
        with self._database.read() as session:
            return self._untrained if model_in_use(session, channels) is None else None

    def _query_vector(self, opened: _Opened, query: str | QueryPicture) -> Vectors:
        embedder = opened.used.embedder
        with self._progress.phase("Embedding the query"):
            return text_vector(embedder, query) if isinstance(query, str) else picture_vector(embedder, query)

    def _all_pairs(self) -> list[Pair]:
        if self._pairs is None:
            self._pairs = all_pairs(self._database)
        return self._pairs

    def _calibration(self, opened: _Opened) -> tuple[Calibrated | None, str | None]:
        """Return the calibration, or None and the reason: a ranking without probabilities is still useful."""
        if opened.calibrated is None:
            try:
                opened.calibrated = calibration_of(self._database, opened.uncached, self._progress), None
            except (TrainerError, StoreError) as error:
                opened.calibrated = None, str(error)
        return opened.calibrated

    def _versions(self, opened: _Opened, calibrated: Calibrated | None) -> Remembering:
        """The model and its versions fitted without each fold; without folds, only the model."""
        if opened.versions is None:
            folds = () if calibrated is None else calibrated.folds
            opened.versions = Remembering(opened.uncached.embedder, folds)
        return opened.versions

    def _prepared(
        self, opened: _Opened, versions: Remembering, picture: QueryPicture, channels: frozenset[str]
    ) -> Prepared:
        """The stored titles' scores for a thumbnail, which stay the same while ideas are edited."""
        key = (picture.digest, picture.video_id, picture.title, channels)
        if key not in opened.prepared:
            if len(opened.prepared) >= _MOST_PREPARED:
                opened.prepared.clear()
            opened.prepared[key] = prepare(
                versions,
                picture,
                self._all_pairs(),
                channels=channels,
                database=self._database,
                shown=self._showing(picture),
                progress=self._progress,
            )
        return replace(opened.prepared[key], name=picture.name)

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
