"""Loading a CLIP-style model, knowing it again by its fingerprint, and embedding pictures and titles with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sentence_transformers import SentenceTransformer

from trainer.errors import BadSetting, NotAClip
from trainer.loading import load_model
from trainer.pictures import PictureSource, batches

__all__ = ["Encoder", "Vectors", "as_text", "fingerprint", "load_encoder", "pick_device", "title_vectors"]

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


@dataclass(frozen=True)
class Encoder:
    """A CLIP-style model in memory, float32.

    Args:
        model: as sentence-transformers loaded it.
        name: hub name or folder, as given.
        fingerprint: SHA-256 (hex) over weights, configuration, preprocessing and tokenizer, as loaded.
        device: where it runs.
    """

    model: SentenceTransformer
    name: str
    fingerprint: str
    device: str

    def picture_vectors(self, digests: Sequence[str], source: PictureSource, count: Count) -> Vectors:
        """Embed pictures, streamed from `source`: (n, d) float32, of length 1."""
        parts = []
        for batch in batches(digests, _BATCH):
            parts.append(_embed(self.model, source.load(batch)))
            count(len(batch))
        return np.concatenate(parts)

    def title_vectors(self, titles: Sequence[str], count: Count) -> Vectors:
        """Embed titles: (n, d) float32, of length 1."""
        return title_vectors(self.model, titles, count)


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
    model = load_model(name, device, option=option)
    _require_clip(model, name, option)
    return Encoder(model, name, fingerprint(model), device)


def _require_clip(model: SentenceTransformer, name: str, option: str) -> None:
    inner = getattr(model[0], "model", None)
    parts = ("vision_model", "text_model", "visual_projection", "text_projection")
    if {"text", "image"} <= set(model.modalities) and all(hasattr(inner, part) for part in parts):
        return
    raise NotAClip(
        f"{name} is not a CLIP-style model: it has no towers and projections for both pictures and text; "
        f"name one with {option}, for example sentence-transformers/clip-ViT-B-32"
    )


def fingerprint(model: SentenceTransformer) -> str:
    """SHA-256 (hex) over all that decides a model's output; equal for a folder and its copy, whatever they are called.

    Covers tensors (name, dtype, shape, bytes), configuration, picture preprocessing and tokenizer.
    """
    digest = hashlib.sha256()
    for part in _described(model):
        digest.update(part)
    return digest.hexdigest()


def _described(model: SentenceTransformer) -> Iterable[bytes | memoryview]:
    for name, tensor in sorted(model.state_dict().items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
        # A view of the tensor's own bytes: no copy of a large model.
        yield memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for module in model:
        yield from _described_module(module)


def _described_module(module: Any) -> Iterable[bytes]:
    """A module's settings: of a transformer, its configuration, preprocessing and tokenizer."""
    yield type(module).__name__.encode()
    if hasattr(module, "config_keys"):
        yield _canonical({key: getattr(module, key, None) for key in module.config_keys})
    if hasattr(module, "model"):
        yield _canonical(module.model.config.to_dict())
    processor = getattr(module, "processor", None)
    images = getattr(processor, "image_processor", None)
    if images is not None:
        yield _canonical(images.to_dict())
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
