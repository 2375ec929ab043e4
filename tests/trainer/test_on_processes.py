"""Training in a group of processes, which torchrun starts: the same numbers as in one process, one run, one end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.trainer import on_ranks
from tests.trainer.on_ranks import CASES, train_cases

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
