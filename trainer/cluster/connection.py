"""Connect to a Ray cluster, and check that its machines can do the work, before any work is sent to them."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from store.errors import StoreError
from store.urls import shown_url
from trainer.errors import ClusterUnavailable

if TYPE_CHECKING:
    from trainer.cluster.filling import Encoding

__all__ = ["check_nodes", "connected", "versions", "why_not"]

_CONNECT_S = 5.0
_CHECK_S = 120.0
_POLL_S = 0.5
_PACKAGES = ("thumbtune", "pillow", "sentence-transformers", "tokenizers", "torch", "transformers")
"""Vectors are cached under a key that does not contain these packages' versions, so they must be equal everywhere."""


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Connect to a cluster, or start Ray on this machine; yield the module `ray`.

    Args:
        address: `ray://HOST:PORT`, or `HOST:PORT` of the cluster's head; None for the cluster of the environment
            variable `RAY_ADDRESS` and, without it, for this machine alone.

    Raises:
        ClusterUnavailable: Ray is not installed, there is no cluster of this version at the address, the connection is
            lost, or a password is on the command line.
    """
    if any("://" in word and shown_url(word) != word for word in sys.orig_argv):
        raise ClusterUnavailable(
            "a password is on the command line, which Ray shows as the job's entry point; name the store with "
            "THUMBTUNE_DB or THUMBTUNE_DB_FILE instead"
        )
    # By default, Ray reports its usage, but the trainer must not go online by itself.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: PLC0415 (an optional package)
    except ImportError as error:
        raise ClusterUnavailable("Ray is not installed; install thumbtune[ray], or use --engine local") from error
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None and address != "auto":
        _require_open(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        ray.shutdown()  # otherwise, this process would stay a client, and could use no other cluster
        raise ClusterUnavailable(
            f"can't connect to Ray at {address or 'this machine'} ({_first_line(error)})"
        ) from error
    try:
        yield ray
    except ConnectionError as error:  # of Ray's client, which has tried to connect again for half a minute
        raise ClusterUnavailable(
            f"the connection to Ray at {address or 'this machine'} was lost ({_first_line(error)}); run the command "
            "again: it continues with what was written"
        ) from error
    finally:
        ray.shutdown()


def _require_open(address: str) -> None:
    """Check that a server listens at the address, because Ray itself waits for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        host, port = port, "10001"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterUnavailable(
            f"there is no Ray cluster at {address} ({_first_line(error)}); check --ray-address or RAY_ADDRESS"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def check_nodes(ray: Any, encoding: Encoding) -> None:
    """Check that each machine of the cluster has the same packages, and can read the store and the model.

    A machine that is lost before or during the check is ignored. The cluster lists it as alive until it has missed
    several heartbeats, so a check that Ray could not run is repeated while the machine is listed.

    Raises:
        ClusterUnavailable: a machine can't do the work; the message names it and says why.
    """
    unchecked = _names_of_nodes(ray)
    if encoding.file is not None and (others := set(unchecked.values()) - {socket.gethostname()}):
        raise ClusterUnavailable(
            f"the store is the file {encoding.file}, which other machines ({', '.join(sorted(others))}) can't share; "
            "use PostgreSQL ('thumbtune db copy'), or --engine local"
        )
    deadline = time.monotonic() + _CHECK_S
    while unchecked:
        reasons, unanswered = _ask(ray, unchecked, encoding, max(0.0, deadline - time.monotonic()))
        for node, reason in reasons.items():
            if reason:
                raise _unusable(unchecked[node], reason)
        alive = _names_of_nodes(ray)
        unchecked = {node: alive[node] for node in unanswered if node in alive}
        for node, name in unchecked.items():
            if time.monotonic() >= deadline:
                raise _unusable(name, unanswered[node])
        if unchecked:
            time.sleep(_POLL_S)


def _ask(ray: Any, nodes: Iterable[str], encoding: Encoding, seconds: float) -> tuple[dict[str, str], dict[str, str]]:
    """Run `why_not` on each machine. Return {id: its result}, and {id: why there is no result}."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    probe = ray.remote(num_cpus=0, max_retries=0)(why_not)
    asked = {
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            versions(), encoding
        ): node
        for node in nodes
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    reasons: dict[str, str] = {}
    unanswered = {asked[task]: "it did not answer" for task in late}
    for task in done:
        try:
            reasons[asked[task]] = ray.get(task)
        except ray.exceptions.RayTaskError as error:  # raised by the function
            reasons[asked[task]] = _first_line(error.cause)
        except ray.exceptions.RayError as error:  # Ray did not run the function
            unanswered[asked[task]] = _first_line(error)
    return reasons, unanswered


def _names_of_nodes(ray: Any) -> dict[str, str]:
    """Return {id: host name} of the machines that the cluster lists as alive."""
    return {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}


def _unusable(name: str, reason: str) -> ClusterUnavailable:
    return ClusterUnavailable(f"the machine {name} of the Ray cluster can't be used: {reason}")


def versions() -> dict[str, str]:
    """Return {package: version} of the packages that must be equal on all machines."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def why_not(required: dict[str, str], encoding: Encoding) -> str:
    """Return why this machine can't encode; empty if it can. Runs on each machine of the cluster."""
    installed = versions()
    different = [
        f"{name} {installed[name]} instead of {version}"
        for name, version in required.items()
        if installed[name] != version
    ]
    if different:
        return f"it has {', '.join(different)}"
    from trainer.errors import TrainerError  # noqa: PLC0415
    from trainer.models import model_folder  # noqa: PLC0415

    try:
        with encoding.open() as database, database.read():
            model_folder(encoding.settings.model, "--model")
    except (StoreError, TrainerError) as error:
        return str(error)
    return ""
