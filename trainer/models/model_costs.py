"""Check the numbers in a model's folder, before they cost time and memory.

A folder may come from a stranger. If its configuration has a million layers, a vocabulary of a billion tokens, or
images of a billion pixels, the libraries take unlimited time and memory before they fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules import module as torch_modules

from trainer.models.families import input_modules, sees_and_reads
from trainer.models.model_files import items

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["check_inputs", "no_more_numbers_than_in"]

_NUMBERS_A_BYTE = 2
_NUMBERS_BESIDE = 1 << 22
"""Parameters that a model may have in addition to those in its files, such as a pooler that the checkpoint lacks."""

_LONGEST_SIDE = 4096
_MOST_PIXELS = 1 << 26
_SIDES = frozenset({"height", "longest_edge", "max_height", "max_width", "shortest_edge", "width"})
_SIZES = frozenset({"crop_size", "pad_size", "size"})
_AREAS = frozenset({"max_pixels", "min_pixels"})

_TITLE = 500
"""The maximum length of a title on the page, in characters. YouTube's titles have at most 100."""
_LONGEST_TEXT = 1 << 20
_MOST_TOKENS = 100_000


@contextmanager
def no_more_numbers_than_in(folder: Path) -> Iterator[None]:
    """Stop the libraries if they build a model with far more parameters than the weights in a folder.

    The libraries first build the model without memory, then fill in the tensors of the checkpoint, and initialise the
    others randomly. This stops them in the first step, regardless of the setting that makes the model large.

    Raises:
        ValueError: the model is too large.
    """
    most = _NUMBERS_BESIDE + _NUMBERS_A_BYTE * sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    sizes = dict[tuple[nn.Module, str], int]()
    total = 0

    def add(module: nn.Module, name: str, tensor: Any) -> None:
        nonlocal total
        # A tensor is registered again when its values are loaded.
        known = sizes.get((module, name), 0)
        sizes[module, name] = size = 0 if tensor is None else tensor.numel()
        total += size - known
        if total > most:
            raise ValueError("its configuration describes a far larger model than its weights")

    with ExitStack() as stack:
        for register in (
            torch_modules.register_module_parameter_registration_hook,
            torch_modules.register_module_buffer_registration_hook,
        ):
            stack.callback(register(add).remove)
        yield


def check_inputs(model: SentenceTransformer) -> None:
    """Check that preprocessing does not make images or texts far larger.

    Raises:
        ValueError: the message says what would be too large.
    """
    prompt = model.prompts.get(model.default_prompt_name or "") or ""
    if len(prompt) > _LONGEST_TEXT:
        raise ValueError("its prompt is too long")
    for module in input_modules(model) if sees_and_reads(model) else [model[0]]:
        processor: Any = getattr(module, "processor", None)
        images: Any = getattr(processor, "image_processor", None)
        options = getattr(module, "processing_kwargs", None) or {}
        if images is not None:
            # Processors with `merge_size` choose the size of each image; their edges are areas in pixels.
            side = _MOST_PIXELS if hasattr(type(images), "merge_size") else _LONGEST_SIDE
            for settings in (images.to_dict(), options):
                _check_pictures(settings, side)
        tokenizer: Any = getattr(module, "tokenizer", None)
        if tokenizer is not None:
            _check_padding(tokenizer, options)
            _check_growth(tokenizer)


def _check_pictures(settings: Mapping[str, Any], side: int) -> None:
    for key, value in items(settings):
        most = side if key in _SIDES | _SIZES else _MOST_PIXELS if key in _AREAS else None
        if most is not None and _is_above(value, most):
            raise ValueError(f"its preprocessing makes pictures too large ({key})")
    patches, patch = settings.get("max_num_patches"), settings.get("patch_size")
    if isinstance(patches, int) and isinstance(patch, int) and patches * patch * patch > _MOST_PIXELS:
        raise ValueError("its preprocessing makes pictures too large (max_num_patches)")


def _check_padding(tokenizer: Any, options: Mapping[str, Any]) -> None:
    found = dict(items(options))
    longest = found.get("max_length") or tokenizer.model_max_length
    padded = found.get("padding") == "max_length" and _is_above(longest, _MOST_TOKENS)
    if padded or _is_above(found.get("pad_to_multiple_of"), _MOST_TOKENS):
        raise ValueError("its tokenizer pads titles to too many tokens")


def _check_growth(tokenizer: Any) -> None:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    size = _TITLE
    # The states of these parts are short JSON; that of the whole tokenizer includes megabytes of vocabulary.
    for part in _parts(backend.normalizer):
        size *= max(1, _growth(part))
        size += len(part.get("prepend") or "")
    for part in _parts(backend.post_processor):
        if part.get("type") == "TemplateProcessing":
            pieces = [next(iter(piece)) for piece in part.get("single", ())]
            marks = [len(mark["ids"]) for mark in (part.get("special_tokens") or {}).values()]
            size = size * pieces.count("Sequence") + len(pieces) * max(marks, default=0)
        if size > _LONGEST_TEXT:
            break
    affixes = (getattr(backend.model, name, None) for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    if size > _LONGEST_TEXT or any(len(affix or "") > _TITLE for affix in affixes):
        raise ValueError("its tokenizer makes titles too long")


def _parts(component: Any) -> Iterator[dict[str, Any]]:
    """The settings of a component of a tokenizer, or of each component of a sequence of them."""
    waiting = [] if component is None else [json.loads(component.__getstate__())]
    while waiting:
        part = waiting.pop(0)
        inner = part.get("normalizers") or part.get("processors")
        if inner:
            waiting[:0] = inner
        else:
            yield part


def _growth(normalizer: dict[str, Any]) -> int:
    """The maximum factor by which a normalizer lengthens a text. For Unicode's own normalization it is 18."""
    if normalizer.get("type") != "Replace":
        return 1
    pattern, content = normalizer.get("pattern") or {}, normalizer.get("content") or ""
    # An expression may match the empty string before each character.
    return len(content) // len(pattern["String"]) if pattern.get("String") else len(content) + 1


def _is_above(value: object, most: int) -> bool:
    return isinstance(value, int | float) and value > most
