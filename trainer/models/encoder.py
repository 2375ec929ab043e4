"""Loading a model that sees and reads, and embedding pictures and titles with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from trainer.data import PictureSource, batches, framed, without_bars
from trainer.errors import BadSetting, NotAClip
from trainer.models.families import image_processor, in_one_shape, paired, read_as_trained, sees_and_reads
from trainer.models.fingerprints import fingerprint
from trainer.models.titles import text_limit, token_counts
from trainer.settings import Bars, Fit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "Embedder",
    "Encoder",
    "Vectors",
    "as_text",
    "framed_source",
    "load_clip",
    "load_encoder",
    "pick_device",
    "title_vectors",
]

Vectors = NDArray[np.float32]
Count = Callable[[int], None]

_BATCH = 32
_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tiff", ".webp")
_OTHER_MEDIA = (".aac", ".avi", ".flac", ".flv", ".mkv", ".mov", ".mp3", ".mp4", ".ogg", ".wav", ".wmv")


def pick_device(wanted: str) -> str:
    """Turn `auto` into the best device here; check that a named one is here.

    Raises:
        BadSetting: the device is not available.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if here[name])
    if not here.get(wanted, False):
        raise BadSetting(f"device {wanted!r} is not available here; use --device auto or cpu")
    return wanted


def as_text(title: str) -> str:
    """A title that sentence-transformers is sure to take as text.

    It fetches a text that looks like the URL of an image or video, and opens one that names a media file. A leading
    space stops that, and no CLIP tokenizer sees it.
    """
    risky = title.startswith(("data:", "http://", "https://")) or title.lower().endswith(_IMAGES + _OTHER_MEDIA)
    return f" {title}" if risky else title


class Embedder(Protocol):
    """Embeds pictures and titles into one space, whatever it runs for that."""

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed pictures, streamed from `source`: (n, d) float32, of length 1; `keep`: they may be cached."""

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles: (n, d) float32, of length 1; `keep`: they may be cached."""

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """Those of the titles that are longer than what the model reads of a text, in their order."""


@dataclass(frozen=True)
class Encoder:
    """A CLIP-style model in memory, float32.

    Args:
        model: as sentence-transformers loaded it.
        name: hub name or folder, as given.
        fingerprint: SHA-256 (hex) over weights, configuration, preprocessing and tokenizer, as loaded.
        device: where it runs.
        fit: how a wide picture gets into the model's square.
        bars: whether letterbox bars are cut off first.
    """

    model: SentenceTransformer
    name: str
    fingerprint: str
    device: str
    fit: Fit = "crop"
    bars: Bars = "cut"

    def framed(self, source: PictureSource) -> PictureSource:
        """The pictures as `fit` and `bars` have them, before the model's own preprocessing."""
        return framed_source(source, self.fit, self.bars, lambda: _square(self.model))

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed pictures, streamed from `source`: (n, d) float32, of length 1; nothing is kept."""
        shown, parts = self.framed(source), []
        for batch in batches(digests, _BATCH):
            parts.append(_embed(self.model, shown.load(batch)))
            count(len(batch))
        return np.concatenate(parts)

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles: (n, d) float32, of length 1; nothing is kept."""
        return title_vectors(self.model, titles, count)

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """Those of the titles that are longer than what the model reads of a text, in their order."""
        limit = text_limit(self.model)
        return (
            []
            if limit is None
            else [title for title, n in zip(titles, token_counts(self.model, titles), strict=True) if n > limit]
        )


def framed_source(
    source: PictureSource, fit: Fit, bars: Bars, frame: Callable[[], tuple[int, tuple[int, int, int]] | None]
) -> PictureSource:
    """The pictures as `fit` and `bars` have them.

    Args:
        source: the pictures.
        fit: as in `TrainSettings`.
        bars: as in `TrainSettings`.
        frame: gives the side of the square that the model sees, in pixels, and its mean colour; None for a model that
            does not see a square: it is shown the whole picture, whatever the fit.
    """
    square = None if fit == "crop" else frame()
    if square is not None:
        return _Framed(source, fit, *square)
    return source if fit == "crop" and bars == "keep" else _WithoutBars(source)


@dataclass(frozen=True)
class _WithoutBars:
    source: PictureSource

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        return [without_bars(image) for image in self.source.load(digests)]


@dataclass(frozen=True)
class _Framed:
    source: PictureSource
    fit: Fit
    side: int
    fill: tuple[int, int, int]

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        return [framed(image, self.fit, side=self.side, fill=self.fill) for image in self.source.load(digests)]


def _square(model: SentenceTransformer) -> tuple[int, tuple[int, int, int]] | None:
    """The side in pixels of the square that the model sees, and its mean colour, which preprocessing turns to zeros.

    None if the model sees pictures in their own shape, as SigLIP 2 NaFlex and Qwen3-VL do.
    """
    images = image_processor(model)
    size = dict(getattr(images, "crop_size", None) or getattr(images, "size", None) or {})
    # Qwen's processor has a shortest and a longest edge, which are numbers of pixels.
    sides = {size.get("height"), size.get("width")} if "height" in size else {size.get("shortest_edge")}
    if len(sides) != 1 or None in sides or "longest_edge" in size:
        return None
    red, green, blue = (round(255 * value) for value in images.image_mean)
    side: Any = sides.pop()
    return int(side), (red, green, blue)


def title_vectors(model: SentenceTransformer, titles: Sequence[str], count: Count) -> Vectors:
    """Embed titles with any text model: (n, d) float32, of length 1."""
    parts = []
    for batch in batches(titles, _BATCH):
        parts.append(_embed(model, [as_text(title) for title in batch]))
        count(len(batch))
    return np.concatenate(parts)


def _embed(model: SentenceTransformer, inputs: Sequence[str] | Sequence[Image.Image]) -> Vectors:
    vectors: Vectors = model.encode(
        list(inputs),
        batch_size=_BATCH,
        show_progress_bar=False,
        convert_to_numpy=True,
        normalize_embeddings=True,
    )
    return vectors


def load_encoder(name: str, device: str, *, option: str = "--model", text_model: str | None = None) -> Encoder:
    """Load a model that sees and reads, weights in safetensors only, remote code never run.

    Args:
        name: hub name or folder.
        device: `cpu`, `cuda` or `mps`.
        option: where the user named it, for messages.
        text_model: hub name or folder of the model that embeds titles in its place; None: it does so itself.

    Raises:
        UnknownModel, NoNetwork, NotAClip, DamagedModel: see `trainer.errors`.
    """
    model = load_clip(name, device, option=option, text_model=text_model)
    return Encoder(model, name, fingerprint(model), device)


def load_clip(name: str, device: str, *, option: str = "--model", text_model: str | None = None) -> SentenceTransformer:
    """What `load_encoder` loads, without the fingerprint, for which all weights are read; errors are the same."""
    from trainer.models.loading import load_model  # noqa: PLC0415 (what is cached needs no model; importing takes seconds)

    model = load_model(name, device, option=option)
    if text_model is not None:
        name = f"{name} with {text_model}"
        model = paired(model, load_model(text_model, device, option="--text-model", text_only=True))
    if not sees_and_reads(model):
        raise NotAClip(
            f"{name} does not embed both pictures and text; name a model that does with {option}, for example "
            "sentence-transformers/clip-ViT-B-32"
        )
    read_as_trained(model)
    return in_one_shape(model, name)
