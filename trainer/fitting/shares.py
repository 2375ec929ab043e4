"""The share of a batch that each process of a process group computes. Without a group, it is the whole batch."""

from __future__ import annotations

from torch import Tensor, distributed

__all__ = ["all_gather_with_grad", "count_processes", "own_rows", "own_share"]


def _in_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def count_processes() -> int:
    """Return the number of processes of the group; 1 without a group."""
    return distributed.get_world_size() if _in_group() else 1


def own_share(n: int) -> range:
    """Return the rows of a batch of `n` that this process computes. The processes' shares follow each other."""
    size = _size(n)
    first = (distributed.get_rank() if _in_group() else 0) * size
    return range(min(first, n), min(first + size, n))


def own_rows(n: int) -> list[int]:
    """Return the rows of `own_share`, filled up with the last row: shares must have equal sizes to be gathered."""
    size = _size(n)
    share = own_share(n)
    return [*share, *[n - 1] * (size - len(share))]


def _size(n: int) -> int:
    return -(-n // count_processes())


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """Concatenate the tensors of all processes, which have equal shapes; gradients flow back to each process."""
    from sentence_transformers.util import all_gather_with_grad as gather  # noqa: PLC0415 (slow to import)

    gathered: Tensor = gather(tensor)
    return gathered
