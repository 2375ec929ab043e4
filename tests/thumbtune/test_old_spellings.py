"""Every replaced spelling of a command works like the new spelling until 1.0, with a line on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import close_session

from store.db import open_database
from tests.fakes.hub import FakeHub, serving
from tests.thumbtune.asking import Run, make_clip, runner
from tests.trainer.test_hub import trained_store, use_hub
from thumbtune.cli import cli
from trainer.runs import promote_run

# The values of OUT differ between the two spellings.
OLD_AND_NEW = [
    ("export OUT", "export dataset OUT"),
    ("export dataset", "export dataset dataset"),
    ("export --run 1 OUT", "export dataset --run 1 OUT"),
    ("export OUT --snapshot 1 --parquet", "export dataset OUT --snapshot 1 --parquet"),
    ("export --model OUT", "export model OUT"),
    ("export model --model", "export model model"),
    ("export --run 1 --model -- -OUT", "export model --run 1 -- -OUT"),
    ("push clip --model", "push model clip"),
    ("push --model clip --run 1", "push model clip --run 1"),
    ("push creator/pairs --dataset --public", "push dataset creator/pairs --public"),
    ("push model --model", "push model model"),
    ("search red --run 1", "search red --model 1"),
    ("search red --run=1:base", "search red --model=1:base"),
    ("search --run CLIP --like UC1-001", "search --model CLIP --like UC1-001"),
    ("match UC1-001 Cats --run 1", "match UC1-001 Cats --model 1"),
    ("evaluate 1", "evaluate --model 1"),
    ("evaluate --device cpu CLIP", "evaluate --device cpu --model CLIP"),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path, clip: Path) -> str:
    """The URL of a store of 20 pairs with one run, 1, on snapshot 1, which is the champion."""
    url = trained_store(migrated_file, tmp_path_factory.mktemp("store"), clip)
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
def thumbtune(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(store, monkeypatch, capfd)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), OLD_AND_NEW)
def test_an_old_spelling_works_like_the_new_one(
    old: str, new: str, thumbtune: Run, hub: FakeHub, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = []
    for place, spelling in (("old", old), ("new", new)):
        folder = tmp_path / place
        folder.mkdir()
        monkeypatch.chdir(folder)
        if spelling.startswith("push"):
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        hub.repositories.clear()
        words = spelling.replace("CLIP", str(clip)).split()
        done = thumbtune(words[0], "--json", *words[1:]) if place == "old" else thumbtune(*_json_last(words))
        found = done.document()
        notes = [line for line in done.stderr.splitlines() if line.startswith("note: '")]
        assert len(notes) == (place == "old"), done.stderr
        documents.append({name: value for name, value in found.items() if name != "commit"})
        documents[-1]["files"] = sorted(path.name for path in folder.iterdir())
    assert documents[0] == documents[1]


def _json_last(words: list[str]) -> list[str]:
    """`--json` belongs to the command after a group's name, and before `--`."""
    after = 2 if words[0] in ("export", "push") else 1
    return [*words[:after], "--json", *words[after:]]


@pytest.mark.parametrize(
    "arguments", [("search", "red", "--run", "1", "--model", "1"), ("evaluate", "--model", "1", "1")]
)
def test_naming_a_model_twice_is_an_error(thumbtune: Run, arguments: tuple[str, ...]) -> None:
    done = thumbtune(*arguments)
    assert done.returncode == 2
    assert "--model" in done.error()


def test_export_model_without_a_folder_is_not_a_dataset_named_model(thumbtune: Run, tmp_path: Path) -> None:
    done = thumbtune("export", "model")
    assert (done.returncode, "DIR" in done.error()) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_quiet_hides_the_note_about_old_spellings(thumbtune: Run) -> None:
    done = thumbtune("-q", "export", "OUT", "--json")
    assert json.loads(done.stdout)["snapshot_id"] == 1
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["export", "push", "search", "match", "evaluate", "retrain"])
def test_help_shows_the_new_spelling_only(command: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"]).output
    assert "--run" not in shown
    assert "CHANNEL]" not in shown
    assert "Usage:" in shown
