"""Record the matrix products of a model's forward pass, and run them alone.

This is the lower bound for any implementation that multiplies the same matrices with the same library: only
`torch.nn.functional.linear` and the two products of each attention, with the model's weights and the same shapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MatrixProducts", "gigaflops_of_a_square"]


@dataclass
class MatrixProducts:
    """The matrix products of a forward pass, in order.

    Args:
        calls: functions that run one product, or the two of an attention.
        flops: floating-point operations of all calls; a multiplication with its addition counts as 2.
    """

    calls: list[Callable[[], Tensor]] = field(default_factory=list)
    flops: int = 0
    _inputs: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    @contextmanager
    def record(self, model: nn.Module) -> Iterator[None]:
        """Record the products of `model` during the block: linear layers, patch embeddings, attentions.

        Args:
            model: a transformer of the CLIP family whose attention modules have `num_heads` and `head_dim`.
        """
        hooks = []
        for module in model.modules():
            if isinstance(module, nn.Linear):
                hooks.append(module.register_forward_hook(self._linear))
            elif isinstance(module, nn.Conv2d):
                hooks.append(module.register_forward_hook(self._patches))
            elif hasattr(module, "num_heads") and hasattr(module, "head_dim"):
                hooks.append(module.register_forward_pre_hook(self._attention, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def run(self) -> float:
        """Run all products once; return the seconds."""
        with torch.no_grad():
            started = time.perf_counter()
            for call in self.calls:
                call()
            return time.perf_counter() - started

    def _linear(self, module: nn.Linear, arguments: tuple[Tensor, ...], _output: Tensor) -> None:
        rows = arguments[0].numel() // module.in_features
        self._add_linear(rows, module.weight, module.bias)

    def _patches(self, module: nn.Conv2d, _arguments: tuple[Tensor, ...], output: Tensor) -> None:
        # A convolution whose stride equals its kernel size is a linear layer over the patches.
        rows = output.shape[0] * output.shape[2] * output.shape[3]
        self._add_linear(rows, module.weight.flatten(1), module.bias)

    def _add_linear(self, rows: int, weight: Tensor, bias: Tensor | None) -> None:
        width = weight.shape[1]
        inputs = self._input(rows, width)
        self.calls.append(lambda: functional.linear(inputs, weight, bias))
        self.flops += 2 * rows * width * weight.shape[0]

    def _attention(self, module: Any, arguments: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        hidden: Tensor = arguments[0] if arguments else named["hidden_states"]
        batch, tokens = hidden.shape[:2]
        queries = self._input(batch, module.num_heads, tokens, module.head_dim)
        weights = self._input(batch, module.num_heads, tokens, tokens)

        def products() -> Tensor:
            torch.matmul(queries, queries.transpose(-1, -2))
            return torch.matmul(weights, queries)

        self.calls.append(products)
        self.flops += 4 * batch * module.num_heads * tokens * tokens * module.head_dim

    def _input(self, *shape: int) -> Tensor:
        if shape not in self._inputs:
            self._inputs[shape] = torch.randn(shape)
        return self._inputs[shape]


def gigaflops_of_a_square(side: int = 4096) -> float:
    """Return the GFLOP/s (10**9 per second) of one large float32 product: the processor's peak rate."""
    left, right = torch.randn(side, side), torch.randn(side, side)
    started = time.perf_counter()
    torch.matmul(left, right)
    return 2 * side**3 / (time.perf_counter() - started) / 1e9
