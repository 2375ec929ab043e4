"""Train the whole model on a Ray cluster with Ray Train, which starts a process group of torch.

The command records the run, as it does for a training in its own process. Each process of the group runs a `Job`, as
with torchrun. The first process sends the steps and the trained tensors to the command. See
https://docs.ray.io/en/latest/train/getting-started-transformers.html.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, distributed

from store.db import Database
from store.errors import StoreError
from store.wording import counted
from trainer.artifacts import put_tensors
from trainer.cluster.connection import check_nodes, connected
from trainer.cluster.filling import Encoding, one_line
from trainer.cluster.processes import Job
from trainer.cluster.resources import largest_share, of_machines
from trainer.errors import ClusterUnavailable, ProcessLost, TrainerError
from trainer.fitting import FitModel, FitTask, OnStep, Step
from trainer.models import named_parameters, pick_device
from trainer.quiet import quiet_libraries
from trainer.settings import Engine

__all__ = ["RayProcesses"]

_POLL_S = 0.5


@dataclass(frozen=True)
class RayProcesses:
    """Processes of a Ray cluster, started for one training. See `trainer.cluster.Processes`."""

    database: Database
    engine: Engine
    refuses_projections = False

    @property
    def count(self) -> int:
        """The requested number of processes; 1 if it depends on the cluster."""
        return self.engine.actors or 1

    def watched(self, run_id: int) -> AbstractContextManager[None]:
        """Do nothing: `fitting` reports lost processes."""
        return nullcontext()

    def fitting(self, changed: Mapping[str, Tensor]) -> FitModel:
        """Return a function that trains on the cluster.

        Args:
            changed: parameters that differ from the base model at the start.
        """

        def fit(task: FitTask, on_step: OnStep) -> None:
            kept = {name: tensor.cpu() for name, tensor in changed.items()}
            trained = self._trained(Job(task.settings, task.rows, kept), on_step)
            put_tensors(named_parameters(task.encoder.model), trained, "the result of the cluster")

        return fit

    def _trained(self, job: Job, on_step: OnStep) -> Mapping[str, Tensor]:
        """Train on the cluster; return the trained tensors.

        Raises:
            ClusterUnavailable: see `connected` and `check_nodes`.
            ProcessLost: a process has failed, or was lost.
        """
        device = pick_device(job.settings.device)
        encoding = Encoding.of(self.database, job.settings, device)
        with connected(self.engine.address) as ray:
            check_nodes(ray, encoding)
            processes, each = _resources(ray, self.engine.actors, job.settings.batch_size, device)
            box = ray.remote(num_cpus=0)(_Box).remote()
            started = ray.remote(num_cpus=0)(_Started).remote()
            running = started.run.remote(job, encoding, box, processes, each)
            try:
                while not ray.wait([running], timeout=_POLL_S)[0]:
                    for step in ray.get(box.steps.remote()):
                        on_step(step)
                for step in ray.get(box.steps.remote()):
                    on_step(step)
                reason = ray.get(running)
                failed, tensors = ray.get(box.result.remote())
            except ray.exceptions.RayError as error:
                reason, failed, tensors = one_line(error), "", None
            finally:
                ray.kill(started)
        if tensors is None:
            raise ProcessLost(failed or f"a process of the training on Ray was lost; {reason}")
        found: Mapping[str, Tensor] = tensors
        return found


def _resources(ray: Any, given: int | None, batch_size: int, device: str) -> tuple[int, dict[str, float]]:
    """Return the number of processes to start, and the resources of each: together at most those of the cluster.

    The default is one process for each GPU or, without GPUs, for each machine. Ray would wait forever for resources
    that the cluster does not have.

    Raises:
        ClusterUnavailable: there are fewer GPUs than `given`.
    """
    if device == "cuda":
        gpus = int(sum(of_machines(ray, "GPU")))
        if gpus < (given or 1):
            found = counted(gpus, "GPU")
            raise ClusterUnavailable(f"the Ray cluster has {found}; use a smaller --actors, or --device cpu")
        return given or min(gpus, batch_size), {"CPU": 0, "GPU": 1}
    processes = given or min(sum(node["Alive"] for node in ray.nodes()), batch_size)
    return processes, {"CPU": largest_share(of_machines(ray, "CPU"), processes)}


class _Box:
    """Passes results of the processes to the command, which polls it. An actor on the cluster."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._failed = ""
        self._tensors: Mapping[str, Tensor] | None = None

    def put_step(self, step: Step) -> None:
        self._steps.append(step)

    def put_failure(self, reason: str) -> None:
        self._failed = self._failed or reason

    def put_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def steps(self) -> list[Step]:
        """Return the steps since the last call."""
        found, self._steps = self._steps, []
        return found

    def result(self) -> tuple[str, Mapping[str, Tensor] | None]:
        return self._failed, self._tensors


class _Started:
    """Runs Ray Train. An actor on the cluster, because Ray Train does not run in a client of `ray://`."""

    def run(self, job: Job, encoding: Encoding, box: Any, processes: int, each: dict[str, float]) -> str:
        """Train. Return the reason of a failure; empty if it succeeded."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError  # noqa: PLC0415 (optional)
        from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415

        on_gpu = encoding.device == "cuda"
        with tempfile.TemporaryDirectory(prefix="thumbtune-") as folder:
            trainer = TorchTrainer(
                _share,
                train_loop_config={"job": job, "encoding": encoding, "box": box},
                scaling_config=ScalingConfig(num_workers=processes, use_gpu=on_gpu, resources_per_worker=each),
                torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
                run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=0)),
            )
            try:
                trainer.fit()
            except TrainingFailedError as error:
                return one_line(error)
        return ""


def _share(given: dict[str, Any]) -> None:
    """Train in one of the processes that Ray Train started."""
    import ray  # noqa: PLC0415 (an optional package)

    job, encoding, box = given["job"], given["encoding"], given["box"]
    first = distributed.get_rank() == 0

    def on_step(step: Step) -> None:
        if first:
            box.put_step.remote(step)

    try:
        with quiet_libraries(), encoding.open() as database:
            learner = job.learner(database)
            learner.fit(job.rows, on_step)
    except (StoreError, TrainerError) as error:
        ray.get(box.put_failure.remote(str(error)))
        raise
    if first:
        ray.get(box.put_tensors.remote(learner.tensors()))
