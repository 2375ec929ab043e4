"""PostgreSQL is unreachable for a while during a training run: nothing is lost or written twice."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, make_url, select, text

from store.db import Database, open_database
from store.db.engine import make_engine
from store.errors import DatabaseUnavailable
from store.tables import Evaluation, TrainingRun, TrainingStep
from store.training import add_steps, get_run, start_run
from tests.trainer.tiny import fill
from tests.trainer.training import settings
from trainer.errors import TrainerError
from trainer.runs import train

AWAY_S = 0.3
RUN = {"base_model": "m", "trained": "all", "seed": 1, "settings": {}, "packages": {}, "host": "here", "pid": 1}


@pytest.fixture
def postgres(migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr("store.db.database.RETRY_S", 0.01)
    with open_database(migrated_postgres_url) as opened:
        yield opened


class Server:
    """Makes a database unreachable: ends its connections, and refuses new ones."""

    def __init__(self, server: str, database: Database) -> None:
        self._server, self._name = server, database.url.database

    def go(self) -> None:
        self._run(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        self.end_connections()

    def end_connections(self) -> None:
        self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")

    def come_back(self) -> None:
        self._run(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")

    def _run(self, sql: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.encode())


class AwayIn:
    """Progress that calls a function after an item of a phase."""

    def __init__(self, phase: str, then: Callable[[], object]) -> None:
        self._phase, self._then = phase, then

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        yield lambda _n: None
        if description == self._phase:
            self._then()

    def warn(self, text: str) -> None:
        pass


class LosingFromTheStart:
    """Progress that makes a proxy lose connections from the first phase on."""

    def __init__(self, proxy: LosingProxy) -> None:
        self._proxy = proxy

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self._proxy.losing = True
        yield lambda _n: None

    def warn(self, text: str) -> None:
        pass


@pytest.fixture
def server(postgres_server: str, postgres: Database) -> Iterator[Server]:
    server = Server(postgres_server, postgres)
    yield server
    server.come_back()


class LosingProxy:
    """Forwards TCP connections to a Unix socket.

    While `losing`, it closes the n-th connection with its message `5 + n` of the client, or a later one.
    """

    def __init__(self, path: str) -> None:
        self._path, self.lost, self.losing = path, 0, False
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._start(self._accept)

    def _start(self, call: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=call, args=arguments, daemon=True))
        self._threads[-1].start()

    def close(self) -> None:
        for end in (self._listening, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listening, *self._ends):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            for number in range(10_000):
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                self._ends += (client, server)
                self._start(self._forward, client, server, 5 + number)
                self._start(self._forward, server, client, None)

    def _forward(self, source: socket.socket, target: socket.socket, kept: int | None) -> None:
        with suppress(OSError):
            for number in itertools.count():
                message = source.recv(1 << 20)
                if not message or (self.losing and kept is not None and number >= kept):
                    self.lost += bool(message)
                    break
                target.sendall(message)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def losing(
    postgres_server: str, migrated_postgres_url: str, postgres: Database
) -> Iterator[tuple[Database, LosingProxy]]:
    folder = make_url(postgres_server).query.get("host", "")
    if not str(folder).startswith("/"):
        pytest.skip("needs a server on a Unix socket")
    proxy = LosingProxy(f"{folder}/.s.PGSQL.5432")
    url = make_url(migrated_postgres_url).set(host="127.0.0.1", port=proxy.port, query={})
    opened = replace(postgres, engine=make_engine(url.set(drivername="postgresql+psycopg"), read_only=False))
    yield opened, proxy
    opened.close()
    proxy.close()


def test_a_lost_transaction_is_repeated(postgres: Database, server: Server) -> None:
    with postgres.write() as session:
        run_id = start_run(session, **RUN)
    calls: list[int] = []

    def work(session: object) -> None:
        calls.append(1)
        add_steps(session, run_id, [{"step": 1, "epoch": 1.0, "loss": 1.0, "learning_rate": 1.0}])  # type: ignore[arg-type]
        if len(calls) == 1:
            server.end_connections()

    with postgres.patient():
        postgres.transact(work)
    with postgres.read() as session:
        assert (len(calls), session.scalar(select(func.count()).select_from(TrainingStep))) == (2, 1)


def test_without_patience_an_absent_server_is_an_error_at_once(postgres: Database, server: Server) -> None:
    server.go()
    with pytest.raises(DatabaseUnavailable):
        postgres.transact(lambda session: session.execute(text("SELECT 1")))


def test_a_lost_read_is_repeated_and_loaded_objects_stay_valid(postgres: Database, server: Server) -> None:
    with postgres.write() as session:
        run_id = start_run(session, **RUN)
    with postgres.patient(), postgres.read() as session:
        before = get_run(session, run_id)
        server.end_connections()
        count = session.scalar(select(func.count()).select_from(TrainingRun))
        server.end_connections()
        after = get_run(session, run_id)
        server.end_connections()  # the rollback at the end is lost
    assert (count, before.seed, after.seed) == (1, 1, 1)


def test_without_patience_a_lost_read_is_an_error(postgres: Database, server: Server) -> None:
    with pytest.raises(DatabaseUnavailable), postgres.read() as session:  # noqa: PT012 (the loss is in the session)
        session.execute(text("SELECT 1"))
        server.end_connections()
        session.execute(text("SELECT 1"))


def test_a_run_survives_lost_connections_at_many_statements(
    postgres: Database,
    losing: tuple[Database, LosingProxy],
    tmp_path: Path,
    tiny_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, proxy = losing
    monkeypatch.setenv("THUMBTUNE_MODELS", str(tmp_path))
    fill(postgres, 40)
    result = train(database, settings(tiny_clip), progress=LosingFromTheStart(proxy))
    with postgres.read() as session:
        assert get_run(session, result.run_id).status == "done"
    assert proxy.lost > 5


def test_a_run_survives_a_server_outage_after_training(
    postgres: Database, server: Server, tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBTUNE_MODELS", str(tmp_path))
    fill(postgres, 40)

    def away() -> None:
        server.go()
        threading.Timer(AWAY_S, server.come_back).start()

    result = train(postgres, settings(tiny_clip), progress=AwayIn("Training", away))
    with postgres.read() as session:
        assert get_run(session, result.run_id).status == "done"
        assert session.scalar(select(func.count()).select_from(Evaluation).where(Evaluation.run_id == result.run_id))
    assert result.model_path.is_file()


def test_tensors_are_kept_if_the_server_stays_away(
    postgres: Database, server: Server, tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBTUNE_MODELS", str(tmp_path))
    monkeypatch.setattr("store.db.database.AWAY_S", 0.1)
    fill(postgres, 40)
    with pytest.raises((DatabaseUnavailable, TrainerError)):
        train(postgres, settings(tiny_clip), progress=AwayIn("Training", server.go))
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
