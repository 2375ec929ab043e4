"""PostgreSQL goes away during a training run: nothing is lost, and nothing is written twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select, text

from store.db import Database, open_database
from store.errors import DatabaseUnavailable
from store.tables import Evaluation, TrainingStep
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
    """Takes a database away: its connections are ended, and new ones are refused."""

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
    """Progress that calls a function when something in a phase is done."""

    def __init__(self, phase: str, then: Callable[[], object]) -> None:
        self._phase, self._then = phase, then

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        yield lambda _n: None
        if description == self._phase:
            self._then()

    def warn(self, text: str) -> None:
        pass


@pytest.fixture
def server(postgres_server: str, postgres: Database) -> Iterator[Server]:
    server = Server(postgres_server, postgres)
    yield server
    server.come_back()


def test_a_lost_transaction_is_repeated_whole(postgres: Database, server: Server) -> None:
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


def test_without_patience_a_server_that_is_away_is_an_error_at_once(postgres: Database, server: Server) -> None:
    server.go()
    with pytest.raises(DatabaseUnavailable):
        postgres.transact(lambda session: session.execute(text("SELECT 1")))


def test_a_run_outlives_a_server_that_is_away_after_its_training(
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


def test_the_tensors_of_a_run_are_kept_whose_store_stays_away(
    postgres: Database, server: Server, tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBTUNE_MODELS", str(tmp_path))
    monkeypatch.setattr("store.db.database.AWAY_S", 0.1)
    fill(postgres, 40)
    with pytest.raises((DatabaseUnavailable, TrainerError)):
        train(postgres, settings(tiny_clip), progress=AwayIn("Training", server.go))
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
