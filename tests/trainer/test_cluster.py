"""Encoding on a Ray cluster: real nodes as processes of this machine, and a real PostgreSQL."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from sqlalchemy import delete, select, update

from store.db import Database, open_database
from store.tables import Feature, Picture
from store.training import current_pairs
from tests.trainer.tiny import fill
from tests.trainer.training import artifact, losses, settings
from trainer.cluster import Encoding, RayProcesses, connected
from trainer.cluster.connection import check_nodes, versions, why_not
from trainer.cluster.processes import Job
from trainer.errors import ClusterUnavailable, EncodingFailed, NotEnoughPairs, ProcessLost
from trainer.fitting import Step, Triplets
from trainer.runs import encode_pairs, train
from trainer.settings import Engine, TrainSettings

PASSWORD = "a-word-that-no-log-shows"


def vectors(database: Database) -> dict[tuple[str, str, str], bytes]:
    with database.read() as session:
        rows = session.execute(select(Feature.fingerprint, Feature.tower, Feature.digest, Feature.vector))
        return {(fingerprint, tower, digest): vector for fingerprint, tower, digest, vector in rows}


def encoding(database: Database, model: Path, **changes: Any) -> Encoding:
    return replace(Encoding.of(database, TrainSettings(model=str(model)), "cpu"), **changes)


def test_local_encoding_fills_the_cache_once(filled: Database, tiny_clip: Path) -> None:
    settings = TrainSettings(model=str(tiny_clip))
    first = encode_pairs(filled, settings)
    assert (first.thumbnails, first.titles, first.new) == (40, 40, 80)
    found = vectors(filled)
    assert encode_pairs(filled, settings).new == 0
    gone = next(key for key in found if key[1] == "vision")
    with filled.write() as session:
        session.execute(delete(Feature).where(Feature.digest == gone[2]))
    assert encode_pairs(filled, settings).new == 1
    assert vectors(filled).keys() == found.keys()


def test_a_store_without_pairs_has_nothing_to_encode(sqlite_database: Database, tiny_clip: Path) -> None:
    with pytest.raises(NotEnoughPairs):
        encode_pairs(sqlite_database, TrainSettings(model=str(tiny_clip)))


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterUnavailable, match=r"thumbtune\[ray\]"), connected(None):
        pass


@pytest.mark.parametrize("url", [f"postgresql://me:{PASSWORD}@host/x", f"postgresql://host/x?password={PASSWORD}"])
@pytest.mark.parametrize("option", ["", "--db="])
def test_a_password_on_the_command_line_is_refused(monkeypatch: pytest.MonkeyPatch, url: str, option: str) -> None:
    """Ray shows the command line as the job's entry point, in its dashboard and logs."""
    monkeypatch.setattr(sys, "orig_argv", ["thumbtune", option + url, "encode"])
    with pytest.raises(ClusterUnavailable, match="THUMBTUNE_DB") as raised, connected(None):
        pass
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:{port}", "127.0.0.1:{port}", "ray://", "127.0.0.1:no"])
def test_a_missing_cluster_is_reported_at_once(address: str) -> None:
    with socket.socket() as free:  # bound, but not listening
        free.bind(("127.0.0.1", 0))
        named = address.format(port=free.getsockname()[1])
        with pytest.raises(ClusterUnavailable, match="no Ray cluster"), connected(named):
            pass


def test_a_machine_with_other_versions_is_refused(filled: Database, tiny_clip: Path) -> None:
    there = versions() | {"torch": "0.1"}
    assert "torch" in why_not(there, encoding(filled, tiny_clip))
    assert why_not(versions(), encoding(filled, tiny_clip)) == ""


def test_a_machine_without_the_store_or_the_model_is_refused(filled: Database, tiny_clip: Path, tmp_path: Path) -> None:
    elsewhere = encoding(filled, tiny_clip, url="postgresql://user:" + PASSWORD + "@127.0.0.1:9/none")
    reason = why_not(versions(), elsewhere)
    assert "127.0.0.1" in reason
    assert PASSWORD not in reason + repr(elsewhere)
    assert "nowhere" in why_not(versions(), encoding(filled, tmp_path / "nowhere"))


def test_a_sqlite_file_is_not_shared_with_other_machines(filled: Database, tiny_clip: Path) -> None:
    hosts = [{"Alive": True, "NodeID": name, "NodeManagerHostname": name} for name in (socket.gethostname(), "other")]
    with pytest.raises(ClusterUnavailable, match="other"):
        check_nodes(SimpleNamespace(nodes=lambda: hosts), encoding(filled, tiny_clip))


def is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Ray leaves its log files open
def test_a_lost_connection_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs thumbtune[ray]")
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "ray_client_server_port": port})
    while not is_open(port):  # the head starts its server for clients last
        assert cluster.head_node.any_processes_alive()

    def lose_it() -> None:
        with connected(f"ray://127.0.0.1:{port}") as ray:
            ray.get(ray.put(1))
            cluster.shutdown()
            while True:
                ray.put(1)

    def lose_it_once_it_is_ready() -> None:
        for _ in range(10):
            try:
                lose_it()
            except ClusterUnavailable:
                if cluster.head_node is None:  # it was connected, and has shut down
                    raise

    with pytest.raises(ClusterUnavailable, match="was lost"):
        lose_it_once_it_is_ready()


class Nodes:
    """A cluster of processes on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster  # noqa: PLC0415

        self.cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        self.engine = Engine("ray", self.cluster.address, 1)

    def logs(self) -> str:
        folder = Path(self.cluster.head_node.get_session_dir_path())
        return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="needs thumbtune[ray]")
    found = Nodes()
    yield found
    found.cluster.shutdown()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    """A PostgreSQL store whose URL has a password; a server on a Unix socket ignores it."""
    with open_database(postgres_url) as database:
        yield replace(database, url=database.url.set(password=PASSWORD))


@pytest.mark.slow
@pytest.mark.processes
def test_a_worker_error_is_one_line_without_the_password(postgres: Database, tiny_clip: Path, nodes: Nodes) -> None:
    """`tests.bench.test_scale` compares the vectors of a cluster with those of this process."""
    settings = TrainSettings(model=str(tiny_clip))
    fill(postgres, 70)
    with postgres.write() as session:
        session.execute(update(Picture).values(bytes=b"no picture"))
    with pytest.raises(EncodingFailed, match="db check"):
        encode_pairs(postgres, settings, nodes.engine)
    assert PASSWORD not in nodes.logs()


@pytest.mark.slow
@pytest.mark.processes
def test_a_cluster_trains_the_same_tensors_as_one_process(postgres: Database, tiny_clip: Path, nodes: Nodes) -> None:
    fill(postgres, 40)
    wanted = settings(tiny_clip, train="all", batch_size=32, lr=1e-4)
    two = RayProcesses(postgres, replace(nodes.engine, actors=2))
    found = [train(postgres, wanted, processes=each).run_id for each in (None, two)]
    assert losses(postgres, found[1]) == pytest.approx(losses(postgres, found[0]), abs=1e-5)
    first, second = (artifact(postgres, run) for run in found)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-5, rtol=0)

    killed: list[int] = []

    def kill(_step: Step) -> None:
        for process in [] if killed else psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process.pid)
                    return

    # A killed process ends the training with one line.
    names = ["red circle", "blue square", "green bar"]
    with postgres.read() as session:
        digests = [pair.picture_sha256 for pair in current_pairs(session)][:3]
    job = Job(replace(wanted, epochs=100_000), Triplets(digests, names, None))
    with pytest.raises(ProcessLost) as raised:
        two._trained(job, kill)
    assert "\n" not in str(raised.value)
    assert PASSWORD not in str(raised.value) + nodes.logs()
