"""Training in several processes, as torchrun starts them: the same numbers as in one process, and one recorded run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from sqlalchemy import select, update
from torch.distributed import HashStore  # type: ignore[attr-defined]

from store.db import Database
from store.processes import this_process
from store.tables import Picture, TrainingRun
from store.training import this_machine
from tests import forked
from tests.trainer import on_ranks
from tests.trainer.on_ranks import CASES, train_cases
from tests.trainer.training import artifact, losses, settings
from trainer.artifacts import models_dir
from trainer.cluster.processes import Group, _Process, require_same
from trainer.errors import BadSetting
from trainer.runs import train
from trainer.runs.learning import require_processes
from trainer.settings import Place, TrainSettings

pytestmark = [pytest.mark.processes, pytest.mark.slow]

# A fork of what has imported torch; the processes that it starts are no forks.
TORCHRUN = (*forked.CODE, "from torch.distributed.run import main; main()", "--standalone", "--nproc-per-node")


@pytest.fixture(scope="module")
def both(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, on_ranks.Trained]]:
    """The results of one process, and those of each of two."""
    file = tmp_path_factory.mktemp("ranks") / "found"
    ranks = start_ranks(["-c", f"from {on_ranks.__name__} import main; main()", str(tiny_clip), str(file)])
    alone = train_cases(tiny_clip)
    told = [process.communicate()[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], told
    return [alone, *(torch.load(f"{file}-{rank}", weights_only=False) for rank in (0, 1))]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_compute_the_same_as_one(both: list[dict[str, on_ranks.Trained]], case: str) -> None:
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


def command(database: Database, model: Path, *options: str) -> list[str]:
    chosen = ["--model", str(model), "--title-model", "base", "--device", "cpu", "--batch-size", "32", *options]
    return ["-m", "thumbtune", "--db", str(database.path), "train", *chosen]


def runs(database: Database) -> list[TrainingRun]:
    with database.read() as session:
        return list(session.scalars(select(TrainingRun)))


def training(database: Database, process: subprocess.Popen[Any]) -> TrainingRun:
    """Wait until a run trains."""
    while not (found := runs(database)) or found[0].parameters_trainable is None:
        assert process.poll() is None, process.communicate()
        os.sched_yield()
    return found[0]


def errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("error: ", "Traceback"))]


def start_ranks(arguments: list[str], worlds: Sequence[int] = (2, 2)) -> list[forked.Popen]:
    """Start a command in processes as torchrun does, without torchrun's own process, which is slow to import."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As torchrun has it: without OMP_NUM_THREADS, accelerate gives each process as many threads as there are cores.
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        forked.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)},
            text=True,
        )
        for rank, world in enumerate(worlds)
    ]


def ends(ranks: Sequence[subprocess.Popen[Any]]) -> list[tuple[int, str, list[str]]]:
    """Return each process's exit code, its results, and its errors."""
    said = [process.communicate(timeout=120) for process in ranks]
    return [(process.returncode, out, errors(err)) for process, (out, err) in zip(ranks, said, strict=True)]


def test_two_processes_record_one_run_equal_to_that_of_one_process(filled: Database, tiny_clip: Path) -> None:
    ranks = start_ranks(command(filled, tiny_clip, "--train", "all", "--json"))
    (code, out, told), other = ends(ranks)
    assert (code, told, other) == (0, [], (0, "", []))
    alone = train(filled, settings(tiny_clip, train="all", epochs=2, batch_size=32, lr=1e-4))
    assert (json.loads(out)["run_id"], alone.run_id) == (1, 2)
    assert losses(filled, 1) == pytest.approx(losses(filled, 2), abs=1e-5)
    kept = [artifact(filled, run_id) for run_id in (1, 2)]
    assert kept[0].keys() == kept[1].keys()
    for name, tensor in kept[0].items():
        torch.testing.assert_close(tensor, kept[1][name], atol=1e-5, rtol=0)
    assert len(list(models_dir(filled).iterdir())) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_as_failed(filled: Database, tiny_clip: Path, rank: int) -> None:
    arguments = command(filled, tiny_clip, "--train", "all", "--epochs", "100000")
    group = forked.Popen([*TORCHRUN, "2", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = training(filled, group).pid
    ranks = {int(child.environ()["RANK"]): child for child in psutil.Process(group.pid).children()}
    assert ranks[0].pid == first
    ranks[rank].kill()
    out, err = group.communicate(timeout=120)
    assert (group.returncode, out) == (1, "")
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    (run,) = runs(filled)
    assert (run.status, run.finished_at is None) == ("failed", False)
    assert run.error is not None
    assert "processes" in run.error


def test_a_signal_to_all_processes_interrupts_the_run(filled: Database, tiny_clip: Path) -> None:
    ranks = start_ranks(command(filled, tiny_clip, "--train", "all", "--epochs", "100000"))
    training(filled, ranks[0])
    for process in reversed(ranks):
        process.send_signal(signal.SIGTERM)
    assert [(code, len(told)) for code, _, told in ends(ranks)] == [(3, 1), (1, 0)]
    assert [run.status for run in runs(filled)] == ["interrupted"]


def test_an_error_of_another_process_fails_the_run(filled: Database, tiny_clip: Path) -> None:
    """The second process is started, but only the first would train the model."""
    ranks = start_ranks(command(filled, tiny_clip, "--train", "all", "--epochs", "100000"))
    training(filled, ranks[0])
    with filled.write() as session:
        session.execute(update(Picture).values(bytes=b"no picture"))
    found = ends(ranks)
    assert [code for code, _, _ in found] == [1, 1]
    assert [run.status for run in runs(filled)] == ["failed"]
    assert any("db check" in line for _, _, told in found for line in told)


@pytest.mark.parametrize("options", [["--train", "cca"], ["--train", "_projection"]])
def test_work_that_processes_cannot_share_is_refused_once(
    filled: Database, tiny_clip: Path, options: list[str]
) -> None:
    (code, out, told), other = ends(start_ranks(command(filled, tiny_clip, "--train", "all", *options)))
    assert (code, out, len(told), other) == (2, "", 1, (1, "", []))
    assert "done" not in [run.status for run in runs(filled)]


@pytest.mark.parametrize("other", ["3", None])
def test_processes_that_do_not_agree_or_are_missing_are_refused(other: str | None) -> None:
    store = HashStore()
    if other is not None:
        store.set("processes of 1", other)
    with pytest.raises(BadSetting):
        require_same(store, Place(0, 2, 0), timedelta(seconds=0.1))


@pytest.mark.parametrize(("rank", "world", "local"), [(2, 2, 0), (-1, 2, 0), (0, 0, 0), (0, -5, 0), (1, 2, -1)])
def test_numbers_that_no_process_has_are_refused(rank: int, world: int, local: int) -> None:
    numbers = {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(local)}
    with pytest.raises(BadSetting):
        Place.of({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", **numbers})


def test_a_batch_has_a_row_for_each_process() -> None:
    member = _Process(this_machine(), *this_process())
    require_processes(TrainSettings(train="all", batch_size=3), Group([member] * 3))
    with pytest.raises(BadSetting, match="--batch-size 3"):
        require_processes(TrainSettings(train="all", batch_size=3), Group([member] * 4))


def test_torchrun_starts_no_other_command(filled: Database) -> None:
    (code, _, told), *_ = ends(start_ranks(["-m", "thumbtune", "--db", str(filled.path), "retrain", "--no-sync"]))
    assert (code, len(told)) == (2, 1)
