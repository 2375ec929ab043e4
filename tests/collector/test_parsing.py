"""The API's answers: samples without loss, and nothing taken for granted."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import BadAnswer
from collector.parsing import (
    parse_channels,
    parse_duration,
    parse_json,
    parse_time,
    parse_uploads_page,
    parse_videos,
)
from collector.plan import details_from
from store.database import Database
from store.tables import Channel, Video
from store.videos import ListedVideo, record_details, record_page

NOW = datetime(2024, 5, 6, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def sample(folder: Path, name: str) -> dict[str, Any]:
    return parse_json((folder / name).read_bytes())


def test_sample_channels(api_samples: Path) -> None:
    (channel,) = parse_channels(sample(api_samples, "info.json"))
    assert (channel.id, channel.handle) == ("UC_x5XG1OV2P6uZZ5FSM9Ttw", "@googledevelopers")
    # This answer has no contentDetails.
    assert channel.uploads_playlist_id == "UU_x5XG1OV2P6uZZ5FSM9Ttw"
    several = parse_channels(sample(api_samples, "info_multiple.json"))
    assert [c.uploads_playlist_id for c in several] == ["UUK8sQmJBp8GCxrOtXWBpyEA", "UU_x5XG1OV2P6uZZ5FSM9Ttw"]
    assert [c.item for c in several] == json.loads((api_samples / "info_multiple.json").read_bytes())["items"]


def test_sample_pages(api_samples: Path) -> None:
    first = parse_uploads_page(sample(api_samples, "playlist_items_paged_1.json"))
    assert (len(first.entries), first.next_token, first.total, first.skipped) == (10, "CAoQAA", 13, 0)
    last = parse_uploads_page(sample(api_samples, "playlist_items_paged_2.json"))
    assert (len(last.entries), last.next_token) == (3, None)
    entry = first.entries[0]
    assert entry.id == "CvTApw9X8aA"
    assert entry.title.endswith("Pittsburgh ML Summit ‘19")
    assert entry.published_at == datetime(2019, 11, 21, 22, 17, 43, tzinfo=UTC)
    assert {e.availability for e in first.entries + last.entries} == {"available"}


@pytest.mark.parametrize("name", ["videos_info_multi.json", "videos_info_single.json"])
def test_sample_videos_are_stored_without_loss(database: Database, api_samples: Path, name: str) -> None:
    raw = json.loads((api_samples / name).read_bytes())["items"]
    videos = parse_videos(sample(api_samples, name))
    with database.write() as session:
        session.add(
            Channel(
                id="UC1",
                title="c",
                uploads_playlist_id="UU1",
                min_duration_s=180,
                thumbnail_size="high",
                added_at=NOW,
            )
        )
        session.flush()
        listed = [ListedVideo(v.id, v.title, v.published_at, "available") for v in videos]
        record_page(session, "UC1", listed, now=NOW, known_until=None)
        record_details(session, [details_from(v, 180) for v in videos], [], now=NOW, started_at=NOW)
    with database.read() as session:
        for item in raw:
            row = session.get_one(Video, item["id"])
            assert row.api_item == item
            assert row.title == item["snippet"]["title"]
            # These answers have no contentDetails, so no duration.
            assert (row.kind, row.duration_s) == ("unknown", None)


def test_an_answer_of_another_kind_is_refused(api_samples: Path) -> None:
    page = sample(api_samples, "playlist_items_paged_1.json")
    for parse in (parse_channels, parse_videos):
        with pytest.raises(BadAnswer):
            parse(page)


@pytest.mark.parametrize(
    ("status", "title", "thumbnails", "availability"),
    [
        ({"privacyStatus": "public"}, "Private video", {}, "available"),
        ({"privacyStatus": "unlisted"}, "T", {"default": {}}, "available"),
        ({"privacyStatus": "private"}, "Private video", {}, "private"),
        ({"privacyStatus": "privacyStatusUnspecified"}, "Deleted video", {}, "gone"),
        (None, "Private video", {}, "private"),
        (None, "Deleted video", {}, "gone"),
        (None, "Deleted video", {"default": {"url": "x"}}, "available"),
        (None, "T", {}, "available"),
    ],
)
def test_availability(status: object, title: str, thumbnails: object, availability: str) -> None:
    item = {"snippet": {"title": title, "thumbnails": thumbnails, "resourceId": {"videoId": "v"}}, "status": status}
    page = parse_uploads_page({"kind": "youtube#playlistItemListResponse", "items": [item]})
    assert [entry.availability for entry in page.entries] == [availability]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT15M33S", 933),
        ("PT2H", 7200),
        ("P1DT2H3S", 93603),
        ("PT0.9S", None),
        ("PT1.9S", 1),
        ("P0D", None),
        ("PT0S", None),
        ("-PT5S", None),
        ("P1Y", None),
        ("P99999999999D", None),
        ("PT" + "9" * 400 + "S", None),
        ("15:33", None),
        ("", None),
        (None, None),
        (933, None),
        ("PT٣S", None),
    ],
)
def test_durations(text: object, seconds: int | None) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(1, 9 * 365 * 24 * 3600))
def test_every_duration_is_read_back(seconds: int) -> None:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    text = f"P{days}DT{hours}H{rest // 60}M{rest % 60}S"
    assert parse_duration(text) == seconds


@given(st.text() | st.from_regex(r"-?P[0-9]{0,30}[DYMW]?(T[0-9.]{0,30}[HMS]?)*", fullmatch=True))
def test_no_text_breaks_the_parser_of_durations(text: str) -> None:
    parsed = parse_duration(text)
    assert parsed is None or parsed > 0


@given(st.text() | st.none() | st.integers())
def test_no_value_breaks_the_parser_of_times(value: object) -> None:
    parsed = parse_time(value)
    assert parsed is None or parsed.tzinfo is not None


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_is_read_back(moment: datetime) -> None:
    assert parse_time(moment.isoformat().replace("+00:00", "Z")) == moment


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_break_the_parser_of_json(body: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        assert isinstance(parse_json(body), dict)


@given(st.dictionaries(st.text(), st.text(st.characters()), max_size=3))
def test_texts_come_through_exactly_but_for_what_no_database_holds(value: dict[str, str]) -> None:
    parsed = parse_json(json.dumps(value).encode())
    for name, text in parsed.items():
        (name + str(text)).encode("utf-8")
        assert "\x00" not in name + str(text)
    if not re.search("[\x00\ud800-\udfff]", "".join(name + text for name, text in value.items())):
        assert parsed == value


def test_lone_surrogates_and_nul_become_replacement_characters() -> None:
    assert parse_json(rb'{"t": ["a\ud800b", "\u0000", "\ud83d\ude00"]}') == {"t": ["a\ufffdb", "\ufffd", "😀"]}


ITEM = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON | st.just("abcdefghijk"),
        "snippet": JSON | st.dictionaries(st.sampled_from(["title", "thumbnails", "publishedAt", "resourceId"]), JSON),
        "contentDetails": JSON | st.dictionaries(st.sampled_from(["duration", "videoId", "relatedPlaylists"]), JSON),
        "status": JSON,
    },
)


@given(st.lists(ITEM | JSON, max_size=5), JSON, JSON)
def test_no_item_breaks_the_parsers(items: list[Any], token: object, info: object) -> None:
    more = {"items": items, "nextPageToken": token, "pageInfo": info}
    page = parse_uploads_page({"kind": "youtube#playlistItemListResponse", **more})
    assert page.next_token is None or isinstance(page.next_token, str)
    for entry in page.entries:
        assert entry.id
    for video in parse_videos({"kind": "youtube#videoListResponse", **more}):
        details_from(video, 180)
    parse_channels({"kind": "youtube#channelListResponse", **more})
