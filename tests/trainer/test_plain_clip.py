"""CLIP and BERT without the model libraries: equal vectors, used only after a comparison, and no heavy imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from store.db import Database
from tests import forked
from tests.trainer.tiny import fill, load_encoder
from thumbtune.demo.session import ENCODER
from trainer.data import StoredPictures
from trainer.models import Features, TitleModel, open_model
from trainer.models.loading import load_model
from trainer.models.plain_bert import PlainBert
from trainer.models.plain_clip import PlainClip
from trainer.models.reader import _place
from trainer.models.towers import Towers
from trainer.quiet import quiet_libraries
from trainer.settings import DEFAULT_TEXT_MODEL, READER

PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
TITLES = ["red circle 3", "A fox, 3 Füchse & 狐's  DEN", "https://example.com/a.png", "", "many words " * 60]


def towers(folder: Path) -> Towers:
    with quiet_libraries():
        return Towers(load_encoder(str(folder), "cpu").model, "cpu")


def as_first_published(clip: Path, folder: Path) -> Path:
    """A copy whose preprocessing is written as in OpenAI's first CLIPs, with one number for each size."""
    shutil.copytree(clip, folder)
    (written,) = (folder / name for name in PREPROCESSING if (folder / name).is_file())
    about = json.loads(written.read_text())
    about = about.get("image_processor", about)
    written.unlink()
    old = {name: about[name] for name in ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std")}
    old |= {"resample": 3, "size": about["size"]["shortest_edge"], "crop_size": about["crop_size"]["height"]}
    old["feature_extractor_type"] = "CLIPFeatureExtractor"
    (folder / PREPROCESSING[0]).write_text(json.dumps(old))
    return folder


@pytest.mark.parametrize("which", ["tiny", "demo", "old"])
def test_vectors_equal_those_of_the_libraries(tiny_clip: Path, tmp_path: Path, which: str) -> None:
    if which == "old":
        folder = as_first_published(tiny_clip, tmp_path / "old")
    else:
        folder = tiny_clip if which == "tiny" else ENCODER
    plain, library = PlainClip.at(folder), towers(folder)
    assert plain is not None
    assert plain.agrees(library)
    images = [Image.effect_noise(size, 80).convert("RGB") for size in ((480, 360), (37, 500), (1280, 720), (96, 96))]
    seen = np.concatenate([library.pooled_pictures(library.prepared_pictures([image])) for image in images])
    np.testing.assert_allclose(plain.pictures(images), seen, atol=1e-4)
    said = np.concatenate([library.pooled_titles(library.prepared_titles([title])) for title in TITLES])
    np.testing.assert_allclose(plain.titles(TITLES), said, atol=1e-4)


def test_another_model_does_not_agree(tiny_clip: Path, tmp_path: Path) -> None:
    library = towers(tiny_clip)
    for name, key, value in (
        ("config.json", "vision_config", {"hidden_act": "gelu"}),
        ("config.json", "text_config", {"num_attention_heads": 4}),
        ("config.json", "text_config", {"hidden_act": "relu"}),
        ("tokenizer_config.json", "model_max_length", 7),
    ):
        folder = Path(shutil.copytree(tiny_clip, tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"))
        about = json.loads((folder / name).read_text())
        about[key] = {**about[key], **value} if isinstance(value, dict) else value
        (folder / name).write_text(json.dumps(about))
        plain = PlainClip.at(folder)
        assert plain is not None
        assert not plain.agrees(library)
    assert PlainClip.at(tmp_path) is None


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_few_inputs_are_encoded_without_the_model_libraries(
    sqlite_database: Database, tiny_clip: Path, fit: str
) -> None:
    fill(sqlite_database, 6)
    with sqlite_database.read() as session:
        from store.training import current_pairs  # noqa: PLC0415

        digests = [pair.picture_sha256 for pair in current_pairs(session)]
    source, options = StoredPictures(sqlite_database), {"crop_mode": fit}

    def features(model_fit: str) -> Features:
        model = open_model(sqlite_database, str(tiny_clip), "cpu", **options)  # type: ignore[arg-type]
        return Features(sqlite_database, model, "fp32", model_fit)  # type: ignore[arg-type]

    with quiet_libraries():
        slow = features(fit)
        assert slow.model.encoder() is not None
        expected = slow.pictures(digests, source, lambda _n: None, keep=False)
    with sqlite_database.write() as session:
        from sqlalchemy import delete  # noqa: PLC0415

        from store.tables import Feature  # noqa: PLC0415

        session.execute(delete(Feature))
    quick = features(fit)
    np.testing.assert_allclose(quick.pictures(digests, source, lambda _n: None, keep=False), expected, atol=1e-4)
    quick.titles(["red circle"], lambda _n: None, keep=False)
    assert not quick.model.is_loaded


QUERY = """
import sys
from store.db import open_database
from trainer.library import load_library, search, searchable, text_vector
from trainer.runs import open_in_use
database = open_database(sys.argv[1])
used = open_in_use(database, sys.argv[2], "cpu")
found = search(load_library(database, used.embedder, searchable(database)), text_vector(used.embedder, "red"), 3)
assert len(found) == 3
heavy = {"sentence_transformers", "transformers", "scipy", "pandas", "sklearn"} & sys.modules.keys()
print(sorted(heavy))
"""


def linked(model: Path, folder: Path, name: str, values: dict[str, object]) -> Path:
    """A copy of a model by links, with changed values in one of its JSON files."""
    shutil.copytree(model, folder, copy_function=os.symlink)
    about = json.loads((folder / name).read_text())
    (folder / name).unlink()
    (folder / name).write_text(json.dumps({**about, **values}))
    return folder


@pytest.mark.slow
def test_vectors_of_a_sentence_model_equal_those_of_the_libraries(sqlite_database: Database, tmp_path: Path) -> None:
    model, texts = _place(DEFAULT_TEXT_MODEL), [*TITLES, "many words " * 300, "ﬁne\u0130 \x00"]
    slow = TitleModel(sqlite_database, model, "cpu")
    assert slow.width == 384
    expected = slow.vectors(texts, lambda _n: None)
    counted: list[int] = []
    quick = TitleModel(sqlite_database, model, "cpu")
    np.testing.assert_allclose(quick.vectors(texts, counted.append, keep=False), expected, atol=1e-5)
    assert (sum(counted), quick.is_loaded) == (len(texts), False)

    library = load_model(model, "cpu", option="--text-model", text_only=True)
    changes: tuple[tuple[str, dict[str, object]], ...] = (
        ("config.json", {"num_attention_heads": 6}),
        ("config.json", {"num_hidden_layers": 5}),
        ("config.json", {"layer_norm_eps": None}),
        ("sentence_bert_config.json", {"max_seq_length": 128}),
    )
    for number, (name, values) in enumerate(changes):
        other = PlainBert.at(linked(Path(model), tmp_path / str(number), name, values))
        assert other is not None
        assert not other.agrees(library)
    assert PlainBert.at(tmp_path) is None
    assert PlainBert.at(linked(Path(model), tmp_path / "other", "config.json", {"hidden_act": "relu"})) is None


@pytest.mark.processes
@pytest.mark.parametrize("name", ["clip", READER])
def test_a_second_search_imports_no_model_library(migrated_sqlite_url: str, tiny_clip: Path, name: str) -> None:
    from store.db import open_database  # noqa: PLC0415

    model = name if name == READER else str(tiny_clip)

    with open_database(migrated_sqlite_url) as database:
        fill(database, 6)
    command = [*forked.CODE, QUERY, migrated_sqlite_url, model]
    # The first search loads the model with the libraries, which this process has imported already.
    forked.run(command, capture_output=True, check=True)
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "[]\n"
