"""Training in a group of processes, which torchrun starts: the same numbers as in one process, one run, one end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import psutil
import pytest
import torch
from sqlalchemy import select

from store.db import Database
from store.tables import TrainingRun
from tests.trainer import on_ranks
from tests.trainer.on_ranks import CASES, train_cases
from tests.trainer.training import artifact, losses, settings
from trainer.artifacts import models_dir
from trainer.runs import train

pytestmark = [pytest.mark.processes, pytest.mark.slow]

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


@pytest.fixture(scope="module")
def both(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, on_ranks.Trained]]:
    """The results of one process, and those of each of two."""
    file = tmp_path_factory.mktemp("ranks") / "found"
    with subprocess.Popen([*TORCHRUN, "2", "-m", on_ranks.__name__, str(tiny_clip), str(file)]) as group:
        alone = train_cases(tiny_clip)
    assert group.returncode == 0
    sys.modules["__main__"].Trained = on_ranks.Trained  # type: ignore[attr-defined]  # as the processes pickled it
    return [alone, *(torch.load(f"{file}-{rank}", weights_only=False) for rank in (0, 1))]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_compute_what_one_does(both: list[dict[str, on_ranks.Trained]], case: str) -> None:
    alone, *ranks = (found[case] for found in both)
    first = alone.steps[0].loss
    assert first > 0.1
    for found in ranks:
        assert [step.loss for step in found.steps] == pytest.approx([step.loss for step in alone.steps], abs=1e-5)
        assert [(step.step, step.epoch, step.learning_rate) for step in found.steps] == [
            (step.step, step.epoch, step.learning_rate) for step in alone.steps
        ]
        norms = [torch.stack([tensor.norm() for tensor in step]).norm() for step in alone.gradients]
        assert "clipped" in case or all(norm < 0.9 for norm in norms)
        for mine, theirs in zip(alone.gradients, found.gradients, strict=True):
            torch.testing.assert_close(theirs, mine, atol=1e-5, rtol=1e-4)
        assert found.weights.keys() == alone.weights.keys()
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(found.weights[name], tensor, atol=1e-5, rtol=0)
    assert all(torch.equal(tensor, ranks[1].weights[name]) for name, tensor in ranks[0].weights.items())


class Started:
    """`thumbtune train` in two processes."""

    def __init__(self, database: Database, model: Path, *options: str) -> None:
        chosen = ("--model", str(model), "--title-model", "base", "--device", "cpu", "--batch-size", "32", *options)
        self.database = database
        self.group = subprocess.Popen(
            [*TORCHRUN, "2", "-m", "thumbtune", "--db", str(database.path), "train", *chosen],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, list[str]]:
        """Return the exit code, and what the processes said on stdout and as errors."""
        out, err = self.group.communicate(timeout=120)
        return self.group.returncode, out, [line for line in err.splitlines() if line.startswith("error: ")]

    def run(self) -> TrainingRun | None:
        with self.database.read() as session:
            return session.scalars(select(TrainingRun)).one_or_none()

    def kill_first_or_second(self, rank: int) -> None:
        """Kill a process as soon as the run trains."""
        while (run := self.run()) is None or run.parameters_trainable is None:
            assert self.group.poll() is None, self.end()
            os.sched_yield()
        ranks = {int(child.environ()["RANK"]): child for child in psutil.Process(self.group.pid).children()}
        assert ranks[0].pid == run.pid
        ranks[rank].kill()


def test_two_processes_record_one_run_that_equals_one_processs(filled: Database, tiny_clip: Path) -> None:
    two = Started(filled, tiny_clip, "--train", "all", "--epochs", "2", "--json")
    code, out, errors = two.end()
    assert (code, errors) == (0, [])
    result = json.loads(out)
    alone = train(filled, settings(tiny_clip, train="all", epochs=2, batch_size=32, lr=1e-4))
    assert (result["run_id"], alone.run_id) == (1, 2)
    assert losses(filled, 1) == pytest.approx(losses(filled, 2), abs=1e-5)
    kept = [artifact(filled, run_id) for run_id in (1, 2)]
    assert kept[0].keys() == kept[1].keys()
    for name, tensor in kept[0].items():
        torch.testing.assert_close(tensor, kept[1][name], atol=1e-5, rtol=0)
    assert len(list(models_dir(filled).iterdir())) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_as_failed(filled: Database, tiny_clip: Path, rank: int) -> None:
    two = Started(filled, tiny_clip, "--train", "all", "--epochs", "100000")
    two.kill_first_or_second(rank)
    code, out, errors = two.end()
    assert (code, out, len(errors)) == (1, "", 1)
    run = two.run()
    assert run is not None
    assert (run.status, run.finished_at is None) == ("failed", False)
    assert run.error is not None
    assert "processes" in run.error


def test_projections_are_not_trained_in_several_processes(filled: Database, tiny_clip: Path) -> None:
    two = Started(filled, tiny_clip, "--train", "cca")
    assert two.end()[1:] == ("", [ANY])
    assert two.run() is None
