"""Every family of base models: encoding, training, export, and rejection of invalid models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router
from sqlalchemy import func, select
from transformers import AutoModel, AutoProcessor

from store.db import Database
from store.tables import Feature
from tests.store.builders import add_video
from tests.trainer.families import (
    FAMILIES,
    blip,
    clip,
    open_clips_vocabulary,
    qwen3_vl,
    real_vocabulary_clip,
    text_student,
)
from tests.trainer.oracle import NAMES, Drawn
from tests.trainer.test_learners import is_what_was_scored
from tests.trainer.tiny import COLOURS, draw, fill, load_encoder
from tests.trainer.training import artifact, settings
from trainer.errors import DamagedModel, NotAClip
from trainer.library import (
    Versions,
    ideas_in,
    load_library,
    match_prepared,
    open_picture,
    picture_vector,
    prepare,
    search,
    searchable,
    text_vector,
)
from trainer.models import TEXT, VISUAL, Features, LazyModel
from trainer.quiet import quiet_libraries
from trainer.runs import evaluate, export_model, train
from trainer.runs.recorded import embedder_of
from trainer.settings import RECIPE
from trainer.sweep import SweepSettings, run_sweep
from trainer.sweep.search_space import Space

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet")]


@pytest.fixture(scope="session")
def real_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with the vocabulary of the real one."""
    if open_clips_vocabulary() is None:
        pytest.skip("CLIP's vocabulary comes from open-clip-torch (pip install --no-deps open-clip-torch)")
    with quiet_libraries():
        return real_vocabulary_clip(tmp_path_factory.mktemp("real") / "clip")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's model, built once."""
    place, made = tmp_path_factory.mktemp("families"), dict[str, Path]()

    def build(name: str) -> Path:
        if name == "qwen3-vl":
            pytest.importorskip("torchvision")
        if name not in made:
            with quiet_libraries():
                made[name] = {**FAMILIES, "qwen3-vl": qwen3_vl}[name](place / name.replace(" ", "-"))
        return made[name]

    return build


def count_features(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Feature)) or 0


@pytest.mark.parametrize("family", [*FAMILIES, "qwen3-vl"])
@pytest.mark.parametrize("what", ["cca", "projection"])
def test_a_run_keeps_two_projections_and_its_export_gives_the_recorded_scores(
    filled: Database, folder_of: Callable[[str], Path], tmp_path: Path, family: str, what: str
) -> None:
    result = train(filled, settings(folder_of(family), train=what, epochs=3, lr=None))
    kept = artifact(filled, result.run_id)
    assert set(kept) == {VISUAL, TEXT}
    assert result.trainable == sum(value.numel() for value in kept.values())
    if what == "projection":
        is_what_was_scored(filled, result.run_id, tmp_path / "exported")
    features = count_features(filled)
    train(filled, settings(folder_of(family), train=what, epochs=1, seed=9))
    assert count_features(filled) == features > 0, "each picture and title is encoded once"


@pytest.mark.parametrize("family", ["siglip", "siglip2-naflex", "metaclip-2"])
def test_the_recipe_trains_every_family(
    filled: Database, folder_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    result = train(filled, settings(folder_of(family), **{**RECIPE, "lr": 1e-2}))
    is_what_was_scored(filled, result.run_id, tmp_path / "exported")


@pytest.mark.parametrize("what", ["all", "lora"])
def test_a_model_with_added_projections_is_trained_as_a_whole_and_loaded(
    filled: Database, folder_of: Callable[[str], Path], tmp_path: Path, what: str
) -> None:
    result = train(filled, settings(folder_of("siglip"), train=what, epochs=1))
    is_what_was_scored(filled, result.run_id, tmp_path / "exported")


def test_an_exported_model_is_a_base_model_with_the_same_projections(
    filled: Database, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    first = train(filled, settings(folder_of("siglip")))
    export_model(filled, tmp_path / "exported", first.run_id)
    features = count_features(filled)
    second = train(filled, settings(tmp_path / "exported"))
    assert second.base.table() == first.tuned.table()
    assert second.total == first.total, "no additional matrix is inserted"
    assert count_features(filled) == features, "the towers are unchanged"


@pytest.mark.parametrize("family", ["siglip", "siglip2", "siglip2-naflex"])
def test_siglip_tokenizes_like_the_original_code(folder_of: Callable[[str], Path], family: str) -> None:
    """Vectors by transformers alone: padded to the full length, without a mask, in lower case."""
    folder = folder_of(family)
    encoder = load_encoder(str(folder), "cpu")
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    for names in (NAMES, NAMES[:1], [name.upper() for name in NAMES]):
        tokens = processor.tokenizer(
            [name.lower() for name in names], padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            reference = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        expected = torch.nn.functional.normalize(reference, dim=1).numpy()
        np.testing.assert_allclose(encoder.title_vectors(names, lambda _n: None), expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_does_not_change_the_vector_of_a_title(folder_of: Callable[[str], Path], family: str) -> None:
    encoder = load_encoder(str(folder_of(family)), "cpu")
    alone = encoder.title_vectors(["red circle"], lambda _n: None)
    beside = encoder.title_vectors(["red circle", "blue square 1 2 3 4 5 6"], lambda _n: None)[:1]
    np.testing.assert_allclose(alone, beside, atol=1e-5)


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
@pytest.mark.parametrize("family", ["siglip", "siglip2-naflex"])
def test_crop_modes_give_the_size_that_the_model_needs(folder_of: Callable[[str], Path], family: str, fit: Any) -> None:
    encoder = replace(load_encoder(str(folder_of(family)), "cpu"), crop_mode=fit)
    sizes = {image.size for image in encoder.framed(Drawn()).load(NAMES)}
    squares = family == "siglip" and fit != "crop"
    assert sizes == ({(32, 32)} if squares else {(48, 36)})


def test_a_blip_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DamagedModel, match="lacks the tensors .*text_model.*not supported"):
        load_encoder(str(blip(tmp_path / "blip")), "cpu")


def test_remote_code_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DamagedModel, match="its own code"):
        load_encoder(str(folder), "cpu")
    assert not (tmp_path / "ran").exists()


def routed(pictures: Path, texts: Path, folder: Path) -> Path:
    """A folder with separate modules, as a multilingual student is published beside its CLIP."""
    seen, read = SentenceTransformer(str(pictures), device="cpu"), SentenceTransformer(str(texts), device="cpu")
    router = Router({"text": [*read], "image": [cast(Any, seen[0])]})
    SentenceTransformer(modules=[router]).save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.mark.parametrize("what", ["cca", "projection"])
def test_models_with_separate_modules_for_images_and_titles(
    filled: Database, folder_of: Callable[[str], Path], tmp_path: Path, what: str
) -> None:
    texts = text_student(tmp_path / "student", 16)
    folder = routed(folder_of("clip"), texts, tmp_path / "both")
    result = train(filled, settings(folder, train=what))
    is_what_was_scored(filled, result.run_id, tmp_path / "exported")
    one_by_one = train(filled, settings(folder_of("clip"), train=what, text_model=str(texts)))
    assert one_by_one.tuned.table() == result.tuned.table()
    is_what_was_scored(filled, one_by_one.run_id, tmp_path / "paired")
    assert one_by_one.base.table() != train(filled, settings(folder_of("clip"), train=what)).base.table()


def test_a_run_that_continues_from_paired_models_has_the_text_model(
    filled: Database, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    texts = text_student(tmp_path / "student", 16)
    first = train(filled, settings(folder_of("clip"), text_model=str(texts)))
    again = train(filled, settings(Path(f"{first.run_id}:base")))
    assert again.base.table() == first.base.table()


def test_models_that_were_not_trained_for_each_other_are_refused(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    texts = text_student(tmp_path / "student", 12)
    with pytest.raises(NotAClip, match=r"16 dimensions and texts in 12"):
        load_encoder(str(folder_of("clip")), "cpu", text_model=str(texts))


def test_a_changed_text_model_is_another_model(
    sqlite_database: Database, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    clip_folder, found = str(folder_of("clip")), []
    for seed in (0, 1):
        texts = text_student(tmp_path / str(seed), 16, seed=seed)
        model = LazyModel(sqlite_database, clip_folder, "cpu", text_model=str(texts))
        assert model.remembered is None
        found.append(model.facts)
    assert found[0].vision == found[1].vision
    assert found[0].text != found[1].text
    assert found[0].fingerprint != found[1].fingerprint


LANGUAGES = {
    "English": [
        "I survived 100 days in hardcore Minecraft",
        "GTA 6 trailer breakdown - everything you missed!",
        "How to sharpen a kitchen knife",
        "Unboxing the RTX 5090 Ti | first impressions",
        "10 Python tricks you should know",
        "But what is a neural network? | Deep learning chapter 1",
        "Reading my old diary 😂😂😂",
    ],
    "German": [
        "Wie funktioniert eigentlich ein Kühlschrank?",
        "Die schönsten Wanderwege in den Alpen",
        "Neue Küche einbauen: unsere größten Fehler",
    ],
    "Turkish": [
        "Evde yapabileceğiniz en kolay kek tarifi",
        "Türkiye'nin en güzel köyleri",
        "Bir hafta boyunca sadece bunu yedim",
    ],
    "Spanish": ["Cómo hacer una tortilla de patatas perfecta", "Un día en mi vida como estudiante", "Receta fácil"],
    "French": ["Comment réussir une mayonnaise maison", "Pourquoi les avions ne volent pas plus vite ?"],
    "Japanese": ["おうちで簡単に作れるラーメン", "東京のおすすめカフェ10選"],
    "Hindi": ["घर पर पिज़्ज़ा कैसे बनाएं", "भारत की सबसे सुंदर जगहें"],
    "Russian": ["Как приготовить борщ", "Самые красивые места России"],
}


@pytest.mark.parametrize("spoken", LANGUAGES)
def test_clips_own_tokens_tell_english_from_other_languages(
    sqlite_database: Database, real_clip: Path, spoken: str
) -> None:
    features = Features(sqlite_database, LazyModel(sqlite_database, str(real_clip), "cpu"), "fp32", "crop")
    assert features.model.facts.language == "English"
    assert features.are_mostly_foreign(LANGUAGES[spoken]) is (spoken != "English")


def test_truncated_and_foreign_titles_are_reported_from_cached_counts(
    sqlite_database: Database, real_clip: Path
) -> None:
    """100 characters of Japanese are more than 77 tokens."""
    fill(sqlite_database, 20)
    long = "東京でいちばんおいしいラーメンを食べに行ってきました。" * 4
    with sqlite_database.write() as session:
        for number in range(30):
            picture = draw(COLOURS[number % 10], "bar", number, "ja") + bytes([number])
            title = f"{number} {long[: 60 if number else 100]}"
            add_video(session, f"ja{number}", day=100 + number, title=title, picture=picture)
    result = train(sqlite_database, settings(real_clip, train="ridge", title_model="base"))
    assert result.titles_cut == 30
    assert any("30 of 50 titles are longer" in text and "77 tokens" in text for text in result.warnings)
    assert any("not in English" in text and "@uc1" in text for text in result.warnings)
    again = LazyModel(sqlite_database, str(real_clip), "cpu")
    features = Features(sqlite_database, again, "fp32", "crop")
    assert len(features.cut_titles([f"{number} {long[:60]}" for number in range(1, 30)])) == 29
    assert not again.is_loaded


def test_titles_are_truncated_to_the_positions_of_the_model(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 10**30}))
    encoder = load_encoder(str(folder), "cpu")
    assert encoder.title_vectors(["red circle " * 40], lambda _n: None).shape == (1, 16)
    assert encoder.cut_titles(["red circle", "red circle " * 40]) == ["red circle " * 40]


def test_an_unused_language_model_head_is_accepted(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip")
    before = load_encoder(str(folder), "cpu").fingerprint
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "lm_head.weight": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(str(folder), "cpu").fingerprint == before


@pytest.mark.parametrize("paired", [False, True])
def test_every_family_can_be_swept_searched_and_matched(
    filled: Database, folder_of: Callable[[str], Path], tmp_path: Path, paired: bool
) -> None:
    base = settings(folder_of("clip" if paired else "siglip"), train="projection")
    if paired:
        base = replace(base, text_model=str(text_student(tmp_path / "student", 16)))
    space = Space.read({"lr": "1e-2,1e-3", "batch_size": "8", "negatives": "none", "with_reader": "no"})
    counts = {"trials": 2, "seeds": 1, "finalists": 1, "final_seeds": 1}
    found = run_sweep(filled, SweepSettings(base, space, **counts))
    embedder = embedder_of(filled, found.run_id)
    pairs = searchable(filled)
    library = load_library(filled, embedder, pairs)
    picture = open_picture(filled, pairs[0].video_id)
    assert search(library, picture_vector(embedder, picture), 1)[0].pair.video_id == pairs[0].video_id
    vector = text_vector(embedder, pairs[0].title)
    assert search(library, vector, 40)[0].score == pytest.approx(float((library.vectors @ vector).max()), abs=1e-6)
    shown = frozenset([picture.digest])
    versions = Versions(embedder)
    prepared = prepare(versions, picture, pairs, database=filled, shown=shown)
    ideas = match_prepared(versions, prepared, ideas_in(["red circle", "blue bar"])).ideas
    assert {idea.title for idea in ideas} == {"red circle", "blue bar"}
    assert evaluate(filled, str(found.run_id), "cpu").matches is True
