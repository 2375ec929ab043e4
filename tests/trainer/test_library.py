"""Searching the store's thumbnails: exact order, ties, channels, damaged thumbnails, and a model that was trained."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from store.db import Database
from tests.store.builders import add_channel, add_video
from tests.trainer.tiny import draw, fill, load_encoder
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.session import ENCODER
from trainer.data import PictureSource
from trainer.errors import BadPicture, BadSetting, NotEnoughPairs, RunUnusable
from trainer.library import Found, Library, equal_scores, open_picture
from trainer.library.library import cosines, load_library, picture_vector, rank_library, search, searchable, text_vector
from trainer.models import Embedder, Encoder, Vectors
from trainer.quiet import quiet_libraries


def unit(rows: int, d: int, seed: int = 0) -> Vectors:
    found = np.random.default_rng(seed).standard_normal((rows, d)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def library(database: Database, embedder: Embedder, *channels: str) -> Library:
    return load_library(database, embedder, searchable(database, channels))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    d=st.integers(1, 40),
    k=st.integers(1, 320),
    distinct=st.integers(1, 300),
    seed=st.integers(0, 9),
)
def test_results_are_in_the_order_of_a_full_sort(n: int, d: int, k: int, distinct: int, seed: int) -> None:
    vectors = unit(distinct, d, seed)[np.random.default_rng(seed).integers(0, distinct, n)]
    query = unit(1, d, seed + 100)[0]
    rows, scores = rank_library(query, vectors, k)
    exact = cosines(query, vectors)
    expected = sorted(range(n), key=lambda row: (-exact[row], row))[:k]
    assert rows.tolist() == expected
    assert scores.tolist() == exact[expected].tolist()
    assert np.allclose(exact, vectors.astype(np.float64) @ query.astype(np.float64), atol=1e-12)


def test_equal_vectors_have_equal_scores_at_any_position() -> None:
    vectors = unit(20_011, 67)
    copies = [3, 4_095, 4_096, 9_001, 20_010]
    vectors[copies] = vectors[7]
    rows, scores = rank_library(vectors[7], vectors, 4)
    assert rows.tolist() == [3, 7, 4_095, 4_096], "the lowest rows, cut inside the tie"
    assert len(set(scores.tolist())) == 1
    assert scores[0] == pytest.approx(1.0, abs=1e-6)


def test_results_with_equal_scores_are_reported(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "only", day=0, title="only")
    (pair,) = searchable(database)

    def runs(*scores: float) -> list[tuple[int, int]]:
        return equal_scores([Found(pair, score) for score in scores])

    assert runs() == runs(0.5) == runs(0.5, 0.4, 0.3) == []
    assert runs(0.5, 0.5, 0.4, 0.2, 0.2 - 1e-7, 0.2 - 2e-7) == [(1, 2), (4, 6)]
    assert runs(0.0, 0.0, 0.0) == [(1, 3)]


def test_equal_vectors_are_returned_in_order() -> None:
    vectors = np.repeat(unit(1, 16), 10_000, axis=0)
    rows, scores = rank_library(unit(1, 16, 5)[0], vectors, 3)
    assert rows.tolist() == [0, 1, 2]
    assert len(set(scores.tolist())) == 1


@pytest.mark.parametrize(("n", "k", "expected"), [(0, 3, 0), (2, 3, 2), (3, 3, 3)])
def test_a_large_k_returns_all_vectors(n: int, k: int, expected: int) -> None:
    rows, scores = rank_library(unit(1, 8)[0], unit(n, 8, 1), k)
    assert sorted(rows.tolist()) == list(range(n))
    assert len(scores) == expected


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_below_1_is_refused(k: int) -> None:
    with pytest.raises(BadSetting, match=f"-k {k} "):
        rank_library(unit(1, 8)[0], unit(3, 8), k)


@dataclass
class Recording:
    """The tiny CLIP; records the thumbnails that it was given."""

    encoder: Encoder
    digests: list[str] = field(default_factory=list)

    def picture_vectors(
        self, digests: Sequence[str], source: PictureSource, count: Callable[[int], None], *, keep: bool = True
    ) -> Vectors:
        self.digests += digests
        return self.encoder.picture_vectors(digests, source, count, keep=keep)

    def title_vectors(self, titles: Sequence[str], count: Callable[[int], None], *, keep: bool = True) -> Vectors:
        return self.encoder.title_vectors(titles, count, keep=keep)

    def cut_titles(self, titles: Sequence[str]) -> list[str]:
        return self.encoder.cut_titles(titles)


def test_a_thumbnail_of_several_videos_is_embedded_once_and_lists_them_all(
    database: Database, encoder: Encoder
) -> None:
    fill(database, 5)
    with database.write() as session:
        for day, name in ((50, "newer"), (40, "older")):
            add_video(session, name, day=day, picture=draw("red", "circle", 3))
    recording = Recording(encoder)
    loaded = load_library(database, recording, searchable(database))
    assert len(recording.digests) == len(set(recording.digests)) == 6
    assert [pair.video_id for pair in loaded.pairs[:2]] == ["newer", "older"]
    named = open_picture(database, "older")
    found = search(loaded, picture_vector(encoder, named), 3)
    assert [answer.pair.video_id for answer in found[:2]] == ["newer", "older"]
    assert found[0].score == found[1].score == pytest.approx(1.0, abs=1e-5)
    # Only the named video is left out of the results; another video with the same thumbnail is a result.
    others = search(loaded, picture_vector(encoder, named), 100, without="older")
    assert [answer.pair.video_id for answer in others][:1] == ["newer"]
    assert len(others) == 6


def test_a_stored_thumbnail_is_its_own_best_result(database: Database, encoder: Encoder) -> None:
    fill(database, 30)
    loaded = library(database, encoder)
    assert loaded.vectors.shape == (30, 16)
    for video in ("UC1-004", "UC1-017"):
        query = picture_vector(encoder, open_picture(database, video))
        assert search(loaded, query, 1)[0].pair.video_id == video
        assert video not in [answer.pair.video_id for answer in search(loaded, query, 29, without=video)]
        assert len(search(loaded, query, 29, without=video)) == 29


def test_search_is_restricted_to_channels(database: Database, encoder: Encoder) -> None:
    fill(database, 4)
    fill(database, 3, "UC2")
    query = text_vector(encoder, "red circle")
    assert {found.pair.channel_id for found in search(library(database, encoder), query, 99)} == {"UC1", "UC2"}
    only = search(library(database, encoder, "@UC2"), query, 99)
    assert [found.pair.channel_id for found in only] == ["UC2"] * 3
    assert len(search(library(database, encoder, "uc1", "UC2"), query, 99)) == 7
    with pytest.raises(BadSetting, match="'@who'.*@uc1, @uc2"):
        searchable(database, ["@who"])


def test_an_empty_library_is_an_error(database: Database) -> None:
    with pytest.raises(NotEnoughPairs, match="the store has no thumbnails"):
        searchable(database)
    with database.write() as session:
        add_channel(session)
        add_video(session, "short", kind="short")
    with pytest.raises(NotEnoughPairs, match="the store has no thumbnails of @one"):
        searchable(database, ["@one"])


def test_damaged_thumbnails_are_left_out_and_the_others_are_found(database: Database, encoder: Encoder) -> None:
    fill(database, 40)
    with database.write() as session:
        add_video(session, "bad-1", day=200, picture=b"no picture")
        add_video(session, "bad-2", day=201, picture=draw("red", "bar")[:60])
    loaded = library(database, encoder)
    assert [pair.video_id for pair in loaded.left_out] == ["bad-2", "bad-1"]
    assert (len(loaded.pairs), loaded.vectors.shape) == (40, (40, 16))
    query = picture_vector(encoder, open_picture(database, "UC1-039"))
    assert search(loaded, query, 1)[0].pair.video_id == "UC1-039"


def test_only_damaged_thumbnails_are_an_error(database: Database, encoder: Encoder) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "bad", picture=b"no picture")
    with pytest.raises(BadPicture, match="can't be decoded"):
        library(database, encoder)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 0.0, 1e-30])
def test_a_diverged_model_is_an_error(sqlite_database: Database, encoder: Encoder, weight: float) -> None:
    fill(sqlite_database, 3)
    weights = dict(encoder.model.named_parameters())
    with torch.no_grad():
        weights["0.model.text_projection.weight"].fill_(weight)
        weights["0.model.visual_projection.weight"].fill_(weight)
    for ask in (lambda: text_vector(encoder, "red"), lambda: library(sqlite_database, encoder)):
        with pytest.raises(RunUnusable, match="--model"):
            ask()


def test_a_file_is_embedded_as_a_viewer_displays_it(database: Database, encoder: Encoder, tmp_path: Path) -> None:
    """A picture has the same vector if it is rotated by its tag or its pixels, with 8 or 16 bits."""
    upright = Image.open(io.BytesIO(draw("red", "circle"))).convert("L")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright.save(tmp_path / "plain.png")
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.asarray(upright).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    expected = picture_vector(encoder, open_picture(database, str(tmp_path / "plain.png")))
    for name in ("turned.png", "deep.png"):
        assert (picture_vector(encoder, open_picture(database, str(tmp_path / name))) == expected).all()


@pytest.mark.parametrize("kind", ["turned", "deep", "clear"])
def test_a_stored_file_is_read_as_the_same_file_in_a_query(
    sqlite_database: Database, encoder: Encoder, tmp_path: Path, kind: str
) -> None:
    """`import` stores users' own files: turned by a tag, with 16 bits, or with a transparent background."""
    picture, file = Image.open(io.BytesIO(draw("red", "circle"))), tmp_path / "own.png"
    if kind == "turned":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        picture.save(file, exif=exif)
    elif kind == "deep":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(file)
    else:
        picture.putalpha(picture.convert("L").point(lambda grey: 255 if grey < 100 else 0))
        picture.save(file)
    with sqlite_database.write() as session:
        add_channel(session)
        add_video(session, "own", title="red circle", picture=file.read_bytes())
    of_file = picture_vector(encoder, open_picture(sqlite_database, str(file)))
    assert (library(sqlite_database, encoder).vectors[0] == of_file).all()


@pytest.mark.parametrize("text", ["", " \n\t", "\N{NO-BREAK SPACE}"])
def test_a_blank_query_is_an_error(encoder: Encoder, text: str) -> None:
    with pytest.raises(BadSetting, match="query is empty"):
        text_vector(encoder, text)


def test_a_query_that_is_not_utf_8_is_an_error(encoder: Encoder) -> None:
    latin = "caf\xe9".encode("latin-1").decode("utf-8", "surrogateescape")
    with pytest.raises(BadSetting, match="is not valid UTF-8"):
        text_vector(encoder, latin)


@pytest.mark.parametrize("text", ["word " * 5_000, "http://example.org/a.png", "日本語 🎈 \x00\x1b[31m", "photo.jpg"])
def test_any_other_text_is_a_valid_query(encoder: Encoder, text: str) -> None:
    vector = text_vector(encoder, text)
    assert vector.shape == (16,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (1920, 1080)])
def test_the_original_of_a_stored_thumbnail_finds_it_first(
    shared_channel: Path, sqlite_database: Database, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Without its bars and at another size, each of six thumbnails finds itself first."""
    files = sorted((shared_channel / "thumbnails").glob("*.jpg"))
    with sqlite_database.write() as session:
        add_channel(session)
        for number, file in enumerate(files):
            add_video(session, file.stem, day=number, title=file.stem, picture=file.read_bytes())
    with quiet_libraries():
        demo = load_encoder(str(ENCODER), "cpu")
        stored = library(sqlite_database, demo)
        for file in files[:: len(files) // 6]:
            with Image.open(file) as image:
                image.crop((0, 45, 480, 315)).resize(size).save(tmp_path / "cover.png")
            query = picture_vector(demo, open_picture(sqlite_database, str(tmp_path / "cover.png")))
            assert search(stored, query, 1)[0].pair.video_id == file.stem


@pytest.mark.slow
def test_a_trained_model_finds_thumbnails_by_title(sqlite_database: Database) -> None:
    videos = [video for video in drawn_channel().listed() if (video.duration_s or 0) >= 180][:40]
    with sqlite_database.write() as session:
        add_channel(session)
        for day, video in enumerate(videos):
            add_video(session, video.id, day=day, title=video.title, picture=video.picture())
    with quiet_libraries():
        # It was trained on thumbnails with bars.
        model = replace(load_encoder(str(ENCODER), "cpu"), bars="keep")
        loaded = library(sqlite_database, model)
        ranks = []
        for video in videos:
            found = search(loaded, text_vector(model, video.title), 40)
            ranks.append([answer.pair.video_id for answer in found].index(video.id) + 1)
    # At chance, the median rank would be 20, and one of 40 would be first.
    assert statistics.median(ranks) <= 5
    assert ranks.count(1) >= 8
