"""Layers of a transformer in plain torch, with weights from a safetensors file: for `PlainClip` and `PlainBert`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

__all__ = ["Weights", "attended", "few_threads", "is_narrow", "linear_layer", "normed", "same"]

Vectors = NDArray[np.float32]

_NARROW = 512
"""Width below which a layer's products take less than a millisecond, so that a second thread mostly waits."""


class Weights:
    """Tensors of a safetensors file. Each is read when it is used.

    Args:
        path: the file.
        prefix: the common start of the tensors' names, which callers leave out.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._file: Any = safe_open(str(path), "pt")
        self._prefix = prefix

    def __enter__(self) -> Weights:
        self._open = self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __call__(self, name: str) -> Tensor:
        """Read a tensor as float32."""
        tensor: Tensor = self._open.get_tensor(f"{self._prefix}{name}")
        return tensor.float()


def is_narrow(about: Mapping[str, Any]) -> bool:
    """Whether one thread suffices for a transformer with this configuration."""
    return int(about["hidden_size"]) < _NARROW


@contextmanager
def few_threads(small: bool) -> Iterator[None]:
    """Limit torch to one thread if the matrix products are small."""
    threads = torch.get_num_threads()
    if small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def attended(x: Tensor, weights: Weights, names: tuple[str, str, str], heads: int, *, causal: bool) -> Tensor:
    """Self-attention of (n, length, width), before its last layer; `names` are the layers of query, key and value."""
    query, key, value = (
        linear_layer(x, weights, name).reshape(*x.shape[:2], heads, -1).transpose(1, 2) for name in names
    )
    return scaled_dot_product_attention(query, key, value, is_causal=causal).transpose(1, 2).flatten(-2)


def linear_layer(x: Tensor, weights: Weights, name: str) -> Tensor:
    """Apply the linear layer `name`."""
    return linear(x, weights(f"{name}.weight"), weights(f"{name}.bias"))


def normed(x: Tensor, weights: Weights, name: str, about: Mapping[str, Any]) -> Tensor:
    """Apply the layer normalisation `name`. `about` is the transformer's configuration."""
    return layer_norm(x, x.shape[-1:], weights(f"{name}.weight"), weights(f"{name}.bias"), about["layer_norm_eps"])


def same(one: Vectors, other: Vectors) -> bool:
    """Whether vectors are equal except for rounding in float32."""
    return one.shape == other.shape and bool(np.abs(one - other).max() <= 1e-4 * max(1.0, float(np.abs(other).max())))
