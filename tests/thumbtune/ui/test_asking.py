"""Answers of the page's model: from one state of the store, cached for a while, without unneeded secrets."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.http import Listen
from store.db import Database, open_database
from store.training import library_mark, model_in_use, promote
from tests.store.builders import add_channel, add_video
from tests.trainer.tiny import draw
from thumbtune.answers.modelled import Answerer
from thumbtune.ui.model_process import ModelError, ModelProcess
from thumbtune.ui.settings import PageSettings
from thumbtune.ui.waiting import Questions

COUNTS = """
import json, os, sys
for number, line in enumerate(sys.stdin, start=1):
    print(json.dumps({"answer": {"number": number, "environment": sorted(os.environ)}, "blobs": []}), flush=True)
"""


LONG = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"answer": {"size": "x" * json.loads(line)["size"]}, "blobs": []}), flush=True)
"""


def counting(url: str = "sqlite:///x") -> ModelProcess:
    """A model process that answers with the number of its questions."""
    return ModelProcess(PageSettings(url, Listen("127.0.0.1", 0)), [sys.executable, "-c", COUNTS])


@pytest.mark.processes
async def test_an_answer_that_is_too_long_does_not_affect_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbtune.ui.model_process._LONGEST_LINE", 1000)
    model = ModelProcess(PageSettings("sqlite:///x", Listen("127.0.0.1", 0)), [sys.executable, "-c", LONG])
    try:
        with pytest.raises(ValueError, match="limit"):
            await model.ask({"size": 500_000})
        assert (await model.ask({"size": 5}))["size"] == "xxxxx"
    finally:
        await model.stop()


async def test_a_process_that_can_not_be_started_is_an_error_of_the_model() -> None:
    with pytest.raises(ModelError):
        await ModelProcess(PageSettings("sqlite:///x", Listen("127.0.0.1", 0)), ["/nowhere/python"]).ask({})


@pytest.mark.processes
@pytest.mark.parametrize(("kept_s", "number"), [(600.0, 1), (0.0, 3)])
async def test_an_uncollected_answer_expires(kept_s: float, number: int) -> None:
    model = counting()
    questions = Questions(model, 60.0, kept_s)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await questions.ask({"q": "left"})
        found = [await questions.ask({"q": text}) for text in ("other", "left")]
        assert [one["number"] for one in found if isinstance(one, dict)] == [2, number]
    finally:
        await questions.close()
        await model.stop()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("url", "kept"),
    [("sqlite:///x", set()), ("postgresql+psycopg://me:word@host/x", set()), ("postgresql://host:port/x", set()),
     ("postgresql+psycopg://me@host/x", {"PGPASSWORD", "PGPASSFILE"})],
)  # fmt: skip
async def test_the_model_process_gets_only_the_secrets_that_it_needs(
    url: str, kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"YOUTUBE_API_KEY", "YOUTUBE_API_KEY_FILE", "THUMBTUNE_DB_FILE", "PGPASSWORD", "PGPASSFILE"}
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    model = counting(url)
    try:
        found = set((await model.ask({}))["environment"])
    finally:
        await model.stop()
    assert found & secrets == kept
    assert {"THUMBTUNE_DB", "PATH"} <= found


class _Meanwhile:
    """Progress that changes the store once, while a question is being answered."""

    def __init__(self, phase: str, change: Callable[[], None]) -> None:
        self._phase, self._change = phase, change

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        if description == self._phase:
            self._phase = ""
            self._change()
        yield lambda _n: None

    def warn(self, text: str) -> None:
        pass


@pytest.fixture
def trained(trained_url: str, tmp_path: Path) -> Iterator[Database]:
    """A copy of the store with two runs, the first one in use."""
    shutil.copytree(Path(trained_url.removeprefix("sqlite:///")).parent, tmp_path / "copy")
    with open_database(f"sqlite:///{tmp_path / 'copy' / 'thumbtune.db'}") as database:
        yield database


@pytest.mark.slow
def test_a_change_during_a_question_affects_the_next_answer(trained: Database) -> None:
    def change() -> None:
        with trained.write() as session:
            promote(session, 2, "meanwhile")
            add_video(session, "new", day=400, title="new", picture=draw("red", "bar", 999))

    answerer = Answerer(trained, device="cpu", progress=_Meanwhile("Embedding the query", change))
    before, after = answerer.search("red", 100), answerer.search("red", 100)
    assert (before.used.run_id, after.used.run_id) == (1, 2)
    assert {one.pair.video_id for one in after.found} - {one.pair.video_id for one in before.found} == {"new"}
    assert after.found == Answerer(trained, "2", "cpu").search("red", 100).found
    # A channel has its own model only after a model came into use for it.
    assert answerer.used(["UC2"]) is answerer.used()


def test_the_library_mark_of_models_changes_with_the_channels(database: Database) -> None:
    with database.write() as session:
        add_channel(session, "UC1")
        before = library_mark(session)[1]
        assert model_in_use(session) is None
    with database.write() as session:
        add_channel(session, "UC2")
        assert library_mark(session)[1] != before
