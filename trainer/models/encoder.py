"""Loading a CLIP-style model, knowing it again by its fingerprint, and embedding pictures and titles with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from trainer.data import PictureSource, batches, framed, without_bars
from trainer.errors import BadSetting, NotAClip
from trainer.settings import Bars, Fit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "Embedder",
    "Encoder",
    "Fingerprints",
    "Vectors",
    "as_text",
    "fingerprint",
    "fingerprints",
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
        return framed_source(source, self.fit, self.bars, lambda: _frame(self.model))

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


def framed_source(
    source: PictureSource, fit: Fit, bars: Bars, frame: Callable[[], tuple[int, tuple[int, int, int]]]
) -> PictureSource:
    """The pictures as `fit` and `bars` have them; `frame` gives the model's side in pixels, and its mean colour."""
    if fit == "crop":
        return source if bars == "keep" else _WithoutBars(source)
    return _Framed(source, fit, *frame())


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


def _frame(model: SentenceTransformer) -> tuple[int, tuple[int, int, int]]:
    """The side in pixels of the square that the model sees, and its mean colour, which preprocessing turns to zeros."""
    images: Any = getattr(model[0], "processor").image_processor  # noqa: B009 (modules differ in what they have)
    size = images.crop_size or images.size
    side = int(size["height"] if "height" in size else size["shortest_edge"])
    red, green, blue = (round(255 * value) for value in images.image_mean)
    return side, (red, green, blue)


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


def load_encoder(name: str, device: str, *, option: str = "--model") -> Encoder:
    """Load a CLIP-style model by hub name or folder, weights in safetensors only, remote code never run.

    Args:
        name: hub name or folder.
        device: `cpu`, `cuda` or `mps`.
        option: where the user named it, for messages.

    Raises:
        UnknownModel, NoNetwork, NotAClip, DamagedModel: see `trainer.errors`.
    """
    model = load_clip(name, device, option=option)
    return Encoder(model, name, fingerprint(model), device)


def load_clip(name: str, device: str, *, option: str = "--model") -> SentenceTransformer:
    """What `load_encoder` loads, without the fingerprint, for which all weights are read; errors are the same."""
    from trainer.models.loading import load_model  # noqa: PLC0415 (what is cached needs no model; importing takes seconds)

    model = load_model(name, device, option=option)
    _require_clip(model, name, option)
    return model


def _require_clip(model: SentenceTransformer, name: str, option: str) -> None:
    inner = getattr(model[0], "model", None)
    parts = ("vision_model", "text_model", "visual_projection", "text_projection")
    if {"text", "image"} <= set(model.modalities) and all(hasattr(inner, part) for part in parts):
        return
    raise NotAClip(
        f"{name} is not a CLIP-style model: it has no towers and projections for both pictures and text; "
        f"name one with {option}, for example sentence-transformers/clip-ViT-B-32"
    )


@dataclass(frozen=True)
class Fingerprints:
    """SHA-256 (hex) over all that decides a model's output, and over what decides each tower's.

    Equal for a folder and its copy, whatever they are called. The projections are in `whole` only.
    """

    whole: str
    vision: str
    text: str


def fingerprint(model: SentenceTransformer) -> str:
    """SHA-256 (hex) over all that decides a model's output: tensors, configuration, preprocessing and tokenizer."""
    return _sha256([*_tensor_lines(model).values(), *(part for module in model for part in _described(module))])


def fingerprints(model: SentenceTransformer) -> Fingerprints:
    """The fingerprints of a CLIP and of its two towers."""
    lines = _tensor_lines(model)
    module: Any = model[0]
    config, kind = module.model.config, type(module.model).__name__.encode()
    # With or without torchvision pictures are resized by other code, to slightly other pixels.
    resizer = type(getattr(module, "processor").image_processor).__name__.encode()  # noqa: B009
    vision = [kind, resizer, _canonical(config.vision_config.to_dict()), *_image_processing(module)]
    text = [kind, _canonical(config.text_config.to_dict()), *_tokenizing(module)]
    return Fingerprints(
        _sha256([*lines.values(), *(part for each in model for part in _described(each))]),
        _sha256([*(line for name, line in lines.items() if ".vision_model." in name), *vision]),
        _sha256([*(line for name, line in lines.items() if ".text_model." in name), *text]),
    )


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\n")
    return digest.hexdigest()


def _tensor_lines(model: SentenceTransformer) -> dict[str, bytes]:
    """{name: a line that says all of the tensor}, in the order of the names."""
    lines = {}
    for name, tensor in sorted(model.state_dict().items()):
        # A view of the tensor's own bytes: no copy of a large model.
        content = memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        lines[name] = f"{name} {tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}".encode()
    return lines


def _described(module: Any) -> Iterable[bytes]:
    """A module's settings: of a transformer, its configuration, preprocessing and tokenizer."""
    yield type(module).__name__.encode()
    if hasattr(module, "config_keys"):
        yield _canonical({key: getattr(module, key, None) for key in module.config_keys})
    if hasattr(module, "model"):
        yield _canonical(module.model.config.to_dict())
    yield from _image_processing(module)
    yield from _tokenizing(module)


def _image_processing(module: Any) -> Iterable[bytes]:
    images = getattr(getattr(module, "processor", None), "image_processor", None)
    if images is not None:
        yield _canonical(images.to_dict())


def _tokenizing(module: Any) -> Iterable[bytes]:
    processor = getattr(module, "processor", None)
    tokenizer: Any = getattr(processor, "tokenizer", processor)
    if hasattr(tokenizer, "backend_tokenizer"):
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        # Set by the last call, not part of the tokenizer.
        yield _canonical({**backend, "padding": None, "truncation": None})
        yield _canonical({"max_length": tokenizer.model_max_length})


def _canonical(value: dict[str, Any]) -> bytes:
    # Where it was loaded from and by which version is no part of what a model is; nor is the Python class that
    # decodes its pictures (with or without torchvision).
    passing = {
        "_name_or_path",
        "_processor_class",
        "image_processor_type",
        "processor_class",
        "transformers_version",
    }
    kept = {key: item for key, item in value.items() if key not in passing}
    return json.dumps(kept, sort_keys=True, default=str).encode()
