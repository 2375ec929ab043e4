"""Models with the reader: alone, beside another model, and their recorded runs."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from sqlalchemy import select

from store.db import Database, open_database, rows_as_dicts
from store.tables import Picture, Video
from store.training import get_run
from tests.store.builders import add_channel, add_video
from tests.trainer.tiny import fill
from tests.trainer.training import artifact, ranks, settings, train_in_use, vectors
from trainer.artifacts import save_tensors
from trainer.data import StoredPictures, select_pairs
from trainer.errors import BadSetting, NotAClip, RunUnusable
from trainer.fitting.beside_reader import WEIGHTS, WithReader
from trainer.library import load_library, search, searchable, text_vector
from trainer.models import TEXT, VISUAL
from trainer.models.encoder import Embedder
from trainer.models.reader import ReaderModel
from trainer.quiet import quiet_libraries
from trainer.runs import TrainResult
from trainer.runs.calibrating import calibration_of
from trainer.runs.evaluating import evaluate
from trainer.runs.in_use import open_in_use
from trainer.runs.readable import find_unread_words
from trainer.runs.recorded import embedder_of, export_model, model_embedder
from trainer.runs.training import train
from trainer.settings import READER, TrainSettings
from trainer.sweep import Space, SweepSettings, run_sweep

pytestmark = pytest.mark.usefixtures("quiet")

READER_TENSORS = {f"reader.{VISUAL}", f"reader.{TEXT}"}
WORDS = (
    "Apple pie", "Bicycle tour", "Camping stove", "Desert fox", "Electric guitar", "Frozen lake", "Garden snail",
    "Honey bees", "Iron bridge", "Jungle river", "Kitchen knife", "Lemon cake", "Mountain hut", "Night train",
    "Orange tree", "Piano lesson", "Quiet library", "Rocket engine", "Sailing boat", "Tomato soup",
)  # fmt: skip


class Beside(NamedTuple):
    database: Database
    run: TrainResult


def poster(words: str) -> bytes:
    image = Image.new("RGB", (320, 180), "white")
    ImageDraw.Draw(image).text((12, 60), words, fill="black", font=ImageFont.load_default(36))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def read_file(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of thumbnails that show the words of their titles, and have been read; one shows no words."""
    path = tmp_path_factory.mktemp("read") / "thumbtune.db"
    shutil.copy(migrated_file, path)
    with open_database(f"sqlite:///{path}") as database, quiet_libraries():
        with database.write() as session:
            add_channel(session)
            for day, words in enumerate(WORDS):
                title = f"{words}: what nobody tells you"
                add_video(session, f"v{day:02}", day=day, title=title, picture=poster(words))
            add_video(session, "blank", day=99, title="Nothing to see", picture=poster(""))
        reader = ReaderModel(database, "cpu")
        assert reader.facts
        reader.prepared(contents(database)[0], StoredPictures(database))
    return path


@pytest.fixture
def worded(read_file: Path, sqlite_url: str) -> Iterator[Database]:
    """A copy of that store."""
    shutil.copy(read_file, sqlite_url.removeprefix("sqlite:///"))
    with open_database(sqlite_url) as database:
        yield database


@pytest.fixture(scope="module")
def beside(read_file: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """A run of a model beside the reader on a copy of that store, for tests that only use it."""
    path = Path(shutil.copy(read_file, tmp_path_factory.mktemp("beside")))
    with open_database(f"sqlite:///{path}") as database, quiet_libraries():
        yield Beside(database, train(database, settings(tiny_clip, train="cca", with_reader=True), test=True))


@pytest.fixture
def pictures(sqlite_database: Database) -> Database:
    """A store of thumbnails without words."""
    fill(sqlite_database, 40)
    return sqlite_database


def contents(database: Database) -> tuple[list[str], list[str]]:
    with database.read() as session:
        digests = session.scalars(select(Picture.sha256).order_by(Picture.sha256)).all()
        return list(digests), list(session.scalars(select(Video.title).order_by(Video.title)))


def embedded(embedder: Embedder, database: Database) -> np.ndarray:
    found: np.ndarray = vectors(embedder, database, *contents(database))
    return found


def hits(database: Database, run_id: int, model: str) -> int:
    found = [row for row in ranks(database, run_id, model) if row["direction"] == "thumbnail_to_title"]
    return sum(row["rank"] == 1 for row in found)


@pytest.mark.slow
def test_the_reader_finds_titles_without_training(worded: Database) -> None:
    run = train(worded, TrainSettings(model=READER, train="ridge", device="cpu"), test=True)
    assert hits(worded, run.run_id, "base") >= 20
    assert hits(worded, run.run_id, "tuned") >= 20
    with worded.read() as session:
        shown = rows_as_dicts(session, "SELECT video_id, thumbnail_text FROM pairs ORDER BY video_id")
    assert [row["thumbnail_text"] for row in shown][:3] == ["", "Apple pie", "Bicycle tour"]
    found = evaluate(worded, READER, "cpu")
    assert found.scores.table()["train"]["recall@1"] >= 0.9
    assert evaluate(worded, str(run.run_id), "cpu").matches


def test_a_thumbnail_without_words_has_cosine_0_with_every_title(worded: Database) -> None:
    embedder = model_embedder(worded, ReaderModel(worded, "cpu"))
    library = load_library(worded, embedder, searchable(worded))
    blank = next(row for row, pair in enumerate(library.pairs) if pair.video_id == "blank")
    query = text_vector(embedder, "going by bike")
    assert library.vectors[blank] @ query == 0
    best = search(library, query, 3)
    assert best[0].pair.video_id == "v01"
    assert "blank" not in [found.pair.video_id for found in best]


def test_thumbnails_are_read_once_and_another_ocr_is_another_model(worded: Database) -> None:
    class Never:
        name = "letters 1"

        def read(self, image: Image.Image) -> str:
            raise AssertionError

    first = embedded(model_embedder(worded, ReaderModel(worded, "cpu")), worded)
    assert np.array_equal(embedded(model_embedder(worded, ReaderModel(worded, "cpu")), worded), first)
    with pytest.raises(AssertionError):
        embedded(model_embedder(worded, ReaderModel(worded, "cpu", reader=Never())), worded)


@pytest.mark.slow
def test_with_the_reader_a_model_is_as_good_as_the_reader_on_words(beside: Beside) -> None:
    is_as_good_as_the_reader(*beside)


@pytest.mark.slow
def test_with_the_reader_projections_are_as_good_as_the_reader_on_words(worded: Database, tiny_clip: Path) -> None:
    is_as_good_as_the_reader(worded, train(worded, settings(tiny_clip, with_reader=True), test=True))


def is_as_good_as_the_reader(worded: Database, run: TrainResult) -> None:
    assert run.reader is not None
    assert hits(worded, run.run_id, "tuned") >= 20 > hits(worded, run.run_id, "base")
    first, second, scale = artifact(worded, run.run_id)[WEIGHTS].tolist()
    assert first + second == pytest.approx(1)
    assert second > 0.3
    assert scale > 0
    assert evaluate(worded, str(run.run_id), "cpu").matches
    assert evaluate(worded, f"{run.run_id}:base", "cpu").matches


def test_a_run_keeps_the_trained_reader_without_effect_on_wordless_thumbnails(beside: Beside) -> None:
    worded, run = beside
    kept = artifact(worded, run.run_id)
    used = embedder_of(worded, run.run_id)
    assert isinstance(used, WithReader)
    assert used.reader.projections.visual.equal(kept[f"reader.{VISUAL}"])
    assert not used.reader.projections.visual.equal(torch.eye(len(used.reader.projections.visual))), (
        "the training has an effect"
    )
    digests, titles = contents(worded)
    with worded.read() as session:
        blank = digests.index(str(session.scalars(select(Video.picture_sha256).where(Video.id == "blank")).one()))
    read = used.reader.picture_vectors(digests, StoredPictures(worded), lambda _n: None)
    said = used.reader.title_vectors(titles, lambda _n: None)
    scores = read @ said.T
    assert (scores[blank] == 0).all()
    assert np.allclose(np.linalg.norm(read, axis=1), 1, atol=1e-5)
    assert (np.abs(np.delete(scores, blank, axis=0)).max(axis=1) > 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["cca", "ridge", "projection"])
def test_the_reader_alone_leaves_thumbnails_without_words_like_no_title(worded: Database, what: str) -> None:
    epochs = 2 if what == "projection" else None
    run = train(worded, TrainSettings(model=READER, train=what, negatives="none", epochs=epochs, device="cpu"))
    for tensor in artifact(worded, run.run_id).values():
        marks = torch.zeros(len(tensor))
        marks[-1] = tensor[-1, -1]
        assert tensor[-1, -1] > 0
        assert tensor[-1].equal(marks)
        assert tensor[:, -1].equal(marks)


@pytest.mark.slow
def test_a_run_of_a_version_without_reader_training_is_opened_and_refitted(worded: Database, tiny_clip: Path) -> None:
    run = train(worded, settings(tiny_clip, train="cca", with_reader=True))
    older = {name: tensor for name, tensor in artifact(worded, run.run_id).items() if name not in READER_TENSORS}
    with worded.write() as session:
        row = get_run(session, run.run_id)
        row.artifact_sha256 = save_tensors(older, Path(str(row.artifact_path)))
        chosen = {name: value for name, value in row.settings["chosen"].items() if not name.startswith("reader_")}
        row.settings = {**row.settings, "chosen": chosen}
    used = open_in_use(worded, str(run.run_id), "cpu")
    assert isinstance(used.embedder, WithReader)
    untrained = torch.eye(len(used.embedder.reader.projections.visual))
    calibrated = [calibration_of(worded, used) for _ in range(2)]
    for folds in (found.folds for found in calibrated):
        assert [fold.reader is not None and fold.reader.visual.equal(untrained) for fold in folds] == [True] * 5
    assert used.embedder.reader.projections.visual.equal(untrained)


@pytest.mark.slow
def test_each_fold_of_a_calibration_has_its_own_reader(beside: Beside) -> None:
    worded, run = beside
    used = open_in_use(worded, str(run.run_id), "cpu")
    first, second = (calibration_of(worded, used).folds for _ in range(2))
    readers = [fold.reader for fold in first]
    assert len({reader.visual.numpy().tobytes() for reader in readers if reader is not None}) > 1
    for one, two in zip(first, second, strict=True):
        assert one.weights == two.weights
        assert one.reader is not None
        assert two.reader is not None
        assert one.reader.visual.equal(two.reader.visual)
        assert one.reader.text.equal(two.reader.text)


@pytest.mark.slow
def test_without_words_only_the_model_decides(pictures: Database, tiny_clip: Path) -> None:
    alone = train(pictures, settings(tiny_clip, train="cca"))
    beside = train(pictures, settings(tiny_clip, train="cca", with_reader=True))
    assert hits(pictures, beside.run_id, "tuned") == hits(pictures, alone.run_id, "tuned")
    assert beside.reader is not None
    assert beside.reader.table()["train"]["recall@1"] == 0
    assert [text for text in beside.warnings if "40 of 40 thumbnails" in text]
    assert not [text for text in alone.warnings if "thumbnails" in text]


@pytest.mark.parametrize(
    ("titles", "told"),
    [
        (["Café life in New York, part 2", "Ten more cats"], None),
        (["狐狸的冒险", "东京塔 Tokyo"], None),
        (["プログラミング講座", "狐の冒険とラーメン"], "scripts"),
        (["مغامرة الثعلب", "رحلة البحر 3"], "scripts"),
        (["Çılgın köpek ve güneş", "Yağmurlu bir gün"], "accents"),
        (["12 + 7", "!!!"], None),
    ],
)
def test_titles_in_letters_unknown_to_the_ocr_give_a_warning(
    sqlite_database: Database, titles: list[str], told: str | None
) -> None:
    with sqlite_database.write() as session:
        add_channel(session)
        for day, title in enumerate(titles):
            add_video(session, f"v{day}", day=day, title=title, picture=poster(title[:day]))
    chosen = select_pairs(sqlite_database)
    found = find_unread_words(sqlite_database, chosen, TrainSettings(model=READER))
    assert len(found) == (told is not None)
    assert all(str(told) in text for text in found)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["cca", "ridge"])
def test_a_closed_form_learns_and_is_the_same_model_when_loaded(
    pictures: Database, tiny_clip: Path, tmp_path: Path, what: str
) -> None:
    run = train(pictures, settings(tiny_clip, train=what, title_model="no such model"))
    assert hits(pictures, run.run_id, "tuned") >= hits(pictures, run.run_id, "base")
    export_model(pictures, tmp_path / "model", run.run_id)
    exported = open_in_use(pictures, str(tmp_path / "model"), "cpu").embedder
    assert np.allclose(embedded(exported, pictures), embedded(embedder_of(pictures, run.run_id), pictures), atol=1e-5)
    again = train(pictures, settings(tiny_clip, train=what, seed=7))
    one, two = (artifact(pictures, run_id) for run_id in (run.run_id, again.run_id))
    assert all(one[name].equal(two[name]) for name in one), "nothing in it is random"


@pytest.mark.slow
def test_a_run_continues_from_a_champion_with_the_reader(pictures: Database, tiny_clip: Path) -> None:
    first = train_in_use(pictures, settings(tiny_clip, train="ridge", with_reader=True))
    second = train(pictures, settings(tiny_clip, start="champion", lr=1e-9, epochs=1))
    own = artifact(pictures, first.run_id)
    assert not {WEIGHTS, *READER_TENSORS} & artifact(pictures, second.run_id).keys()
    for name, tensor in artifact(pictures, second.run_id).items():
        if name in own:
            assert np.allclose(tensor, own[name], atol=1e-6)


@pytest.mark.slow
def test_a_model_with_the_reader_cannot_be_exported(worded: Database, tiny_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(BadSetting, match="--output"):
        train(worded, settings(tiny_clip, with_reader=True), output=folder)
    beside = train(worded, settings(tiny_clip, train="ridge", with_reader=True))
    reader = train(worded, TrainSettings(model=READER, train="ridge", device="cpu"))
    with pytest.raises(RunUnusable, match="reader"):
        export_model(worded, folder, beside.run_id)
    with pytest.raises(NotAClip, match="reader"):
        export_model(worded, folder, reader.run_id)
    assert not folder.exists()


@pytest.mark.slow
def test_unsupported_combinations_are_refused_in_one_line(pictures: Database, tiny_clip: Path) -> None:
    with pytest.raises(BadSetting, match="--with-reader"):
        TrainSettings(model=READER, with_reader=True)
    with pytest.raises(BadSetting, match="--with-reader"):
        train(pictures, settings(tiny_clip, with_reader=True, train="all"))
    with pytest.raises(NotAClip):
        train(pictures, TrainSettings(model=READER, train="lora", negatives="none", device="cpu", lora_targets=".*"))


@pytest.mark.slow
def test_a_sweep_chooses_the_reader_if_words_help(
    worded: Database, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.runs.promotion.FEWEST", 9)
    space = Space.read({"train": "ridge", "fit": "crop"})
    counts = {"trials": 2, "seeds": 1, "finalists": 1, "final_seeds": 0}
    result = run_sweep(worded, SweepSettings(settings(tiny_clip), space, **counts))
    assert [standing.settings["with_reader"] for standing in result.standings] == [True, False]
    assert (result.in_use, result.settings["with_reader"]) == (True, True)
    assert result.recalls["tuned"]["valid"].value == result.standings[0].recall_at_1 > result.base_recalls["crop"]


@pytest.mark.slow
def test_trials_share_the_readers_folds_and_equal_runs_of_their_own(worded: Database, tiny_clip: Path) -> None:
    space = Space.read({"train": "ridge,cca", "fit": "crop", "with_reader": "yes"})
    counts = {"trials": 2, "seeds": 2, "finalists": 1, "final_seeds": 0}
    result = run_sweep(worded, SweepSettings(settings(tiny_clip), space, **counts))
    assert result.runs == 4
    for standing in result.standings:
        own = train(worded, settings(tiny_clip, with_reader=True, train=standing.settings["train"]))
        assert standing.recall_at_1 == own.tuned.table()["valid"]["recall@1"]


@pytest.mark.slow
def test_a_sweep_of_the_reader_itself_has_one_crop_mode_and_no_second_reader(worded: Database) -> None:
    space = Space.read({"train": "ridge,projection", "negatives": "none", "lr": "0.001", "epochs": "1"})
    shared = TrainSettings(model=READER, train="projection", device="cpu")
    result = run_sweep(worded, SweepSettings(shared, space, trials=3, seeds=1, finalists=1, final_seeds=0))
    assert {(row.settings["fit"], row.settings["with_reader"]) for row in result.standings} == {("crop", False)}
    assert {row.settings["train"] for row in result.standings} == {"ridge", "projection"}
