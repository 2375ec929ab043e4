"""Run the towers of a model, which are frozen: from thumbnails and titles to pooled vectors, before the projections."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.errors import BadSetting
from trainer.models.encoder import as_text
from trainer.models.families import TEXT, VISUAL, projections_of
from trainer.models.titles import failures_on

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["BATCH", "Towers", "pick_precision", "prefetched"]

Vectors = NDArray[np.float32]
T = TypeVar("T")
R = TypeVar("R")

BATCH = 32
"""Number of thumbnails or titles in one forward pass."""


def pick_precision(requested: str, device: str) -> str:
    """Return the precision. `auto` means `bf16` if the device multiplies bfloat16 in hardware, else `fp32`.

    Raises:
        BadSetting: `bf16` is requested, but the device does not support it in hardware.
    """
    fast = _has_bf16(device)
    if requested == "auto":
        return "bf16" if fast else "fp32"
    if requested == "bf16" and not fast:
        raise BadSetting("this device does not support precision 'bf16' in hardware; use --precision fp32 or auto")
    return requested


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(value is True for name, value in has.items() if name.endswith("bf16"))
    return False


class Towers:
    """The two towers of a model.

    Args:
        model: a model from `load_clip`. It is not changed.
        device: the model's device.
        precision: `fp32`, or `bf16` for bfloat16 matrix products (torch's autocast). Results are always float32.
    """

    def __init__(self, model: SentenceTransformer, device: str, precision: str = "fp32") -> None:
        self._model = model
        self._layers = projections_of(model)
        self._prompt = model.prompts.get(model.default_prompt_name or "") or None
        self._device = device
        self._precision = precision

    def prepared_pictures(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        """Preprocess RGB pictures. This is separate from the forward pass, so that both can run at the same time."""
        with failures_on("thumbnail"):
            return dict(self._model.preprocess(list(images), prompt=self._prompt))

    def prepared_titles(self, titles: Sequence[str]) -> dict[str, Any]:
        """Tokenize titles, padded to the longest title, or to the model's fixed length."""
        with failures_on("title"):
            return dict(self._model.preprocess([as_text(title) for title in titles], prompt=self._prompt))

    def pooled_pictures(self, prepared: dict[str, Any]) -> Vectors:
        """Run the vision tower: (n, vision width) float32, the input of the projection of thumbnails."""
        with failures_on("thumbnail"):
            return self._before(VISUAL, prepared)

    def pooled_titles(self, prepared: dict[str, Any]) -> Vectors:
        """Run the text tower: (n, text width) float32, the input of the projection of titles."""
        with failures_on("title"):
            return self._before(TEXT, prepared)

    def _before(self, name: str, prepared: dict[str, Any]) -> Vectors:
        """Run the model, and return the input of the projection `name`."""
        entering: list[Tensor] = []
        hook = self._layers[name].register_forward_pre_hook(lambda _layer, inputs: entering.append(inputs[0]))
        moved = {key: value.to(self._device) if hasattr(value, "to") else value for key, value in prepared.items()}
        try:
            with self._computing():
                self._model(moved)
        finally:
            hook.remove()
        pooled: Vectors = entering[0].float().cpu().numpy()
        return pooled

    @contextmanager
    def _computing(self) -> Iterator[None]:
        self._model.eval()
        lower = self._precision == "bf16"
        # Inference mode is not used, because its tensors can't be used for training later.
        with torch.no_grad(), torch.autocast(self._device, torch.bfloat16, enabled=lower):
            yield


def prefetched(function: Callable[[T], R], items: Iterable[T], ahead: int = 2) -> Iterator[R]:
    """Like `map`, but in a separate thread that stays at most `ahead` items ahead of the consumer."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        try:
            for item in items:
                waiting.append(thread.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # If the consumer stops or an item fails, the remaining results are not needed.
            for future in waiting:
                future.cancel()
