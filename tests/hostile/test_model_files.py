"""Untrusted models run no code, read no file outside of their folder, and request nothing else from the hub."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Dense

from tests.fakes.hub import FakeHub, Repository, serving
from tests.hostile.model_folders import HOSTILE, edit, edit_module, install_evil
from tests.thumbtune.asking import make_clip
from trainer.errors import DamagedModel, NoNetwork
from trainer.models.encoder import load_clip
from trainer.models.known_files import files_digest


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "model"
    model = load_clip(str(make_clip(folder.parent)), "cpu")
    model.append(Dense(16, 16))
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "model")


@pytest.fixture(scope="module")
def served() -> Iterator[FakeHub]:
    with serving(FakeHub()) as hub:
        yield hub


@pytest.fixture
def hub(served: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    files = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    own = {"ENDPOINT": served.url, "HUGGINGFACE_CO_URL_TEMPLATE": files, "HF_HUB_OFFLINE": False}
    for name, value in {**own, "HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_TOKEN", served.token)
    served.asked.clear()
    served.repositories.clear()
    return served


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The file that the hostile code creates."""
    mark = tmp_path / "ran"
    (tmp_path / "site").mkdir()
    install_evil(tmp_path / "site", mark)
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield mark
    sys.modules.pop("evil_module", None)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_refused(folder: Path, hub: FakeHub, ran: Path, kind: str) -> None:
    HOSTILE[kind](folder)
    with pytest.raises(DamagedModel) as caught:
        load_clip(str(folder), "cpu")
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    assert hub.asked == []


def test_models_with_other_valid_contents_are_loaded(folder: Path) -> None:
    """Unused pickles, sharded weights, links inside the folder, old file names, unused remote code."""
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file, {"format": "pt"})
    weights = {key: file for file, keys in parts.items() for key in keys}
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map=weights)
    (folder / "model.safetensors").unlink()
    shutil.move(folder / "tokenizer.json", folder / "1_Dense" / "tokenizer.json")
    (folder / "tokenizer.json").symlink_to("1_Dense/tokenizer.json")
    edit_module(folder, 1, type="sentence_transformers.models.Dense")
    edit(folder / "config.json", auto_map={"AutoModel": "evil/repository--evil.Model"})
    edit(
        folder / "sentence_bert_config.json", model_args={"attn_implementation": "eager"}, tokenizer_args={"a": "</s>"}
    )
    loaded = load_clip(str(folder), "cpu").state_dict()
    for name, tensor in tensors.items():
        assert all(torch.equal(value, tensor) for key, value in loaded.items() if key.endswith(f".model.{name}"))


def publish(hub: FakeHub, folder: Path) -> str:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.repositories["model", "creator/model"] = Repository("model", private=False, files=files)
    return "creator/model"


def test_a_hub_model_is_downloaded_without_pickles_and_found_offline(
    folder: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    name = publish(hub, folder)
    online = load_clip(name, "cpu").state_dict()
    assert "GET model.safetensors" in hub.asked
    assert not any(asked.endswith(".bin") for asked in hub.asked)
    assert files_digest(name) is not None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = load_clip(name, "cpu").state_dict()
    assert all(torch.equal(online[key], offline[key]) for key in online)
    with pytest.raises(NoNetwork):
        load_clip("creator/other", "cpu")


@pytest.mark.parametrize("kind", ["pickle beside a decoy", "adapter"])
def test_a_hub_model_is_checked_too(folder: Path, hub: FakeHub, ran: Path, kind: str) -> None:
    HOSTILE[kind](folder)
    with pytest.raises(DamagedModel, match="^creator/model "):
        load_clip(publish(hub, folder), "cpu")
    assert not ran.exists()
    assert not any("evil" in asked or asked.endswith(".bin") for asked in hub.asked)
