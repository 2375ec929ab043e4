"""Models identified by their files: loaded only to encode, or if the stored facts belong to other files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save
from sentence_transformers import SentenceTransformer
from sqlalchemy import func, select, update
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from store.db import Database
from store.tables import KnownModel
from store.training import ModelFacts, read_known_model, write_known_model
from tests.trainer.oracle import NAMES
from tests.trainer.tiny import build_clip, load_encoder
from trainer.errors import DamagedModel, NoNetwork
from trainer.models import TEXT, VISUAL, Facts, LazyModel, TitleModel
from trainer.models.fingerprints import fingerprints
from trainer.models.known_files import files_digest


def lazy(database: Database, folder: Path, **other: Any) -> LazyModel:
    return LazyModel(database, str(folder), "cpu", **other)


def loads(database: Database, folder: Path) -> bool:
    """Whether the facts need the model to be loaded."""
    model = lazy(database, folder)
    assert model.facts.parameters
    return model.is_loaded


def known_rows(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(KnownModel)) or 0


@pytest.fixture
def clip(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of the tiny CLIP that a test may change."""
    return Path(shutil.copytree(tiny_clip, tmp_path / "clip"))


def test_facts_equal_those_of_the_model_and_are_stored(database: Database, clip: Path) -> None:
    first = lazy(database, clip)
    found = first.facts
    model = load_encoder(str(clip), "cpu").model
    expected = fingerprints(model)
    assert (found.fingerprint, found.vision, found.text) == (expected.whole, expected.vision, expected.text)
    assert found.parameters == tuple((name, weight.numel()) for name, weight in model.named_parameters())
    assert found.projections is not None
    weights = model.state_dict()
    assert torch.equal(found.projections.visual, weights[VISUAL])
    assert torch.equal(found.projections.text, weights[TEXT])
    again = lazy(database, clip)
    assert again.facts.parameters == found.parameters
    assert again.facts.projections is not None
    assert torch.equal(again.facts.projections.text, found.projections.text)
    assert again.is_loaded is False
    assert again.encoder().fingerprint == found.fingerprint
    assert again.encoder() is again.encoder()


def rewrite(folder: Path) -> None:
    build_clip(folder, seed=5)


def touch(folder: Path) -> None:
    os.utime(folder / "model.safetensors", ns=(1, 1))


def replace_by_its_copy(folder: Path) -> None:
    shutil.copy2(folder / "config.json", folder / "copy")
    (folder / "copy").replace(folder / "config.json")


def add_a_file(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").touch()


@pytest.mark.parametrize("change", [rewrite, touch, replace_by_its_copy, add_a_file])
def test_changed_files_are_loaded_again(sqlite_database: Database, clip: Path, change: Callable[[Path], None]) -> None:
    assert loads(sqlite_database, clip)
    assert not loads(sqlite_database, clip)
    before, digest = lazy(sqlite_database, clip).facts, files_digest(str(clip))
    change(clip)
    assert files_digest(str(clip)) != digest
    assert loads(sqlite_database, clip)
    assert not loads(sqlite_database, clip)
    assert (lazy(sqlite_database, clip).facts.fingerprint != before.fingerprint) == (change is rewrite)


def test_another_library_version_loads_the_model_again(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = files_digest(str(clip))
    assert digest == files_digest(str(clip))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1" if name == "transformers" else "1")
    assert files_digest(str(clip)) != digest


FOREIGN: list[dict[str, object]] = [
    {"projections": b"not the projections"},
    {"projections": None},
    {"checksum": 1},
    {"facts": {}},
    {"facts": []},
    {"facts": {"vision": "a" * 64, "text": "b" * 64, "parameters": [["w", 1]]}},
    {"fingerprint": "c" * 64},
]


@pytest.mark.parametrize("damage", FOREIGN, ids=lambda damage: "-".join(damage) + str(len(str(damage))))
def test_a_damaged_row_is_replaced(database: Database, clip: Path, damage: dict[str, object]) -> None:
    expected = lazy(database, clip).facts
    with database.write() as session:
        session.execute(update(KnownModel).values(damage))
    model = lazy(database, clip)
    assert model.facts.fingerprint == expected.fingerprint
    assert model.facts.vision == expected.vision
    assert model.facts.projections is not None
    assert model.is_loaded
    assert not loads(database, clip)


def test_invalid_json_is_replaced(sqlite_database: Database, clip: Path) -> None:
    assert loads(sqlite_database, clip)
    with sqlite3.connect(str(sqlite_database.path)) as raw:
        raw.execute("UPDATE known_model SET facts = 'not json'")
    raw.close()
    assert loads(sqlite_database, clip)
    assert not loads(sqlite_database, clip)


@pytest.mark.parametrize(
    "found",
    [
        ModelFacts("a" * 64, {"parameters": [["w", "many"]], "vision": "v", "text": "t"}, None),
        ModelFacts("a" * 64, {"parameters": [["w", 1, 2]], "vision": "v", "text": "t"}, None),
        ModelFacts("a" * 64, {"parameters": [["w", 1]], "vision": "v", "text": "t"}, b"no safetensors"),
        ModelFacts("a" * 64, {"parameters": [["w", 1]], "vision": "v", "text": "t"}, save({"x": torch.zeros(1)})),
        ModelFacts("a" * 64, {"width": 384}, None),
    ],
)
def test_a_row_of_another_kind_is_replaced(sqlite_database: Database, clip: Path, found: ModelFacts) -> None:
    files = files_digest(str(clip))
    assert files is not None
    with sqlite_database.write() as session:
        write_known_model(session, files, found)
    assert Facts.read(found) is None
    assert loads(sqlite_database, clip)
    assert not loads(sqlite_database, clip)


def test_files_that_change_before_the_towers_are_loaded_are_an_error(sqlite_database: Database, clip: Path) -> None:
    old = lazy(sqlite_database, clip)
    assert old.facts
    late = lazy(sqlite_database, clip)
    assert late.facts.fingerprint == old.facts.fingerprint
    rewrite(clip)
    with pytest.raises(DamagedModel, match=r"has changed since it was last loaded"):
        late.encoder()
    assert lazy(sqlite_database, clip).encoder().fingerprint != old.facts.fingerprint


def test_wrong_facts_about_unchanged_files_are_corrected(sqlite_database: Database, clip: Path) -> None:
    """A file may change within the clock's resolution. The run that loads the model then notices it."""
    right = lazy(sqlite_database, clip).facts
    files = files_digest(str(clip))
    assert files is not None
    with sqlite_database.write() as session:
        stored = read_known_model(session, files)
        assert stored is not None
        write_known_model(session, files, ModelFacts("d" * 64, stored.facts, stored.projections))
    assert not loads(sqlite_database, clip)
    with pytest.raises(DamagedModel):
        lazy(sqlite_database, clip).encoder()
    assert lazy(sqlite_database, clip).encoder().fingerprint == right.fingerprint


def test_a_changed_model_has_another_fingerprint(sqlite_database: Database, clip: Path) -> None:
    def shift(by: float) -> Callable[[SentenceTransformer], None]:
        def change(model: SentenceTransformer) -> None:
            core: Any = model[0].model
            core.visual_projection.weight.data += by

        return change

    plain = lazy(sqlite_database, clip)
    one, two = (lazy(sqlite_database, clip, changed=(name, shift(by))) for name, by in (("one", 0.5), ("two", 1.0)))
    projections = [model.facts.projections for model in (plain, one, two)]
    # One more row says whether the plain model gave the same vectors as the libraries.
    assert known_rows(sqlite_database) == 4
    assert projections[0] is not None
    assert projections[1] is not None
    assert projections[2] is not None
    assert torch.allclose(projections[1].visual, projections[0].visual + 0.5)
    assert torch.allclose(projections[2].visual, projections[0].visual + 1.0)
    again = lazy(sqlite_database, clip, changed=("one", shift(0.5)))
    assert again.facts.fingerprint == one.facts.fingerprint != plain.facts.fingerprint
    assert not again.is_loaded
    assert again.encoder().fingerprint == one.facts.fingerprint


def test_an_uncached_hub_name_has_no_digest(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("clip-ViT-B-32", "someone/some-clip", "not a/name at all/"):
        assert files_digest(name) is None
    with pytest.raises(NoNetwork):
        assert LazyModel(sqlite_database, "someone/some-clip", "cpu").facts
    assert known_rows(sqlite_database) == 0


def test_a_file_removed_meanwhile_gives_no_digest(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy replaces the folder between its listing and the reading of the files' states."""
    real = Path.is_file

    def is_file_until_now(path: Path) -> bool:
        found = real(path)
        if path.name == "config.json":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", is_file_until_now)
    assert files_digest(str(clip)) is None


def test_the_image_processor_affects_only_the_fingerprint_of_the_vision_tower(tiny_clip: Path) -> None:
    """Torchvision resizes to other pixels than Pillow; the model is the same."""

    class Other(CLIPImageProcessorPil):
        pass

    model = load_encoder(str(tiny_clip), "cpu").model
    before, module = fingerprints(model), cast(Any, model[0])
    module.processor.image_processor = Other(**module.processor.image_processor.to_dict())
    after = fingerprints(model)
    assert (after.whole, after.text) == (before.whole, before.text)
    assert after.vision != before.vision


def test_a_title_model_and_a_clip_model_of_one_folder_have_separate_rows(database: Database, clip: Path) -> None:
    assert loads(database, clip)
    first = TitleModel(database, str(clip), "cpu")
    assert (first.fingerprint, first.width) == (lazy(database, clip).facts.fingerprint, 16)
    assert not loads(database, clip), "each has its own row"
    again = TitleModel(database, str(clip), "cpu")
    assert (again.fingerprint, again.width) == (first.fingerprint, 16)
    vectors = again.vectors(NAMES, lambda _n: None)
    assert np.array_equal(vectors, load_encoder(str(clip), "cpu").title_vectors(NAMES, lambda _n: None))


def test_a_title_model_that_changes_before_it_is_loaded_is_an_error(sqlite_database: Database, clip: Path) -> None:
    assert TitleModel(sqlite_database, str(clip), "cpu").width
    model = TitleModel(sqlite_database, str(clip), "cpu")
    assert model.fingerprint
    rewrite(clip)
    with pytest.raises(DamagedModel, match="run the command again"):
        model.vectors(NAMES, lambda _n: None)
    assert TitleModel(sqlite_database, str(clip), "cpu").vectors(NAMES, lambda _n: None).shape == (20, 16)


def test_facts_are_plain_json(sqlite_database: Database, clip: Path) -> None:
    stored = lazy(sqlite_database, clip).facts.stored()
    assert json.loads(json.dumps(stored.facts)) == stored.facts
