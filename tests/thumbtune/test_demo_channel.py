"""The demo's drawn channel: repeatable, in YouTube's formats, and with its own style."""

import io
import re
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from training_styles import TRAINING_CHANNELS

from thumbtune.demo.channel import CHANNEL_STYLE, CHANNEL_VOICE, DrawnPicture, drawn_channel
from thumbtune.demo.drawing_scene import COLOURS, COUNTS, Scene
from thumbtune.demo.drawing_subjects import SUBJECTS
from thumbtune.demo.titles import plural
from thumbtune.standin.catalogue import Catalogue, StandInVideo


@pytest.fixture(scope="module")
def channel() -> Catalogue:
    return drawn_channel()


def pairs(channel: Catalogue) -> list[StandInVideo]:
    """The videos that are training pairs: public, not deleted, at least 180 s long."""
    return [
        video
        for video in channel.listed()
        if video.privacy == "public" and video.id not in channel.deleted and (video.duration_s or 0) >= 180
    ]


def pixels(data: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int64)


@pytest.mark.slow
def test_a_seed_determines_the_channel_and_the_thumbnail_bytes(channel: Catalogue) -> None:
    again, other = drawn_channel(), drawn_channel(seed=8)
    assert again.listed() == channel.listed()
    assert again.channel_id == channel.channel_id
    for mine, theirs in zip(channel.listed()[:40], again.listed()[:40], strict=True):
        assert mine.picture() == theirs.picture()
    assert not {video.id for video in other.videos.values()} & set(channel.videos)
    assert other.channel_id != channel.channel_id


def test_ids_have_youtube_s_form(channel: Catalogue) -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]", video_id) for video_id in channel.videos)
    assert re.fullmatch(r"UC[A-Za-z0-9_-]{21}[AQgw]", channel.channel_id)


def test_the_channel_has_over_400_pairs_and_the_special_videos_of_real_channels(channel: Catalogue) -> None:
    videos = channel.listed()
    assert len(pairs(channel)) >= 400
    assert sum(1 for video in videos if (video.duration_s or 999) < 180) == 6
    assert [video.id for video in videos if video.live == "upcoming"] == [videos[0].id]
    assert videos[0].duration_s is None
    assert sum(1 for video in videos if video.privacy == "private") == 1
    assert len(channel.deleted) == 1
    assert channel.deleted <= set(channel.videos)
    titles = Counter(video.title for video in pairs(channel))
    assert sorted(titles.values())[-2:] == [1, 2]
    scenes = Counter(video.picture for video in pairs(channel))
    assert sorted(scenes.values())[-2:] == [1, 2]


def test_pairs_are_published_weekly_and_are_minutes_long(channel: Catalogue) -> None:
    times = sorted(video.published_at for video in pairs(channel))
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= timedelta(days=8)
    assert times[-1] - times[0] > timedelta(days=365 * 7)
    assert all(time.utcoffset() == timedelta(0) for time in times)
    durations = [video.duration_s or 0 for video in pairs(channel)]
    assert 300 < float(np.median(durations)) < 1800


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_small_channel_can_be_drawn_too(count: int) -> None:
    small = drawn_channel(count)
    assert len(pairs(small)) == count + 3
    assert len(small.videos) == count + 12


def test_a_channel_without_videos_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        drawn_channel(0)


def test_thumbnails_are_letterboxed_and_of_size_high(channel: Catalogue) -> None:
    for video in channel.listed()[::40]:
        data = video.picture()
        picture = Image.open(io.BytesIO(data))
        assert picture.format == "JPEG"
        assert picture.size == (480, 360)
        assert 5_000 < len(data) < 120_000
        values = pixels(data)
        assert values[:40].max() < 25
        assert values[-40:].max() < 25
        assert values[50:310].std() > 15


def shown(**changes: object) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    scene = {"subject": "teapot", "colour": "red", "count": 1, "setting": "snow", **changes}
    return pixels(DrawnPicture(Scene(**scene), "one key")())  # type: ignore[arg-type]


def test_each_part_of_a_scene_is_visible_in_the_thumbnail() -> None:
    plain = shown()
    subject = (slice(120, 260), slice(140, 340))
    red, blue = plain[subject], shown(colour="blue")[subject]
    assert (red[..., 0] - red[..., 2] > 100).mean() > 0.1
    assert (blue[..., 0] - blue[..., 2] > 100).mean() < 0.02
    for change in ({"subject": "cat"}, {"count": 5}, {"setting": "night"}, {"series": "One Sheet"}, {"words": "TOOLS"}):
        assert (np.abs(shown(**change) - plain).max(axis=2) > 40).mean() > 0.002, change


def test_titles_describe_the_thumbnails_in_the_words_of_the_channel(channel: Catalogue) -> None:
    videos = [video for video in pairs(channel) if "ask me anything" not in video.title and "(sound" not in video.title]
    for video in videos:
        assert isinstance(video.picture, DrawnPicture)
        scene = video.picture.scene
        names = (scene.subject, CHANNEL_VOICE.nouns.get(scene.subject, scene.subject))
        assert any(word in video.title.lower() for name in names for word in (name, plural(name))), video
        own = CHANNEL_VOICE.colours[COLOURS.index(scene.colour)]
        assert any(word in video.title.lower() for word in (own, scene.colour)), video
        if scene.words:
            assert scene.words.lower() not in video.title.lower()
    colours = Counter(video.picture.scene.colour for video in videos if isinstance(video.picture, DrawnPicture))
    assert min(colours[colour] for colour in COLOURS) > len(videos) / 16
    assert {video.picture.scene.subject for video in videos if isinstance(video.picture, DrawnPicture)} == set(SUBJECTS)


def test_every_scene_has_a_title(channel: Catalogue) -> None:
    assert all(video.title and len(video.title) <= 100 for video in channel.listed())
    assert not any("  " in video.title or "{" in video.title for video in channel.listed())
    assert len(COUNTS) == len(CHANNEL_VOICE.counts)


def test_the_channels_of_the_encoder_differ_from_the_channel_of_the_demo(channel: Catalogue) -> None:
    assert len({other.picture.name for other in TRAINING_CHANNELS}) == len(TRAINING_CHANNELS)
    for other in TRAINING_CHANNELS:
        assert other.picture.name != CHANNEL_STYLE.name
        assert not set(other.picture.palette.values()) & set(CHANNEL_STYLE.palette.values())
        assert other.picture.texture != CHANNEL_STYLE.texture
        assert (other.picture.layout, other.picture.gathering) != (CHANNEL_STYLE.layout, CHANNEL_STYLE.gathering)
        assert not set(other.picture.badges) & set(CHANNEL_STYLE.badges)
        assert not set(other.voice.templates) & set(CHANNEL_VOICE.templates)
        assert not set(other.voice.colours) & set(CHANNEL_VOICE.colours)
        assert not set(other.voice.nouns.values()) & set(CHANNEL_VOICE.nouns.values())
        assert not set(other.voice.places) & set(CHANNEL_VOICE.places)
        assert not set(other.voice.formats) & set(CHANNEL_VOICE.formats) - {""}
