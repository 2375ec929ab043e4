"""Fingerprints of models: hashes of everything that affects a model's output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trainer.models.families import Kind, has_own_projections, image_processor, projections_of, route, sees_and_reads

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Fingerprints", "fingerprint", "fingerprints"]


@dataclass(frozen=True)
class Fingerprints:
    """SHA-256 (hex) of everything that affects the output of a model, and of each of its towers.

    They do not depend on the name of the folder. Only `whole` includes the projections.
    """

    whole: str
    vision: str
    text: str


def fingerprint(model: SentenceTransformer) -> str:
    """Return the SHA-256 (hex) of a model's tensors, configuration, preprocessing and tokenizer."""
    return _whole(model, _tensor_lines(model))


def fingerprints(model: SentenceTransformer) -> Fingerprints:
    """Return the fingerprints of a model from `in_one_shape`, and of its towers."""
    lines = _tensor_lines(model)
    towers = _towers if has_own_projections(model) else _routes
    vision, text = towers(model, lines)
    return Fingerprints(_whole(model, lines), _sha256(vision), _sha256(text))


def _whole(model: SentenceTransformer, lines: dict[str, bytes]) -> str:
    return _sha256([*lines.values(), *(part for module in _modules(model) for part in _described(module))])


def _towers(model: SentenceTransformer, lines: dict[str, bytes]) -> tuple[list[bytes], list[bytes]]:
    """Everything that affects the output of the vision tower and of the text tower of a CLIP model."""
    module: Any = model[0]
    config, kind = module.model.config, type(module.model).__name__.encode()
    vision = [kind, _resizer(model), _canonical(config.vision_config.to_dict()), *_image_processing(module)]
    text = [kind, _canonical(config.text_config.to_dict()), *_tokenizing(module)]
    return (
        [*(line for name, line in lines.items() if ".vision_model." in name), *vision],
        [*(line for name, line in lines.items() if ".text_model." in name), *text],
    )


def _routes(model: SentenceTransformer, lines: dict[str, bytes]) -> tuple[list[bytes], list[bytes]]:
    """Everything that affects the inputs of the two projections of any other model."""
    ends = {id(layer.weight) for layer in projections_of(model).values()}
    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    prompt = _canonical({"prompt": model.prompts.get(model.default_prompt_name or "")})

    def of(kind: Kind, other: str) -> list[bytes]:
        modules = route(model, kind)
        tensors = [each for module in modules for each in module.state_dict(keep_vars=True).values()]
        used = [names[id(each)] for each in tensors if id(each) not in ends]
        described = [part for module in modules for part in _described(module)]
        return [*(lines[name] for name in used if other not in name), *described, prompt]

    return [*of("image", ".text_model."), _resizer(model)], of("text", ".vision_model.")


def _resizer(model: SentenceTransformer) -> bytes:
    # Depends on whether torchvision is installed. The two classes resize pictures to slightly different pixels.
    return type(image_processor(model)).__name__.encode()


def _modules(model: SentenceTransformer) -> Iterator[Any]:
    """Yield each of the model's modules once; for a router, the modules of its routes."""
    seen: dict[int, Any] = {}
    for kind in ("image", "text") if sees_and_reads(model) else ():
        seen |= {id(module): module for module in route(model, "image" if kind == "image" else "text")}
    yield from seen.values() if seen else model


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\n")
    return digest.hexdigest()


def _tensor_lines(model: SentenceTransformer) -> dict[str, bytes]:
    """{name: a line with the tensor's name, dtype, shape and content hash}, sorted by name."""
    lines: dict[str, bytes] = {}
    contents: dict[int, str] = {}
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        # A tensor that two routes share is hashed once.
        if id(tensor) not in contents:
            # A view of the tensor's bytes avoids a copy of a large model.
            content = memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            contents[id(tensor)] = hashlib.sha256(content).hexdigest()
        lines[name] = f"{name} {tensor.dtype} {tuple(tensor.shape)} {contents[id(tensor)]}".encode()
    return lines


def _described(module: Any) -> Iterable[bytes]:
    """Yield a module's settings; for a transformer, its configuration, preprocessing and tokenizer."""
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
    if hasattr(tokenizer, "get_vocab") and not hasattr(tokenizer, "backend_tokenizer"):
        # The tokenizer of SigLIP is SentencePiece.
        yield _canonical({"vocabulary": tokenizer.get_vocab(), "max_length": tokenizer.model_max_length})
    if hasattr(tokenizer, "backend_tokenizer"):
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        # Padding and truncation are set by the last call. They are not settings of the tokenizer.
        yield _canonical({**backend, "padding": None, "truncation": None})
        yield _canonical({"max_length": tokenizer.model_max_length})


def _canonical(value: dict[str, Any]) -> bytes:
    # These keys do not identify a model: its location, the library's version, and the Python class of its image
    # processor (with or without torchvision).
    passing = {
        "_name_or_path",
        "_processor_class",
        "image_processor_type",
        "processor_class",
        "transformers_version",
    }
    kept = {key: item for key, item in value.items() if key not in passing}
    return json.dumps(kept, sort_keys=True, default=str).encode()
