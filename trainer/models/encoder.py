"""Load a model that embeds thumbnails and titles, and embed with it."""

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
from trainer.models.titles import failures_on, text_limit, token_counts
from trainer.settings import Bars, CropMode

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "Embedder",
    "Encoder",
    "Vectors",
    "as_text",
    "framed_source",
    "load_clip",
    "pick_device",
    "title_vectors",
]

Vectors = NDArray[np.float32]
Count = Callable[[int], None]

_BATCH = 32
_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tiff", ".webp")
_OTHER_MEDIA = (".aac", ".avi", ".flac", ".flv", ".mkv", ".mov", ".mp3", ".mp4", ".ogg", ".wav", ".wmv")


def pick_device(requested: str) -> str:
    """Return the best available device for `auto`; otherwise check that the given device is available.

    Raises:
        BadSetting: the device is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(requested, False):
        raise BadSetting(f"device {requested!r} is not available on this machine; use --device auto or cpu")
    return requested


def as_text(title: str) -> str:
    """Return a title in a form that sentence-transformers always treats as text.

    sentence-transformers downloads a text that looks like the URL of an image or video, and opens a text that looks
    like the name of a media file. A leading space prevents this, and CLIP tokenizers ignore it.
    """
    risky = title.startswith(("data:", "http://", "https://")) or title.lower().endswith(_IMAGES + _OTHER_MEDIA)
    return f" {title}" if risky else title


class Embedder(Protocol):
    """Embeds thumbnails and titles into one space, by a model or from cached features."""

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed thumbnails, streamed from `source`: (n, d) float32 of length 1. `keep`: may write to the cache."""

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles: (n, d) float32 of length 1. `keep`: may write to the cache."""

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """Return the titles that the model truncates because they have too many tokens, in the same order."""


@dataclass(frozen=True)
class Encoder:
    """A CLIP-style model in memory, float32.

    Args:
        model: the loaded model.
        name: hub name or folder, as given by the user.
        fingerprint: SHA-256 (hex) of weights, configuration, preprocessing and tokenizer, as loaded.
        device: the device that the model is on.
        crop_mode: the crop mode.
        bars: whether letterbox bars are removed first.
    """

    model: SentenceTransformer
    name: str
    fingerprint: str
    device: str
    crop_mode: CropMode = "crop"
    bars: Bars = "cut"

    def framed(self, source: PictureSource) -> PictureSource:
        """Apply the crop mode and `bars` to thumbnails, before the model's own preprocessing."""
        return framed_source(source, self.crop_mode, self.bars, lambda: _square(self.model))

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Count, *, keep: bool = True
    ) -> Vectors:
        """Embed thumbnails, streamed from `source`: (n, d) float32 of length 1. Nothing is cached."""
        shown, parts = self.framed(source), []
        for batch in batches(digests, _BATCH):
            parts.append(_embed(self.model, shown.load(batch)))
            count(len(batch))
        return np.concatenate(parts)

    def title_vectors(self, titles: Sequence[str], count: Count, *, keep: bool = True) -> Vectors:
        """Embed titles: (n, d) float32 of length 1. Nothing is cached."""
        return title_vectors(self.model, titles, count)

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        """Return the titles that the model truncates because they have too many tokens, in the same order."""
        limit = text_limit(self.model)
        return (
            []
            if limit is None
            else [title for title, n in zip(titles, token_counts(self.model, titles), strict=True) if n > limit]
        )


def framed_source(
    source: PictureSource, crop_mode: CropMode, bars: Bars, frame: Callable[[], tuple[int, tuple[int, int, int]] | None]
) -> PictureSource:
    """Apply a crop mode and `bars` to the thumbnails of a source.

    Args:
        source: the thumbnails.
        crop_mode: the crop mode, as in `TrainSettings`.
        bars: as in `TrainSettings`.
        frame: returns the side of the model's square input in pixels, and its mean colour; None for a model without a
            square input, which always gets the whole picture.
    """
    square = None if crop_mode == "crop" else frame()
    if square is not None:
        return _Framed(source, crop_mode, *square)
    return source if crop_mode == "crop" and bars == "keep" else _WithoutBars(source)


@dataclass(frozen=True)
class _WithoutBars:
    source: PictureSource

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        return [without_bars(image) for image in self.source.load(digests)]


@dataclass(frozen=True)
class _Framed:
    source: PictureSource
    crop_mode: CropMode
    side: int
    fill: tuple[int, int, int]

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        return [framed(image, self.crop_mode, side=self.side, fill=self.fill) for image in self.source.load(digests)]


def _square(model: SentenceTransformer) -> tuple[int, tuple[int, int, int]] | None:
    """The side of the model's square input in pixels, and its mean colour, which preprocessing maps to zeros.

    None if the model keeps the aspect ratio of pictures, as SigLIP 2 NaFlex and Qwen3-VL do.
    """
    images = image_processor(model)
    size = dict(getattr(images, "crop_size", None) or getattr(images, "size", None) or {})
    # In Qwen's processor, `shortest_edge` and `longest_edge` are areas in pixels.
    sides = {size.get("height"), size.get("width")} if "height" in size else {size.get("shortest_edge")}
    if len(sides) != 1 or None in sides or "longest_edge" in size:
        return None
    red, green, blue = (min(max(round(255 * value), 0), 255) for value in images.image_mean)
    side: Any = sides.pop()
    return int(side), (red, green, blue)


def title_vectors(model: SentenceTransformer, titles: Sequence[str], count: Count) -> Vectors:
    """Embed titles with any text model: (n, d) float32 of length 1."""
    parts = []
    for batch in batches(titles, _BATCH):
        parts.append(_embed(model, [as_text(title) for title in batch]))
        count(len(batch))
    return np.concatenate(parts)


def _embed(model: SentenceTransformer, inputs: Sequence[str] | Sequence[Image.Image]) -> Vectors:
    with failures_on("title" if isinstance(inputs[0], str) else "thumbnail"):
        vectors: Vectors = model.encode(
            list(inputs),
            batch_size=_BATCH,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
    return vectors


def load_clip(name: str, device: str, *, option: str = "--model", text_model: str | None = None) -> SentenceTransformer:
    """Load a model that embeds thumbnails and titles. Weights must be in safetensors; remote code is never run.

    Args:
        name: hub name or folder.
        device: `cpu`, `cuda` or `mps`.
        option: the command-line option for this model, for error messages.
        text_model: hub name or folder of a separate model that embeds titles; None: the same model embeds titles.

    Raises:
        UnknownModel, NoNetwork, NotAClip, DamagedModel: see `trainer.errors`.
    """
    # Cached vectors need no model, and importing takes seconds.
    from trainer.models.loading import library_errors, load_model, try_out  # noqa: PLC0415

    model = load_model(name, device, option=option)
    if text_model is not None:
        name = f"{name} with {text_model}"
        model = paired(model, load_model(text_model, device, option="--text-model", text_only=True))
    if not sees_and_reads(model):
        raise NotAClip(
            f"{name} does not embed both images and texts; use another model with {option}, for example "
            "sentence-transformers/clip-ViT-B-32"
        )
    with library_errors(name, option):
        read_as_trained(model)
        model = in_one_shape(model, name)
        _square(model)  # reads settings that only other crop modes need
    try_out(model, name, option)
    return model
