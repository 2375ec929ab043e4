"""Pushing to a stand-in hub on loopback: the files, their visibility, and each possible failure."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from huggingface_hub import close_session
from sentence_transformers import SentenceTransformer

from store.db import Database, open_database
from store.errors import NotFound
from store.training import load_examples
from tests.fakes.hub import FakeHub, Repository, serving
from tests.trainer.tiny import fill
from tests.trainer.training import train_in_use
from trainer.data import SPLIT_NAMES
from trainer.errors import (
    BadRepository,
    HubUnreachable,
    NotEnoughPairs,
    NoToken,
    PublicRepository,
    PushFailed,
    RunUnusable,
    TokenRefused,
)
from trainer.publish import push_dataset, push_model
from trainer.publish.hub import Hub
from trainer.quiet import quiet_libraries
from trainer.runs.recorded import load_run_model
from trainer.settings import TrainSettings

AT_ONCE = Hub(pauses_s=(0.0, 0.0))


def trained_store(migrated_file: Path, folder: Path, clip: Path) -> str:
    """The URL of a store of 20 pairs with one run, 1, on snapshot 1."""
    path = folder / "thumbtune.db"
    shutil.copy(migrated_file, path)
    database = open_database(f"sqlite:///{path}")
    fill(database, 20)
    train_in_use(
        database, TrainSettings(train="projection", model=str(clip), title_model="base", lr=1e-2, device="cpu")
    )
    database.close()
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path, tiny_clip: Path) -> Iterator[Database]:
    database = open_database(trained_store(migrated_file, tmp_path_factory.mktemp("hub"), tiny_clip))
    yield database
    database.close()


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, folder: Path) -> None:
    """Send the hub's library, in this process, to a stand-in, with the stand-in's token."""
    constants = {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    constants["HF_TOKEN_PATH"] = str(folder / "no-login")
    for name, value in constants.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_TOKEN", hub.token)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serving(FakeHub()) as served:
        use_hub(monkeypatch, served, tmp_path)
        yield served
        close_session()


@pytest.mark.slow
def test_a_pushed_model_can_be_loaded(hub: FakeHub, trained: Database, tmp_path: Path) -> None:
    done = push_model(trained, "creator/clip", hub=AT_ONCE)
    assert (done.repo, done.private, done.source_id) == ("creator/clip", True, 1)
    assert done.url == f"{hub.url}/creator/clip"
    there = hub.repository("creator/clip")
    assert there.private
    assert there.commits == ["Upload model 1"]
    assert done.commit == f"{1:040}"
    folder = there.write_to(tmp_path / "received")
    titles = ["red circle 0 UC1", "blue"]
    with quiet_libraries():
        received = SentenceTransformer(str(folder), device="cpu")
        own = load_run_model(trained, 1, device="cpu").title_vectors(titles, lambda _n: None)
    vectors = received.encode(titles, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(vectors, own, atol=1e-6)
    assert 'SentenceTransformer("creator/clip")' in there.files["README.md"].decode()


@pytest.mark.slow
def test_a_private_repository_is_requested(hub: FakeHub, trained: Database) -> None:
    push_model(trained, "creator/clip", hub=AT_ONCE)
    push_model(trained, "creator/open", private=False, hub=AT_ONCE)
    asked = [wanted.get("visibility", wanted.get("private")) for wanted in hub.created]
    assert asked in (["private", "public"], [True, False])
    assert not hub.repository("creator/open").private


@pytest.mark.slow
def test_a_pushed_model_contains_nothing_of_the_machine_or_the_channel(
    hub: FakeHub, trained: Database, tiny_clip: Path
) -> None:
    push_model(trained, "creator/clip", hub=AT_ONCE)
    with trained.read() as session:
        hidden = {row.title for row in load_examples(session, 1)} | {str(tiny_clip), str(tiny_clip.parent), "UC1"}
    for name, content in hub.repository("creator/clip").files.items():
        assert [text for text in hidden if text.encode() in content] == [], name


@pytest.mark.slow
def test_a_second_push_replaces_the_first(hub: FakeHub, trained: Database) -> None:
    push_model(trained, "creator/clip", hub=AT_ONCE)
    there = hub.repository("creator/clip")
    there.files |= {
        "model-00001-of-00002.safetensors": b"old",
        "model.safetensors.index.json": b"{}",
        "LICENSE": b"own",
    }
    done = push_model(trained, "creator/clip", 1, hub=AT_ONCE)
    assert len(hub.created) == 1
    assert len(there.commits) == 2
    assert done.commit == f"{2:040}"
    assert {"model.safetensors", "LICENSE", ".gitattributes"} <= there.files.keys()
    assert not {"model-00001-of-00002.safetensors", "model.safetensors.index.json"} & there.files.keys()


@pytest.mark.slow
def test_a_pushed_dataset_can_be_loaded(hub: FakeHub, trained: Database, tmp_path: Path) -> None:
    done = push_dataset(trained, "pairs", hub=AT_ONCE)
    assert (done.repo, done.private, done.source_id) == ("creator/pairs", True, 1), (
        "a name without an owner belongs to the token's owner"
    )
    assert done.url == f"{hub.url}/datasets/creator/pairs"
    there = hub.repository("creator/pairs", "dataset")
    assert there.private
    folder = there.write_to(tmp_path / "received")
    with quiet_libraries():
        loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    with trained.read() as session:
        rows = load_examples(session, 1)
    assert set(loaded) == {"train", "validation", "test"}
    for split in loaded:
        assert loaded[split]["positive"][:] == [row.title for row in rows if SPLIT_NAMES[row.split] == split]
    assert loaded["train"][0]["anchor"].size == (48, 36)
    card = there.files["README.md"].decode()
    assert 'load_dataset("creator/pairs")' in card
    assert "20 (thumbnail, title) pairs of 1 YouTube channel," in card
    assert "| negative | another video's title |" in card
    assert [row.title for row in rows if row.title in card] == []


@pytest.mark.slow
def test_nothing_is_pushed_to_a_public_repository_by_default(hub: FakeHub, trained: Database) -> None:
    there = hub.repositories["dataset", "creator/pairs"] = Repository("dataset", private=False)
    with pytest.raises(PublicRepository, match=r"creator/pairs exists and is public"):
        push_dataset(trained, "creator/pairs", hub=AT_ONCE)
    assert (there.files, there.commits) == ({}, [])
    assert hub.asked == ["GET whoami", "GET info"], "checked before anything is written"
    assert not push_dataset(trained, "creator/pairs", private=False, hub=AT_ONCE).private
    assert len(there.commits) == 1


class Watched:
    """Progress that calls a function when a phase begins."""

    def __init__(self, begin: str, do: Callable[[], None]) -> None:
        self.begin, self.do = begin, do

    def phase(self, description: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        if description.startswith(self.begin):
            self.do()
        return nullcontext(lambda _n: None)

    def warn(self, text: str) -> None:
        raise AssertionError(text)


@pytest.mark.slow
def test_nothing_is_pushed_to_a_repository_that_became_public(hub: FakeHub, trained: Database) -> None:
    there = hub.repositories["dataset", "creator/pairs"] = Repository("dataset", private=True)
    opening = Watched("Uploading", lambda: setattr(there, "private", False))
    with pytest.raises(PublicRepository):
        push_dataset(trained, "creator/pairs", hub=AT_ONCE, progress=opening)
    assert there.commits == []


@pytest.mark.slow
def test_a_private_repository_stays_private(hub: FakeHub, trained: Database) -> None:
    hub.repositories["dataset", "creator/pairs"] = Repository("dataset", private=True)
    assert push_dataset(trained, "creator/pairs", private=False, hub=AT_ONCE).private


@pytest.mark.slow
def test_a_missing_token_is_an_error(hub: FakeHub, trained: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NoToken, match=r"no access token .*; run 'hf auth login', or set HF_TOKEN"):
        push_model(trained, "creator/clip", hub=AT_ONCE)
    assert hub.asked == []


@pytest.mark.slow
def test_the_token_of_a_login_is_found(hub: FakeHub, trained: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    from huggingface_hub import constants  # noqa: PLC0415

    Path(constants.HF_TOKEN_PATH).write_text(hub.token, encoding="utf-8")
    assert push_dataset(trained, "creator/pairs", hub=AT_ONCE).commit


@pytest.mark.slow
@pytest.mark.parametrize("token", ["hf_wrong", "hf_pass word", "hf_ünlike"])
def test_a_refused_token_is_an_error(
    hub: FakeHub, trained: Database, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(TokenRefused, match="token") as caught:
        push_model(trained, "creator/clip", hub=AT_ONCE)
    assert token not in str(caught.value)
    assert len(hub.asked) <= 1, "a retry would not help"


@pytest.mark.slow
def test_a_read_only_token_is_an_error(hub: FakeHub, trained: Database) -> None:
    hub.role = "read"
    with pytest.raises(TokenRefused, match="write access"):
        push_model(trained, "creator/clip", hub=AT_ONCE)
    assert hub.asked == ["GET whoami"]


@pytest.mark.slow
def test_a_repository_of_another_owner_is_an_error(hub: FakeHub, trained: Database) -> None:
    with pytest.raises(TokenRefused, match=r"no permission to write to other/clip \(.*under the namespace other"):
        push_model(trained, "other/clip", hub=AT_ONCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "a/b/c", "a b", "-a", "a--b", "owner/", "ünlike", "x" * 200])
def test_invalid_repository_names_are_refused(hub: FakeHub, trained: Database, name: str) -> None:
    with pytest.raises(BadRepository, match="is not a valid repository name"):
        push_model(trained, name, hub=AT_ONCE)
    assert hub.asked == []


@pytest.mark.slow
def test_offline_mode_is_an_error(hub: FakeHub, trained: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE is set"):
        push_model(trained, "creator/clip", hub=AT_ONCE)


@pytest.mark.slow
def test_an_unreachable_hub_is_an_error(hub: FakeHub, trained: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"can't be reached at http://127.0.0.1:9; check the network"):
        push_model(trained, "creator/clip", hub=AT_ONCE)


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_an_error(
    hub: FakeHub, trained: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(HubUnreachable, match="can't be reached"):
            push_model(trained, "creator/clip", hub=Hub(ask_s=0.1, pauses_s=(0.0,)))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["whoami", "info", "create", "commit"])
@pytest.mark.parametrize("status", [0, 429, 503])
def test_temporary_errors_are_retried(hub: FakeHub, trained: Database, step: str, status: int) -> None:
    hub.answers[step] = [status, status]
    assert push_dataset(trained, "creator/pairs", hub=AT_ONCE).commit
    assert hub.answers[step] == []
    assert len(hub.repository("creator/pairs", "dataset").commits) == 1


@pytest.mark.slow
def test_retries_are_limited(hub: FakeHub, trained: Database, caplog: pytest.LogCaptureFixture) -> None:
    hub.answers["commit"] = [500] * 9
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "trainer")
    with pytest.raises(PushFailed, match="upload to creator/pairs failed with status 500") as caught:
        push_dataset(trained, "creator/pairs", hub=AT_ONCE)
    assert len(hub.answers["commit"]) == 6
    assert "planned, to Bearer ***" in str(caught.value), "the token is removed from the hub's message"
    assert hub.token not in str(caught.value) + caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "status", "error", "message"),
    [
        ("preupload", 403, TokenRefused, "no permission to write to creator/pairs"),
        ("blob", 403, TokenRefused, "no permission to write to creator/pairs"),
        ("batch", 401, TokenRefused, "rejected the token"),
        ("commit", 413, PushFailed, r"status 413"),
        ("whoami", 200, PushFailed, r"owner of the token failed \('name'\)"),
    ],
)
def test_unexpected_responses_are_errors(
    hub: FakeHub, trained: Database, step: str, status: int, error: type[PushFailed], message: str
) -> None:
    hub.answers[step] = [status] * 3
    with pytest.raises(error, match=message) as caught:
        push_dataset(trained, "creator/pairs", hub=AT_ONCE)
    assert "\n" not in str(caught.value)
    assert hub.token not in str(caught.value)
    repository = hub.repositories.get(("dataset", "creator/pairs"))
    assert repository is None or repository.commits == []


@pytest.mark.slow
def test_pushes_that_are_refused(hub: FakeHub, trained: Database, sqlite_database: Database) -> None:
    with pytest.raises(NotFound, match="there is no run 7"):
        push_model(trained, "clip", 7, hub=AT_ONCE)
    with pytest.raises(NotFound, match="there is no run 7"):
        push_dataset(trained, "pairs", 7, hub=AT_ONCE)
    with pytest.raises(RunUnusable):
        push_model(sqlite_database, "clip", hub=AT_ONCE)
    with pytest.raises(NotEnoughPairs):
        push_dataset(sqlite_database, "pairs", hub=AT_ONCE)
    assert hub.created == [], "no empty repository is left"


@pytest.mark.slow
def test_no_temporary_files_are_left(
    hub: FakeHub, trained: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    push_dataset(trained, "pairs", hub=AT_ONCE)
    hub.answers["commit"] = [413]
    with pytest.raises(PushFailed):
        push_dataset(trained, "others", hub=AT_ONCE)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
def test_the_stand_in_hub_validates_requests(hub: FakeHub) -> None:
    """Metadata that the hub would refuse is refused by the stand-in too."""
    from huggingface_hub import HfApi  # noqa: PLC0415

    api: Any = HfApi(token=hub.token)
    with pytest.raises(ValueError, match="Invalid metadata"):
        api._validate_yaml("---\n[unclosed\n---\n", repo_type="model", token=hub.token)
