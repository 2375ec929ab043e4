"""Encode on Ray: rates compared with one process, bytes through the command, and lost machines."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select

from bench.channels import channel_of_pairs, sync
from bench.models import model_folder
from bench.postgres import postgres
from bench.reliability_lab import Row
from store.db import Database, open_database
from store.tables import Feature
from thumbtune.demo.session import ENCODER
from thumbtune.standin.server import StandIn
from trainer.runs import encode_pairs
from trainer.settings import Engine, TrainSettings

__all__ = ["encode"]

NOTICED_SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
"""Ray's settings to notice lost machines after 5 s instead of 20."""
Vectors = dict[tuple[str, str, str], bytes]


def encode(folder: Path, *, quick: bool = False) -> list[Row]:
    """Return the rows of this part; with `quick`, only the row of a lost machine."""
    if quick:
        with _store() as database:
            return [_lost(database, n=96, encodings=1, machines=1)]
    # The lost machines come last: after these, Ray's client server did not always start again in this process.
    with _store() as database:
        rows = _rates(database, folder)
    with _store() as database:
        rows.append(_through_the_command(database))
    with _store() as database:
        rows.append(_lost(database, n=500, encodings=4, machines=3))
    return rows


@contextmanager
def _store() -> Iterator[Database]:
    with postgres() as url, open_database(url) as database:
        yield database


def _rates(database: Database, folder: Path) -> list[Row]:
    n = 150
    _fill(database, n)
    name = "vit-b-32"
    settings = TrainSettings(model=str(model_folder(name, folder)))
    seconds = {"this process": _timed(database, settings, Engine())}
    expected = vectors(database)
    equal = True
    for actors in (1, 2, 4):
        seconds[f"Ray, {actors}"] = _timed(database, settings, Engine("ray", None, actors))
        equal = equal and vectors(database) == expected
    told = ", ".join(f"{where}: {n / took:.1f}" for where, took in seconds.items())
    cores = os.cpu_count()
    return [
        Row(
            "Ray computes the vectors of this process, bit for bit",
            f"{n} thumbnails, {name}",
            len(seconds),
            f"{equal}",
            equal,
        ),
        Row("thumbnails/s, with the start of Ray", f"{n} thumbnails, {name}, {cores} cores", 1, told, None),
    ]


def _timed(database: Database, settings: TrainSettings, engine: Engine) -> float:
    forget(database)
    started = time.perf_counter()
    encode_pairs(database, settings, engine)
    return time.perf_counter() - started


def _through_the_command(database: Database) -> Row:
    """Count the bytes between the command and the cluster, through a proxy before the port of Ray's client."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    passed = {}
    port = _free_port()
    # Not `ray start`: `ray stop` would end all of Ray on this machine.
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "ray_client_server_port": port})
    try:
        for n in (600, 2_000):
            _fill(database, n)
            forget(database)
            with closing(_Proxy(port)) as proxy:
                settings = TrainSettings(model=str(ENCODER))
                encode_pairs(database, settings, Engine("ray", f"ray://127.0.0.1:{proxy.port}", 1))
                passed[n] = proxy.passed
    finally:
        cluster.shutdown()
    few, many = sorted(passed)
    pictures = 30_000 * (many - few)
    result = ", ".join(f"{n:,} thumbnails: {size:,} bytes" for n, size in passed.items())
    return Row(
        "no thumbnail goes through the command",
        "ray://, through a counting proxy",
        2,
        result,
        passed[many] - passed[few] < pictures / 20,
    )


class _Proxy:
    """Forwards TCP connections to a port of this machine, and counts the bytes of both directions."""

    def __init__(self, target: int) -> None:
        self.passed = 0
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self.passed += len(data)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listening.close()


def _lost(database: Database, *, n: int, encodings: int, machines: int) -> Row:
    """Kill machines of the cluster, and compare all vectors with those of this process.

    During each encoding, `machines` are killed at random moments. Another one is killed just before the first encoding,
    when the cluster still lists it.
    """
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    _fill(database, n)
    settings = TrainSettings(model=str(ENCODER))
    _timed(database, settings, Engine())
    expected = vectors(database)
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "_system_config": NOTICED_SOON})
    moments, good = random.Random(0), 0
    try:
        engine = Engine("ray", cluster.address, 2)
        gone = cluster.add_node(num_cpus=1)
        for number in range(encodings):
            nodes = [cluster.add_node(num_cpus=2) for _ in range(machines)]
            forget(database)
            if number == 0:
                cluster.remove_node(gone, allow_graceful=False)
            at = sorted(moments.randrange(len(expected)) for _ in nodes)
            ending = threading.Thread(target=_end_nodes, args=(cluster, nodes, database, at), daemon=True)
            ending.start()
            encode_pairs(database, settings, engine)
            ending.join()
            good += vectors(database) == expected
    finally:
        cluster.shutdown()
    return Row(
        "a lost machine costs its batches, and nothing else",
        f"{len(expected):,} vectors, {machines} of {machines + 1} nodes killed at random moments, another one before",
        encodings,
        f"all vectors there, none wrong: {good} of {encodings}",
        good == encodings,
    )


def _end_nodes(cluster: Any, nodes: list[Any], database: Database, moments: list[int]) -> None:
    """Kill each node's processes once more than its number of vectors are in the store."""
    n = -1
    for node, written in zip(nodes, moments, strict=True):
        while n < written:
            time.sleep(0.05)
            with database.read() as session:
                n = session.scalar(select(func.count()).select_from(Feature)) or 0
        cluster.remove_node(node, allow_graceful=False)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _fill(database: Database, n: int) -> None:
    """Sync a drawn channel of `n` ordinary videos; a longer one later adds to it."""
    catalogue = channel_of_pairs(n, drawn=True)
    with StandIn(catalogue) as server:
        sync(catalogue, server, database.url.render_as_string(hide_password=False))


def forget(database: Database) -> None:
    """Empty the cache of vectors."""
    with database.write() as session:
        session.execute(delete(Feature))


def vectors(database: Database) -> Vectors:
    """Return all cached vectors: {(fingerprint, tower, digest): bytes}."""
    with database.read() as session:
        rows = session.execute(select(Feature.fingerprint, Feature.tower, Feature.digest, Feature.vector))
        return {(fingerprint, tower, digest): vector for fingerprint, tower, digest, vector in rows}
