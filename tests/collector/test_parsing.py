"""Parsing of the API's answers: recorded samples without loss, and answers with any content."""

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
from collector.sync.plan import details_from
from collector.youtube.parsing import (
    parse_channels,
    parse_duration,
    parse_json,
    parse_time,
    parse_uploads_page,
    parse_videos,
)
from store.db import Database
from store.tables import Channel, Video
from store.youtube import ListedVideo, record_details, record_page

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


def test_a_response_of_another_kind_is_refused(api_samples: Path) -> None:
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
def test_every_duration_is_parsed_exactly(seconds: int) -> None:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    text = f"P{days}DT{hours}H{rest // 60}M{rest % 60}S"
    assert parse_duration(text) == seconds


@pytest.mark.slow
@given(st.text() | st.from_regex(r"-?P[0-9]{0,30}[DYMW]?(T[0-9.]{0,30}[HMS]?)*", fullmatch=True))
def test_any_text_is_parsed_as_a_duration_or_none(text: str) -> None:
    parsed = parse_duration(text)
    assert parsed is None or parsed > 0


@given(st.text() | st.none() | st.integers())
def test_any_value_is_parsed_as_a_time_or_none(value: object) -> None:
    parsed = parse_time(value)
    assert parsed is None or parsed.tzinfo is not None


@given(st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_time_is_parsed_exactly(moment: datetime) -> None:
    assert parse_time(moment.isoformat().replace("+00:00", "Z")) == moment


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_parsed_as_json_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        assert isinstance(parse_json(body), dict)


@given(st.dictionaries(st.text(), st.text(st.characters()), max_size=3))
def test_text_is_unchanged_except_for_characters_that_databases_refuse(value: dict[str, str]) -> None:
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


@pytest.mark.slow
@given(st.lists(ITEM | JSON, max_size=5), JSON, JSON)
def test_any_item_is_parsed_or_skipped(items: list[Any], token: object, info: object) -> None:
    more = {"items": items, "nextPageToken": token, "pageInfo": info}
    with contextlib.suppress(BadAnswer):
        page = parse_uploads_page({"kind": "youtube#playlistItemListResponse", **more})
        assert page.next_token is None or isinstance(page.next_token, str)
        assert len(page.entries) + page.skipped <= len(items)
    for video in parse_videos({"kind": "youtube#videoListResponse", **more}):
        details_from(video, 180)
    parse_channels({"kind": "youtube#channelListResponse", **more})


def page_of(**fields: object) -> dict[str, Any]:
    return {"kind": "youtube#playlistItemListResponse", "items": [], **fields}


@pytest.mark.parametrize(
    "token", [5, True, [], {}, ["x"], "x" * 2_001, "a b\n", "\u202e", "é"], ids=lambda token: repr(token)[:12]
)
def test_an_invalid_token_does_not_end_the_listing(token: object) -> None:
    with pytest.raises(BadAnswer, match="token"):
        parse_uploads_page(page_of(nextPageToken=token))


@pytest.mark.parametrize("token", [None, ""])
def test_a_missing_token_ends_the_listing(token: object) -> None:
    assert parse_uploads_page(page_of(nextPageToken=token)).next_token is None
    assert parse_uploads_page(page_of(nextPageToken="../..?key=%00&")).next_token == "../..?key=%00&"


@pytest.mark.parametrize("total", [-1, 1_000_001, 10**4000, 1.5, "13", None, [], {}])
def test_an_impossible_number_of_entries_is_none(total: object) -> None:
    assert parse_uploads_page(page_of(pageInfo={"totalResults": total})).total is None


@pytest.mark.parametrize(
    "video_id",
    [
        "",
        "../../etc/passwd",
        "a/b",
        "a" * 65,
        "a b",
        "a\x00b",
        "\u202eabc",
        "abc\n",
        "'; DROP TABLE video",
        7,
        None,
        ["x"],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_an_invalid_id_excludes_only_its_item(video_id: object) -> None:
    good = {"id": "abcdefghijk", "contentDetails": {"videoId": "abcdefghijk"}}
    bad = {"id": video_id, "contentDetails": {"videoId": video_id}}
    page = parse_uploads_page(page_of(items=[bad, good, bad]))
    assert ([entry.id for entry in page.entries], page.skipped) == (["abcdefghijk"], 2)
    (video,) = parse_videos({"kind": "youtube#videoListResponse", "items": [bad, good]})
    assert (video.id, video.title, video.duration_s, video.thumbnails) == ("abcdefghijk", "", None, {})


@pytest.mark.parametrize("channel_id", ["", "UC", "UC/../../../../../../etc", "UC" + "x" * 100_000, "HC" + "x" * 22, 7])
def test_a_channel_with_an_invalid_id_is_skipped(channel_id: object) -> None:
    assert parse_channels({"kind": "youtube#channelListResponse", "items": [{"id": channel_id}]}) == []


@pytest.mark.parametrize("uploads", ["UU/../x", "x" * 65, 5, None, ""])
def test_an_invalid_uploads_playlist_is_replaced_by_the_default(uploads: object) -> None:
    item = {"id": "UC" + "x" * 22, "contentDetails": {"relatedPlaylists": {"uploads": uploads}}}
    (channel,) = parse_channels({"kind": "youtube#channelListResponse", "items": [item]})
    assert channel.uploads_playlist_id == "UU" + "x" * 22


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        (b'{"t": "a\xed\xa0\x80b"}', {"t": "a\ufffdb"}),
        (b'{"\xed\xbf\xbf": 1}', {"\ufffd": 1}),
        ('{"t": "\\ud800\\u0000"}'.encode("utf-16"), {"t": "\ufffd\ufffd"}),
        ('{"t": "한"}'.encode(), {"t": "한"}),
    ],
    ids=["raw surrogate", "in a name", "utf-16", "a character that begins with the same byte"],
)
def test_no_encoding_lets_unstorable_characters_through(body: bytes, parsed: dict[str, Any]) -> None:
    assert parse_json(body) == parsed


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 5_000])
def test_numbers_that_databases_refuse_are_refused(number: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_json(b'{"n": ' + number + b"}")


def test_so_many_values_and_no_more() -> None:
    """Each empty object takes 64 bytes of memory, and 3 of an answer."""
    assert len(parse_json(b'{"a": [' + b"{}," * 900_000 + b"1]}")["a"]) == 900_001
    with pytest.raises(BadAnswer):
        parse_json(b'{"a": [' + b"{}," * 1_100_000 + b"1]}")


@pytest.mark.parametrize("deep", [32, 100, 450, 600, 900, 100_000])
def test_deep_nesting_is_refused(deep: int) -> None:
    for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
        body = b'{"t": "\\u0041", "a": ' + opened * deep + b"1" + closed * deep + b"}"
        with pytest.raises(BadAnswer):
            parse_json(body)
    parse_json(b'{"a": ' + b"[" * 31 + b"]" * 31 + b"}")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
def test_times_at_the_ends_of_the_calendar_are_none(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    "title",
    ["", " ", "\u200b", "\u2800\u2800", "\u3164", "\u00a0\ufeff", "\u115f\u1160", "\uffa0 \u2060", "\U000e0020"],
)
def test_an_invisible_title_is_empty(title: str) -> None:
    (video,) = parse_videos(
        {"kind": "youtube#videoListResponse", "items": [{"id": "dQw4w9WgXcQ", "snippet": {"title": title}}]}
    )
    assert video.title == ""


@pytest.mark.parametrize("title", ["a", " \u200ba ", "\U0001f98a", "\u3164\u72d0", "?", "\u0e01\u0e33", "1"])
def test_a_title_is_kept_exactly(title: str) -> None:
    (video,) = parse_videos(
        {"kind": "youtube#videoListResponse", "items": [{"id": "dQw4w9WgXcQ", "snippet": {"title": title}}]}
    )
    assert video.title == title
