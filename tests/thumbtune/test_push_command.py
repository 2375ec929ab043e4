"""`thumbtune push` as users and scripts run it, against a stand-in hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from store.db import open_database
from tests.fakes.hub import FakeHub, Repository, serving
from tests.thumbtune.asking import Done, Run, make_clip, run_here
from tests.trainer.test_hub import trained_store, use_hub
from trainer.runs import promote_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> str:
    """The URL of a store of 20 pairs with one run, 1, on snapshot 1."""
    folder = tmp_path_factory.mktemp("push")
    url = trained_store(migrated_file, folder, make_clip(folder))
    with open_database(url) as database:
        promote_run(database, 1, "a test")
    return url


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serving(FakeHub()) as served:
        use_hub(monkeypatch, served, tmp_path)
        yield served
        close_session()


@pytest.fixture
def push(hub: FakeHub, store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process, which has torch."""
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> Done:
        done = run_here(capfd, "--db", store, "push", *arguments)
        assert hub.token not in done.stdout + done.stderr
        return done

    return run


@pytest.mark.slow
def test_a_model_is_pushed(push: Run, hub: FakeHub) -> None:
    done = push("model", "clip")
    assert (done.returncode, done.stdout) == (0, f"run 1's model: {hub.url}/creator/clip (private)\n")
    assert done.stderr.splitlines() == ["Checking the hub ...", "Uploading to creator/clip ..."]
    assert hub.repository("creator/clip").private


@pytest.mark.slow
def test_a_dataset_is_pushed(push: Run, hub: FakeHub) -> None:
    done = push("dataset", "creator/pairs", "--run", "1", "--json")
    assert json.loads(done.stdout) == {
        "what": "dataset",
        "repo": "creator/pairs",
        "url": f"{hub.url}/datasets/creator/pairs",
        "private": True,
        "commit": f"{1:040}",
        "source_id": 1,
    }
    said = "that belong to their creators; only people with access can read it"
    assert done.stderr.splitlines()[0].endswith(said)
    assert done.stderr.splitlines()[-1] == f"snapshot 1: {hub.url}/datasets/creator/pairs (private)"


@pytest.mark.slow
def test_public_creates_a_public_repository_and_reports_it(push: Run, hub: FakeHub) -> None:
    done = push("dataset", "pairs", "--public")
    assert done.stdout.endswith("/creator/pairs (public)\n")
    assert "everyone can read it" in done.stderr.splitlines()[0]
    assert not hub.repository("creator/pairs", "dataset").private


@pytest.mark.slow
def test_a_private_repository_stays_private(push: Run, hub: FakeHub) -> None:
    hub.repositories["model", "creator/clip"] = Repository("model", private=True)
    done = push("model", "clip", "--public")
    assert done.stdout.endswith("/creator/clip (private)\n")
    assert done.stderr.splitlines()[-1].startswith("the repository was private")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("clip",), 2, "error: No such command 'clip'."),
        (("clip", "--model", "--dataset"), 2, "error: No such command 'clip'."),
        (("model",), 2, "error: Missing argument 'REPO'."),
        (("model", "a/b/c"), 2, "error: 'a/b/c' is not a valid repository name"),
        (("model", "clip", "--run", "9"), 1, "error: there is no run 9; 'thumbtune runs' lists them"),
        (("dataset", "open"), 1, "error: creator/open exists and is public"),
        (
            ("model", "other/clip"),
            1,
            "error: the hub's token has no permission to write to other/clip (You don't have the rights",
        ),
    ],
)
def test_errors_are_one_line(push: Run, hub: FakeHub, arguments: tuple[str, ...], code: int, message: str) -> None:
    hub.repositories["dataset", "creator/open"] = Repository("dataset", private=False)
    done = push(*arguments)
    assert done.stderr.splitlines()[-1].startswith(message)
    assert (done.returncode, done.stdout) == (code, "")


def test_a_missing_token_is_an_error(push: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = push("model", "clip")
    assert done.stderr.splitlines()[-1].startswith("error: there is no access token")
    assert (done.returncode, hub.asked) == (1, [])


def alone(store: str, hub: FakeHub, home: Path, *arguments: str) -> Done:
    """Run the command in its own process, which gets hub and token from its environment."""
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    unset = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-m", "thumbtune", "--db", store, *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**unset, **own, "OMP_NUM_THREADS": "1"}
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.processes
def test_a_separate_process_prints_nothing_else(hub: FakeHub, store: str, tmp_path: Path) -> None:
    done = alone(store, hub, tmp_path, "-q", "push", "model", "clip", "--json")
    assert json.loads(done.stdout)["repo"] == "creator/clip"
    assert (done.returncode, done.stderr) == (0, "")
    assert "model.safetensors" in hub.repository("creator/clip").files


@pytest.mark.processes
def test_debug_output_does_not_contain_the_token(hub: FakeHub, store: str, tmp_path: Path) -> None:
    hub.answers["whoami"] = [403]
    done = alone(store, hub, tmp_path, "--debug", "push", "model", "clip")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "TokenRefused" in done.stderr
    assert hub.token not in done.stdout + done.stderr
