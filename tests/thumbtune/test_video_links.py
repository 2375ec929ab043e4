"""The id of a video in each kind of URL in which YouTube shows or shares it."""

from __future__ import annotations

import pytest

from store.training import Pair
from store.video_links import video_id_in, video_url
from thumbtune.answers.documents import found_document
from thumbtune.ui.showing import video_link
from trainer.library import Found


@pytest.mark.parametrize(
    "url",
    [
        "https://youtu.be/dQw4w9WgXcQ",
        "youtu.be/dQw4w9WgXcQ?si=x",
        "HTTPS://YouTu.be/dQw4w9WgXcQ?t=43",
        "//www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://www.youtube.com/watch/?v=dQw4w9WgXcQ",
        "https://m.youtube.com/watch?list=PL1&v=dQw4w9WgXcQ&t=3s",
        "https://music.youtube.com/watch?v=dQw4w9WgXcQ&feature=share",
        "https://www.youtube.com/shorts/dQw4w9WgXcQ",
        "https://www.youtube.com/live/dQw4w9WgXcQ?feature=share",
        "https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ?start=3",
        "https://studio.youtube.com/video/dQw4w9WgXcQ/edit",
        "https://i.ytimg.com/vi_webp/dQw4w9WgXcQ/maxresdefault.webp",
        "https://img.youtube.com/vi/dQw4w9WgXcQ/0.jpg",
    ],
)
def test_the_id_is_found_in_a_url(url: str) -> None:
    assert video_id_in(url) == "dQw4w9WgXcQ"


@pytest.mark.parametrize(
    "text",
    [
        "dQw4w9WgXcQ",
        "cover.jpg",
        "https://example.org/watch?v=dQw4w9WgXcQ",
        "https://youtube.com.example.org/watch?v=dQw4w9WgXcQ",
        "https://www.youtube.com/watch?list=PL1#v=dQw4w9WgXcQ",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQx",
        "youtu.be/short",
        "",
    ],
)
def test_other_text_is_no_url_of_a_video(text: str) -> None:
    assert video_id_in(text) is None


@pytest.mark.parametrize(("video_id", "url"), [("dQw4w9WgXcQ", "https://youtu.be/dQw4w9WgXcQ"), ("file-0a1b", None)])
def test_a_video_without_an_id_of_youtube_has_no_url(video_id: str, url: str | None) -> None:
    assert (video_url(video_id), video_link(video_id)) == (url, url)
    assert found_document([Found(Pair(video_id, "UC1", 1, "Title", ""), 0.5)])[0]["url"] == url
