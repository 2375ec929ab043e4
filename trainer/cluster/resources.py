"""What each worker on a cluster may take of a machine's cores or GPUs, so that all workers can start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["largest_share", "of_machines", "without_largest"]


def of_machines(ray: Any, kind: str) -> list[float]:
    """Return how many of a resource (`CPU` or `GPU`) each machine of a cluster has.

    Args:
        ray: the module, connected to the cluster.
        kind: the resource's name in Ray.
    """
    return [float(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"]]


def largest_share(machines: Sequence[float], workers: int) -> float:
    """Return the largest share of a core or GPU, at most 1, with which all workers fit on the machines.

    No worker can use parts of two machines: on two machines of one core, three workers can take 0.5 each, not 0.66.
    Ray would wait forever for a worker that does not fit.

    Args:
        machines: the number of cores or GPUs of each machine.
        workers: the number of workers, at least 1.

    Returns:
        The share in hundredths, rounded down; 0 if they would need less than a hundredth.
    """
    shares = {min(1.0, int(100 * has / n) / 100) for has in set(machines) for n in range(1, workers + 1)} - {0.0}
    fitting = (share for share in shares if sum(int(has / share + 1e-9) for has in machines) >= workers)
    return max(fitting, default=0.0)


def without_largest(machines: Sequence[float]) -> list[float]:
    """Return what is left if a machine is lost: the numbers above 0 without the largest one, unless it is the only one.

    Workers whose shares fit on these machines can all start again after a loss. A machine may also be lost before they
    start: the cluster still lists it until it has missed several heartbeats.
    """
    usable = sorted(number for number in machines if number > 0)
    return usable[:-1] or usable
