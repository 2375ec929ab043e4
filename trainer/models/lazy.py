"""Models identified by their files: facts are remembered, and the towers are loaded only when they are needed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.db import Database
from store.training import ModelFacts, read_known_model, write_known_model
from trainer.data import PictureSource, batches
from trainer.errors import DamagedModel
from trainer.models.encoder import Encoder, Vectors, framed_source, load_clip, title_vectors
from trainer.models.families import named_parameters
from trainer.models.fingerprints import fingerprint, fingerprints
from trainer.models.plain_clip import PlainClip
from trainer.models.projections import Heads, heads_of
from trainer.models.titles import language_of, text_limit, token_counts
from trainer.models.towers import BATCH, Towers, prefetched
from trainer.settings import Bars, Fit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Facts", "LazyModel", "TitleModel", "files_digest", "local_folder"]

logger = logging.getLogger(__name__)

_READERS = ("pillow", "sentence-transformers", "tokenizers", "torchvision", "transformers")
"""Packages whose versions may change how a model's files are read."""


@dataclass(frozen=True)
class Facts:
    """What is known about a model without running it.

    Args:
        fingerprint: of the whole model; `vision` and `text` of its towers, each with its preprocessing.
        parameters: (name, count) of each parameter, in the model's order.
        heads: the projections.
        limit: the most tokens of a title that are read; None: more than any title has.
        language: the only language of its texts; None: several, or unknown.
    """

    fingerprint: str
    vision: str
    text: str
    parameters: tuple[tuple[str, int], ...]
    heads: Heads
    limit: int | None = None
    language: str | None = None

    @classmethod
    def of(cls, model: SentenceTransformer) -> Facts:
        """Collect the facts of a loaded model."""
        found = fingerprints(model)
        sizes = tuple((name, parameter.numel()) for name, parameter in named_parameters(model))
        known = text_limit(model), language_of(model)
        return cls(found.whole, found.vision, found.text, sizes, heads_of(model), *known)

    def stored(self) -> ModelFacts:
        """Return the facts as the store keeps them."""
        facts: dict[str, Any] = {"vision": self.vision, "text": self.text}
        facts |= {"parameters": [list(pair) for pair in self.parameters]}
        facts |= {"limit": self.limit, "language": self.language}
        return ModelFacts(self.fingerprint, facts, self.heads.as_bytes())

    @classmethod
    def read(cls, row: ModelFacts) -> Facts | None:
        """Read the result of `stored`; None for a row of another kind."""
        try:
            sizes = tuple((str(name), int(size)) for name, size in row.facts["parameters"])
            vision, text = str(row.facts["vision"]), str(row.facts["text"])
            limit, language = row.facts["limit"], row.facts["language"]
        except (KeyError, TypeError, ValueError):
            return None
        heads = None if row.heads is None else Heads.from_bytes(row.heads)
        if heads is None:
            return None
        return cls(row.fingerprint, vision, text, sizes, heads, limit, language)


class LazyModel:
    """A model by name, loaded at the first call of `encoder`.

    Args:
        database: the store that remembers facts.
        name: hub name or folder.
        device: `cpu`, `cuda` or `mps`.
        option: where the user named it, for messages.
        fit: how a wide picture gets into the model's square.
        bars: whether letterbox bars are cut off first.
        changed: what is put into the model after loading, and the digest that tells it apart; None for nothing.
        text_model: what embeds titles in the model's place: hub name or folder; None: the model itself.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        device: str,
        *,
        option: str = "--model",
        fit: Fit = "crop",
        bars: Bars = "cut",
        changed: tuple[str, Callable[[SentenceTransformer], None]] | None = None,
        text_model: str | None = None,
    ) -> None:
        self._text_model = text_model
        self._database = database
        self.name = name
        self.device = device
        self._option = option
        self._fit: Fit = fit
        self._bars: Bars = bars
        self._changed = changed
        self._loaded: tuple[Encoder, Facts] | None = None

    @cached_property
    def remembered(self) -> Facts | None:
        """The facts from when the model was last loaded; None if it never was, or has changed since."""
        files = self._files()
        if files is None:
            return None
        with self._database.read() as session:
            row = read_known_model(session, files)
        return None if row is None else Facts.read(row)

    @cached_property
    def facts(self) -> Facts:
        """The model's facts; the model is loaded if none are remembered.

        Raises:
            ModelUnavailable: it can't be loaded.
        """
        if self.remembered is not None:
            return self.remembered
        files = self._files()
        found = self._load()[1]
        if files is not None and files == self._files():
            _remember(self._database, files, found.stored())
        return found

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded is not None

    def encoder(self) -> Encoder:
        """The whole model, loaded once.

        Raises:
            ModelUnavailable: it can't be loaded.
            DamagedModel: its files have just changed.
        """
        encoder, found = self._load()
        if encoder.fingerprint != self.facts.fingerprint:
            files = self._files()
            if files is not None:
                _remember(self._database, files, found.stored())
            raise DamagedModel(f"{self.name} has changed since it was last loaded; run the command again")
        return encoder

    def encoded_pictures(
        self, digests: Sequence[str], source: PictureSource, precision: str, *, keep: bool
    ) -> Iterator[Vectors]:
        """Run the vision tower over pictures, in batches of `BATCH`.

        Args:
            digests: SHA-256 (hex) of each.
            source: where the pictures come from.
            precision: `fp32` or `bf16`.
            keep: whether what was found on the way may be written to the store; a tower finds nothing on the way.

        Returns:
            Pooled vectors of each batch, (n, vision width) float32.
        """
        plain = self._plain(len(digests), precision, keep=keep)
        if plain is not None:
            seen = framed_source(source, self._fit, self._bars, plain.frame).load(digests)
            return iter([plain.pictures(seen)])
        encoder = self.encoder()
        towers, shown = Towers(encoder.model, encoder.device, precision), encoder.framed(source)
        # Decoding and resizing the next batches overlaps with the forward pass.
        prepared = prefetched(lambda batch: towers.prepared_pictures(shown.load(batch)), batches(digests, BATCH))
        return map(towers.pooled_pictures, prepared)

    def encoded_titles(self, titles: Sequence[str], precision: str, *, keep: bool) -> Iterator[Vectors]:
        """Run the text tower over titles, in batches of `BATCH`: pooled vectors, (n, text width) float32 each."""
        plain = self._plain(len(titles), precision, keep=keep)
        if plain is not None:
            return iter([plain.titles(titles)])
        encoder = self.encoder()
        towers = Towers(encoder.model, encoder.device, precision)
        return (towers.pooled_titles(towers.prepared_titles(batch)) for batch in batches(titles, BATCH))

    def token_counts(self, titles: Sequence[str], *, keep: bool) -> list[int]:
        """How many tokens each title has, however many of them are read; `keep` as for `encoded_pictures`."""
        plain = self._plain(len(titles), "fp32", keep=keep)
        return token_counts(self.encoder().model, titles) if plain is None else plain.token_counts(titles)

    def _plain(self, n: int, precision: str, *, keep: bool) -> PlainClip | None:
        """The model's tower without the libraries, for a few inputs, where it was found to give the same vectors.

        What is kept comes from the libraries alone: the two differ by rounding.
        """
        files = self._files()
        if keep or self.is_loaded or self._changed is not None or self._text_model is not None or files is None:
            return None
        if (self.device, precision) != ("cpu", "fp32") or not 0 < n <= BATCH:
            return None
        with self._database.read() as session:
            row = read_known_model(session, _plain_key(files))
        folder = _folder(self.name)
        return PlainClip.at(folder) if folder is not None and row is not None and row.facts.get("agrees") else None

    def _compare_with_plain(self, model: SentenceTransformer) -> None:
        """Find out, once for these files, whether a tower without the libraries gives the same vectors."""
        files, folder = self._files(), _folder(self.name)
        if self.device != "cpu" or self._changed is not None or self._text_model is not None:
            return
        if self._database.unwritable or not files or not folder:
            return
        with self._database.read() as session:
            if read_known_model(session, _plain_key(files)) is not None:
                return
        plain = PlainClip.at(folder)
        agrees = plain is not None and plain.agrees(Towers(model, "cpu"))
        _remember(self._database, _plain_key(files), ModelFacts("", {"agrees": agrees}, None))

    def _load(self) -> tuple[Encoder, Facts]:
        if self._loaded is None:
            model = load_clip(self.name, self.device, option=self._option, text_model=self._text_model)
            if self._changed is not None:
                self._changed[1](model)
            found = Facts.of(model)
            self._compare_with_plain(model)
            self._loaded = Encoder(model, self.name, found.fingerprint, self.device, self._fit, self._bars), found
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
    """A model that only embeds titles, loaded at the first call of `vectors`.

    Args:
        database: the store that remembers its fingerprint.
        name: hub name or folder.
        device: `cpu`, `cuda` or `mps`.
        option: where the user named it, for messages.
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
            ModelUnavailable: it can't be loaded.
        """
        return self._known[0]

    @property
    def width(self) -> int:
        """Values per vector; errors as for `fingerprint`."""
        return self._known[1]

    def vectors(self, titles: list[str], count: Callable[[int], None]) -> Any:
        """Embed titles: (n, d) float32 of norm 1.

        Raises:
            ModelUnavailable: it can't be loaded.
            DamagedModel: its files have just changed.
        """
        return title_vectors(self._load(), titles, count)

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
        found, width = fingerprint(model), title_vectors(model, ["title"], lambda _n: None).shape[1]
        if files is not None and files == self._files():
            _remember(self._database, files, ModelFacts(found, {"width": width}, None))
        return found, width

    def _read(self) -> SentenceTransformer:
        from trainer.models.loading import load_model  # noqa: PLC0415 (cached vectors need no model; importing takes seconds)

        return load_model(self.name, self._device, option=self._option, text_only=True)

    def _load(self) -> SentenceTransformer:
        known, _width = self._known
        if self._loaded is None:
            loaded = self._read()
            if fingerprint(loaded) != known:
                raise DamagedModel(f"{self.name} has changed since it was last loaded; run the command again")
            self._loaded = loaded
        return self._loaded

    def _files(self) -> str | None:
        # Not the same row as that of a CLIP model in the same folder.
        files = files_digest(self.name)
        return None if files is None else hashlib.sha256(f"{files} titles".encode()).hexdigest()


def _plain_key(files: str) -> str:
    return hashlib.sha256(f"{files} plain".encode()).hexdigest()


def _remember(database: Database, files: str, facts: ModelFacts) -> None:
    """Keep what is known of a model; where the store can't be written, it is found out each time."""
    if not database.unwritable:
        with database.write() as session:
            write_known_model(session, files, facts)


def files_digest(name: str) -> str | None:
    """Return the SHA-256 (hex) of the paths, sizes, times and inodes of a model's files, and of its readers' versions.

    Like git's index (https://git-scm.com/docs/racy-git), this does not read the files: reading gigabytes would take
    longer than the work that it saves.

    Returns:
        None for a model whose files are not on this machine.
    """
    folder = _folder(name)
    if folder is None:
        return None
    digest = hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape"))
    for reader in _READERS:
        digest.update(f"{reader} {_version(reader)}\n".encode())
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                at = path.stat()
                told = (str(path.relative_to(folder)), at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino)
                digest.update(repr(told).encode())
    except OSError:
        # A file has disappeared (the files are being replaced) or can't be read.
        return None
    return digest.hexdigest()


def local_folder(name: str) -> Path | None:
    """Return the folder that `name` refers to, whatever it contains; None if there is none, as for a hub name."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):
        # Not a valid path; `model_folder` reports that when the model is loaded.
        return None


def _folder(name: str) -> Path | None:
    """Return the folder of a model's files: the folder itself, or its place in the hub's cache."""
    folder = local_folder(name)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (a folder needs no hub)

    full = name if "/" in name else f"sentence-transformers/{name}"
    try:
        return Path(snapshot_download(full, local_files_only=True))
    except (OSError, ValueError):
        # Not in the cache, or not a valid hub name.
        return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
