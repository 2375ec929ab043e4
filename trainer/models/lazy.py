"""Load models only when their towers are needed. The store keeps facts about each model, with a digest of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from store.db import Database
from store.training import ModelFacts, read_known_model
from trainer.data import PictureSource, batches
from trainer.errors import DamagedModel
from trainer.models.encoder import Encoder, Vectors, framed_source, load_clip, title_vectors
from trainer.models.families import named_parameters
from trainer.models.fingerprints import fingerprint, fingerprints
from trainer.models.known_files import agreed, compare_once, files_digest, files_folder, remember
from trainer.models.plain_bert import PlainBert
from trainer.models.plain_clip import PlainClip
from trainer.models.projections import Projections
from trainer.models.titles import language_of, text_limit, token_counts
from trainer.models.towers import BATCH, Towers, prefetched
from trainer.progress import uncounted
from trainer.settings import Bars, CropMode

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Facts", "LazyModel", "TitleModel"]


@dataclass(frozen=True)
class Facts:
    """Facts about a model that are available without loading it.

    Args:
        fingerprint: the fingerprint of the whole model.
        vision, text: the fingerprint of each tower and its preprocessing.
        parameters: (name, count) of each parameter, in the model's order.
        projections: the projections.
        limit: maximum number of tokens of a title; None if it is higher than any title needs.
        language: the language of the training texts; None for several languages, or an unknown language.
    """

    fingerprint: str
    vision: str
    text: str
    parameters: tuple[tuple[str, int], ...]
    projections: Projections
    limit: int | None = None
    language: str | None = None

    @classmethod
    def of(cls, model: SentenceTransformer) -> Facts:
        """Collect the facts of a loaded model."""
        found = fingerprints(model)
        sizes = tuple((name, parameter.numel()) for name, parameter in named_parameters(model))
        known = text_limit(model), language_of(model)
        return cls(found.whole, found.vision, found.text, sizes, Projections.of(model), *known)

    def stored(self) -> ModelFacts:
        """Return the facts in the form for the store."""
        facts: dict[str, Any] = {"vision": self.vision, "text": self.text}
        facts |= {"parameters": [list(pair) for pair in self.parameters]}
        facts |= {"limit": self.limit, "language": self.language}
        return ModelFacts(self.fingerprint, facts, self.projections.as_bytes())

    @classmethod
    def read(cls, row: ModelFacts) -> Facts | None:
        """Read the result of `stored`. None if the row has other contents."""
        try:
            sizes = tuple((str(name), int(size)) for name, size in row.facts["parameters"])
            vision, text = str(row.facts["vision"]), str(row.facts["text"])
            limit, language = row.facts["limit"], row.facts["language"]
        except (KeyError, TypeError, ValueError):
            return None
        projections = None if row.projections is None else Projections.from_bytes(row.projections)
        if projections is None:
            return None
        return cls(row.fingerprint, vision, text, sizes, projections, limit, language)


class LazyModel:
    """A model that is loaded when it is first needed.

    Args:
        database: the store, which keeps the facts.
        name: hub name or folder.
        device: `cpu`, `cuda` or `mps`.
        option: the command-line option for this model, for error messages.
        crop_mode: the crop mode.
        bars: whether letterbox bars are removed first.
        changed: a function that changes the loaded model, and a digest that identifies the change; None for no change.
        text_model: hub name or folder of a separate model that embeds titles; None: the same model embeds titles.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        device: str,
        *,
        option: str = "--model",
        crop_mode: CropMode = "crop",
        bars: Bars = "cut",
        changed: tuple[str, Callable[[SentenceTransformer], None]] | None = None,
        text_model: str | None = None,
    ) -> None:
        self.fixed = 0
        """Number of last dimensions of the vectors that no training changes."""
        self._text_model = text_model
        self._database = database
        self.name = name
        self.device = device
        self._option = option
        self._crop_mode: CropMode = crop_mode
        self._bars: Bars = bars
        self._changed = changed
        self._loaded: tuple[Encoder, Facts] | None = None

    @cached_property
    def remembered(self) -> Facts | None:
        """The facts stored when the model was last loaded; None if it was never loaded, or its files have changed."""
        files = self._files()
        if files is None:
            return None
        with self._database.read() as session:
            row = read_known_model(session, files)
        return None if row is None else Facts.read(row)

    @cached_property
    def facts(self) -> Facts:
        """The model's facts. The model is loaded if the store does not have them.

        Raises:
            ModelUnavailable: the model can't be loaded.
        """
        if self.remembered is not None:
            return self.remembered
        files = self._files()
        found = self._load()[1]
        if files is not None and files == self._files():
            remember(self._database, files, found.stored())
        return found

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    def encoder(self) -> Encoder:
        """Return the whole model. It is loaded once.

        Raises:
            ModelUnavailable: the model can't be loaded.
            DamagedModel: the model's files have changed since its facts were read.
        """
        encoder, found = self._load()
        if encoder.fingerprint != self.facts.fingerprint:
            files = self._files()
            if files is not None:
                remember(self._database, files, found.stored())
            raise DamagedModel(f"{self.name} has changed since it was last loaded; run the command again")
        return encoder

    def encoded_pictures(
        self, digests: Sequence[str], source: PictureSource, precision: str, *, keep: bool
    ) -> Iterator[Vectors]:
        """Run the vision tower on thumbnails, in batches of `BATCH`.

        Args:
            digests: SHA-256 (hex) of each thumbnail.
            source: loads the thumbnails.
            precision: `fp32` or `bf16`.
            keep: whether the results will be cached. If so, they are computed by the model libraries, never by
                `PlainClip`; and a subclass may write intermediate results to the store.

        Returns:
            An iterator over the pooled vectors of each batch, (n, vision width) float32.
        """
        plain = self._plain(len(digests), precision, keep=keep)
        if plain is not None:
            seen = framed_source(source, self._crop_mode, self._bars, plain.frame).load(digests)
            return iter([plain.pictures(seen)])
        self.encoder()
        # Decoding and resizing the next batches overlaps with the forward pass.
        prepared = prefetched(lambda batch: self.prepared(batch, source), batches(digests, BATCH))
        return (self.pooled(batch, precision) for batch in prepared)

    def prepared(self, digests: Sequence[str], source: PictureSource) -> Any:
        """Decode and preprocess thumbnails: the input of `pooled`, which can be pickled. Needs no weights."""
        encoder = self.encoder()
        return Towers(encoder.model, encoder.device).prepared_pictures(encoder.framed(source).load(digests))

    def pooled(self, prepared: Any, precision: str) -> Vectors:
        """Run the vision tower on the result of `prepared`: (n, vision width) float32."""
        encoder = self.encoder()
        return Towers(encoder.model, encoder.device, precision).pooled_pictures(prepared)

    def drop_weights(self) -> None:
        """Free the memory of the weights. From then on, the model can only prepare thumbnails."""
        self.encoder().model.to("meta")

    def encoded_titles(self, titles: Sequence[str], precision: str, *, keep: bool) -> Iterator[Vectors]:
        """Run the text tower on titles, in batches of `BATCH`. Yields pooled vectors, (n, text width) float32 each."""
        plain = self._plain(len(titles), precision, keep=keep)
        if plain is not None:
            return iter([plain.titles(titles)])
        encoder = self.encoder()
        towers = Towers(encoder.model, encoder.device, precision)
        return (towers.pooled_titles(towers.prepared_titles(batch)) for batch in batches(titles, BATCH))

    def token_counts(self, titles: Sequence[str], *, keep: bool) -> list[int]:
        """Return the number of tokens of each title before truncation. See `encoded_pictures` for `keep`."""
        plain = self._plain(len(titles), "fp32", keep=keep)
        return token_counts(self.encoder().model, titles) if plain is None else plain.token_counts(titles)

    def _plain(self, n: int, precision: str, *, keep: bool) -> PlainClip | None:
        """The model as a `PlainClip` for a few inputs, if its vectors agree with those of the libraries; else None.

        Not used for vectors that will be cached, because the two differ by rounding.
        """
        files = self._files()
        if keep or self.is_loaded or self._changed is not None or self._text_model is not None or files is None:
            return None
        if (self.device, precision) != ("cpu", "fp32") or not 0 < n <= BATCH:
            return None
        folder = files_folder(self.name)
        return PlainClip.at(folder) if folder is not None and agreed(self._database, files) else None

    def _compare_with_plain(self, model: SentenceTransformer) -> None:
        """Compare the vectors of `PlainClip` with those of the libraries, once for each digest of the files."""
        files, folder = self._files(), files_folder(self.name)
        if self.device != "cpu" or self._changed is not None or self._text_model is not None or folder is None:
            return
        plain = PlainClip.at(folder)
        compare_once(self._database, files, lambda: plain is not None and plain.agrees(Towers(model, "cpu")))

    def _load(self) -> tuple[Encoder, Facts]:
        if self._loaded is None:
            model = load_clip(self.name, self.device, option=self._option, text_model=self._text_model)
            if self._changed is not None:
                self._changed[1](model)
            from trainer.models.loading import library_errors  # noqa: PLC0415 (`load_clip` has imported it)

            with library_errors(self.name, self._option):
                found = Facts.of(model)
                self._compare_with_plain(model)
            self._loaded = Encoder(model, self.name, found.fingerprint, self.device, self._crop_mode, self._bars), found
        return self._loaded

    def _files(self) -> str | None:
        files = files_digest(self.name)
        others = [] if self._changed is None else [self._changed[0]]
        if self._text_model is not None:
            texts = files_digest(self._text_model)
            files, others = (None if texts is None else files), [*others, f"with {texts}"]
        if files is None or not others:
            return files
        return hashlib.sha256(" ".join([files, *others]).encode()).hexdigest()


class TitleModel:
    """A model that only embeds titles. It is loaded when it is first needed.

    Args:
        database: the store, which keeps the model's fingerprint.
        name: hub name or folder.
        device: `cpu`, `cuda` or `mps`.
        option: the command-line option for this model, for error messages.
    """

    def __init__(self, database: Database, name: str, device: str, *, option: str = "--title-model") -> None:
        self._database = database
        self.name = name
        self._device = device
        self._option = option
        self._loaded: SentenceTransformer | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the model.

        Raises:
            ModelUnavailable: the model can't be loaded.
        """
        return self._known[0]

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    @property
    def width(self) -> int:
        """Number of dimensions of a vector. Raises the same errors as `fingerprint`."""
        return self._known[1]

    def vectors(self, titles: list[str], count: Callable[[int], None], *, keep: bool = True) -> Any:
        """Embed titles: (n, d) float32 of length 1.

        Args:
            titles: the titles.
            count: receives the number of embedded titles.
            keep: whether the vectors will be cached. If not, `PlainBert` may compute a few of them, which differ by
                rounding.

        Raises:
            ModelUnavailable: the model can't be loaded.
            DamagedModel: the model's files have changed since its fingerprint was read.
        """
        plain = None if keep or self._loaded is not None or len(titles) > BATCH else self._plain()
        if plain is None:
            return title_vectors(self._load(), titles, count)
        count(len(titles))
        return plain.vectors(titles)

    def _plain(self) -> PlainBert | None:
        """The model as a `PlainBert`, if its vectors agree with those of the libraries; else None."""
        files, folder = self._files(), files_folder(self.name)
        if self._device != "cpu" or files is None or folder is None:
            return None
        return PlainBert.at(folder) if agreed(self._database, files) else None

    @cached_property
    def _known(self) -> tuple[str, int]:
        files = self._files()
        if files is not None:
            with self._database.read() as session:
                row = read_known_model(session, files)
            width = None if row is None else row.facts.get("width")
            if row is not None and isinstance(width, int):
                return row.fingerprint, width
        model = self._loaded = self._read()
        found, width = fingerprint(model), title_vectors(model, ["title"], uncounted).shape[1]
        if files is not None and files == self._files():
            remember(self._database, files, ModelFacts(found, {"width": width}, None))
        return found, width

    def _read(self) -> SentenceTransformer:
        # Cached vectors need no model, and importing takes seconds.
        from trainer.models.loading import library_errors, load_model, try_out  # noqa: PLC0415

        model = load_model(self.name, self._device, option=self._option, text_only=True)
        try_out(model, self.name, self._option)
        folder = files_folder(self.name)
        if self._device == "cpu" and folder is not None:
            plain = PlainBert.at(folder)
            with library_errors(self.name, self._option):
                compare_once(self._database, self._files(), lambda: plain is not None and plain.agrees(model))
        return model

    def _load(self) -> SentenceTransformer:
        known, _width = self._known
        if self._loaded is None:
            loaded = self._read()
            if fingerprint(loaded) != known:
                raise DamagedModel(f"{self.name} has changed since it was last loaded; run the command again")
            self._loaded = loaded
        return self._loaded

    def _files(self) -> str | None:
        # A CLIP model in the same folder has another row.
        files = files_digest(self.name)
        return None if files is None else hashlib.sha256(f"{files} titles".encode()).hexdigest()
