"""Title ideas: their order, their positions among the channel's own titles, and lists of titles in files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from store.db import Database
from tests.store.builders import add_channel, add_video
from tests.trainer.tiny import draw, fill
from thumbtune.demo.channel import drawn_channel
from trainer.data import showing
from trainer.errors import BadSetting
from trainer.library import (
    Matched,
    QueryPicture,
    Versions,
    all_pairs,
    ideas_in,
    match_prepared,
    open_picture,
    prepare,
    resolve_channels,
    titles_in,
)
from trainer.library.library import cosines, picture_vector
from trainer.models import Encoder, open_model
from trainer.runs import Calibrated
from trainer.runs.recorded import model_embedder
from trainer.scoring import Calibration

IDEAS = ("red circle", "navy bar 3", "a pink square", "zebra")


@pytest.fixture
def store(sqlite_database: Database) -> Database:
    """20 pairs of one channel and 5 of another."""
    fill(sqlite_database, 20)
    fill(sqlite_database, 5, "UC2")
    return sqlite_database


@pytest.fixture
def cover(tmp_path: Path, store: Database) -> QueryPicture:
    """A picture that no video shows."""
    (tmp_path / "cover.png").write_bytes(draw("purple", "circle", 3))
    return open_picture(store, str(tmp_path / "cover.png"))


def match(
    store: Database,
    encoder: Encoder,
    picture: QueryPicture,
    titles: Sequence[str],
    channels: Sequence[str] = (),
    calibrated: Calibrated | None = None,
) -> Matched:
    pairs, wanted = all_pairs(store), resolve_channels(store, channels)
    versions = Versions(model_embedder(store, open_model(store, encoder.name, "cpu")))
    shown = showing(store, picture.image, (pair.picture_sha256 for pair in pairs))
    prepared = prepare(versions, picture, pairs, database=store, shown=shown, channels=wanted)
    return match_prepared(versions, prepared, ideas_in(titles), calibrated)


def score(encoder: Encoder, picture: QueryPicture, title: str) -> float:
    vectors = encoder.title_vectors([title], lambda _n: None)
    return float(cosines(picture_vector(encoder, picture), vectors)[0])


@pytest.mark.slow
def test_ideas_are_ranked_with_a_position(store: Database, encoder: Encoder, cover: QueryPicture) -> None:
    found = match(store, encoder, cover, IDEAS)
    own = [score(encoder, cover, pair.title) for pair in all_pairs(store)]
    assert (found.compared, found.current) == (25, [])
    assert {idea.title for idea in found.ideas} == set(IDEAS)
    for idea in found.ideas:
        assert idea.score == pytest.approx(score(encoder, cover, idea.title), abs=1e-5)
        assert idea.position == 1 + sum(known > idea.score for known in own)
    scores = [idea.score for idea in found.ideas]
    assert scores == sorted(scores, reverse=True)
    assert len({idea.position for idea in found.ideas}) > 1


def test_channels_restrict_the_compared_titles(store: Database, encoder: Encoder, cover: QueryPicture) -> None:
    found = match(store, encoder, cover, IDEAS, ["@uc2"])
    own = [score(encoder, cover, pair.title) for pair in all_pairs(store) if pair.channel_id == "UC2"]
    assert found.compared == len(own) == 5
    assert [idea.position for idea in found.ideas] == [
        1 + sum(known > idea.score for known in own) for idea in found.ideas
    ]


def test_the_title_of_a_named_video_is_listed_separately(store: Database, encoder: Encoder) -> None:
    picture = open_picture(store, "UC1-007")
    now = str(picture.title)
    found = match(store, encoder, picture, ["zebra", now])
    assert found.compared == 24
    assert [(title.title, title.video_ids) for title in found.current] == [(now, ("UC1-007",))]
    same = next(idea for idea in found.ideas if idea.title == now)
    # An idea that equals the current title gets the same score and position.
    assert (same.score, same.position) == (found.current[0].score, found.current[0].position)
    rivals = [score(encoder, picture, pair.title) for pair in all_pairs(store) if pair.video_id != "UC1-007"]
    assert same.position == 1 + sum(rival > same.score for rival in rivals)


def test_a_file_equal_to_stored_thumbnails_has_their_titles(store: Database, encoder: Encoder, tmp_path: Path) -> None:
    shared = draw("pink", "bar", 6)
    with store.write() as session:
        add_video(session, "one", title="First upload", picture=shared)
        add_video(session, "two", title="Again", picture=shared, channel_id="UC2")
        add_video(session, "three", title="Again", picture=shared, channel_id="UC2")
    (tmp_path / "same.png").write_bytes(shared)
    picture = open_picture(store, str(tmp_path / "same.png"))
    found = match(store, encoder, picture, IDEAS)
    # Newest first; days are equal, so by id.
    assert {title.title: title.video_ids for title in found.current} == {
        "First upload": ("one",),
        "Again": ("three", "two"),
    }
    assert found.compared == 25
    restricted = match(store, encoder, picture, IDEAS, ["UC2"])
    assert (len(restricted.current), restricted.compared) == (2, 5), "its current title, in any channel"
    assert len(match(store, encoder, open_picture(store, "one"), IDEAS).current) == 1


@pytest.mark.slow
def test_a_near_duplicate_of_a_stored_thumbnail_is_recognised(
    sqlite_database: Database, encoder: Encoder, tmp_path: Path
) -> None:
    """A designer's file is another size than the stored thumbnail, and has no letterbox bars."""
    videos = list(drawn_channel().videos.values())[:4]
    with sqlite_database.write() as session:
        add_channel(session)
        for day, video in enumerate(videos):
            add_video(session, video.id, day=day, title=video.title, picture=video.picture())
    with Image.open(io.BytesIO(videos[2].picture())) as stored:
        stored.crop((0, 45, 480, 315)).resize((1280, 720)).save(tmp_path / "design.png")
    picture = open_picture(sqlite_database, str(tmp_path / "design.png"))
    found = match(sqlite_database, encoder, picture, IDEAS)
    assert [(title.title, title.video_ids) for title in found.current] == [(videos[2].title, (videos[2].id,))]
    assert found.compared == 3


def test_duplicates_are_listed_once(store: Database, encoder: Encoder, cover: QueryPicture) -> None:
    found = match(store, encoder, cover, ["zebra", " zebra\n", "", "Zebra", "  "])
    assert sorted((idea.title, idea.times) for idea in found.ideas) == [("Zebra", 1), ("zebra", 2)]


@pytest.mark.slow
def test_a_repeated_title_competes_once_and_not_with_itself(
    store: Database, encoder: Encoder, cover: QueryPicture
) -> None:
    """As in the calibration: 30 live streams of one title are one title to confuse it with."""
    scale = Calibrated(Calibration(5.0, 0.0, 100, (4.0, 6.0)))
    ideas = ["zebra", "Live now"]

    def chances() -> dict[str, float]:
        found = match(store, encoder, cover, ideas, calibrated=scale).ideas
        return {idea.title: idea.probability.value for idea in found if idea.probability is not None}

    with store.write() as session:
        add_video(session, "live-0", title="LIVE  now", picture=draw("navy", "bar", 0, "live 0"))
    once = chances()
    with store.write() as session:
        for number in range(1, 30):
            add_video(session, f"live-{number}", title="Live now", picture=draw("navy", "bar", 0, f"live {number}"))
    again = chances()
    assert again == pytest.approx(once)
    assert len(match(store, encoder, cover, ideas).ideas) == 2
    assert match(store, encoder, cover, ideas).compared == 25 + 30


def test_equal_scores_keep_the_given_order(store: Database, encoder: Encoder, cover: QueryPicture) -> None:
    # The tokenizer converts to lower case, so the vectors are equal.
    ideas = ["ZEBRA", "zebra", "Zebra"]
    assert [idea.title for idea in match(store, encoder, cover, ideas).ideas] == ideas


def test_without_pairs_titles_are_ranked_without_a_position(
    database: Database, encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "cover.png").write_bytes(draw("purple", "circle", 3))
    found = match(database, encoder, open_picture(database, str(tmp_path / "cover.png")), IDEAS)
    assert (found.compared, found.current) == (0, [])
    assert [idea.position for idea in found.ideas] == [None] * 4
    assert len({idea.score for idea in found.ideas}) == 4


def test_a_title_of_the_only_video_has_no_position(database: Database, encoder: Encoder) -> None:
    fill(database, 1)
    found = match(database, encoder, open_picture(database, "UC1-000"), ["zebra"])
    assert (found.compared, found.current[0].position, found.ideas[0].position) == (0, None, None)


@pytest.mark.parametrize("titles", [[], ["", " \t"]])
def test_missing_titles_are_an_error(store: Database, encoder: Encoder, cover: QueryPicture, titles: list[str]) -> None:
    with pytest.raises(BadSetting, match="no titles"):
        match(store, encoder, cover, titles)


def test_a_title_that_is_not_utf_8_is_an_error(store: Database, encoder: Encoder, cover: QueryPicture) -> None:
    with pytest.raises(BadSetting, match="is not valid UTF-8"):
        match(store, encoder, cover, ["fine", "caf\udce9"])


@pytest.mark.parametrize(
    ("content", "titles"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"\xef\xbb\xbfone\r\n\r\n  \t\r\ntwo", ["one", "two"]),
        (b"one\rtwo\r", ["one", "two"]),
        ("日本語 🎈\n  voilà \n".encode(), ["日本語 🎈", "voilà"]),
        ("one\N{LINE SEPARATOR}line\x0bstill".encode(), ["one\N{LINE SEPARATOR}line\x0bstill"]),
        (b"", []),
        (b"\xef\xbb\xbf\n\n", []),
    ],
)
def test_titles_are_read_from_a_file(content: bytes, titles: list[str]) -> None:
    assert titles_in(content, "ideas.txt") == titles


@pytest.mark.parametrize(("content", "at"), [("voilà".encode("latin-1"), 5), ("one".encode("utf-16"), 1)])
def test_a_file_that_is_not_utf_8_is_an_error(content: bytes, at: int) -> None:
    with pytest.raises(BadSetting, match=rf"ideas.txt is not valid UTF-8 \(byte {at}\)"):
        titles_in(content, "ideas.txt")
