"""All valid forms of a channel's name, and many invalid ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import BadChannel
from collector.youtube import ChannelName, parse_channel_name

ID = "UC_x5XG1OV2P6uZZ5FSM9Ttw"


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (ID, "id", ID),
        (f"  {ID}\n", "id", ID),
        (f"https://www.youtube.com/channel/{ID}", "id", ID),
        (f"http://m.youtube.com/channel/{ID}/videos?view=0#x", "id", ID),
        (f"youtube.com/channel/{ID}", "id", ID),
        ("@GoogleDevelopers", "handle", "@GoogleDevelopers"),
        ("https://www.youtube.com/@GoogleDevelopers", "handle", "@GoogleDevelopers"),
        ("https://www.youtube.com/@GoogleDevelopers/videos", "handle", "@GoogleDevelopers"),
        ("www.youtube.com/@a.b-c_d·e", "handle", "@a.b-c_d·e"),
        ("@日本語チャンネル", "handle", "@日本語チャンネル"),
        ("https://www.youtube.com/@%E6%97%A5%E6%9C%AC%E8%AA%9E", "handle", "@日本語"),
        ("HTTPS://YouTube.com/@abc", "handle", "@abc"),
        ("https://www.youtube.com/user/GoogleDevelopers", "user", "GoogleDevelopers"),
        ("https://www.youtube.com/c/GoogleDevelopers/about", "custom", "GoogleDevelopers"),
        ("https://www.youtube.com/GoogleDevelopers", "custom", "GoogleDevelopers"),
        (f"https://studio.youtube.com/channel/{ID}", "id", ID),
        (f"https://studio.youtube.com/channel/{ID}/videos/upload?filter=%5B%5D", "id", ID),
        (f"https://www.youtube.com/feeds/videos.xml?channel_id={ID}", "id", ID),
        (f"youtube.com/feeds/videos.xml?playlist_id=UU{ID[2:]}", "id", ID),
        ("https://www.youtube.com/feeds/videos.xml?user=GoogleDevelopers", "user", "GoogleDevelopers"),
        (f"https://www.youtube.com/playlist?list=UU{ID[2:]}", "id", ID),
        (f"https://www.youtube.com/playlist?list=UULF{ID[2:]}&si=x", "id", ID),
        (f"https://www.youtube.com/embed/videoseries?list=UU{ID[2:]}", "id", ID),
        (f"UU{ID[2:]}", "id", ID),
        (f"UUSH{ID[2:]}", "id", ID),
        ("@%E6%97%A5%E6%9C%AC%E8%AA%9E", "handle", "@日本語"),
        ("%40GoogleDevelopers", "handle", "@GoogleDevelopers"),
        ("https://www.youtube.com/%40abc", "handle", "@abc"),
    ],
)
def test_valid_channel_names_are_parsed(text: str, kind: str, value: str) -> None:
    name = parse_channel_name(text)
    assert (name.kind, name.value) == (kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "@",
        "@ab",
        "@" + "a" * 31,
        "@with space",
        "@a/b/c",
        "UC123",
        ID + "x",
        "UU_x5XG1OV2P6uZZ5FSM9Tt",
        "UUXX_x5XG1OV2P6uZZ5FSM9Ttw",
        "@%00abc",
        "@%2Fabc",
        "https://studio.youtube.com/video/dQw4w9WgXcQ",
        "https://www.youtube.com/feeds/videos.xml",
        "https://www.youtube.com/feeds/videos.xml?channel_id=UC123",
        "https://www.youtube.com",
        "https://www.youtube.com/",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://youtu.be/dQw4w9WgXcQ",
        "https://www.youtube.com/playlist?list=PL_x5XG1OV2P6uZZ5FSM9Ttw",
        "https://www.youtube.com/shorts/dQw4w9WgXcQ",
        "https://www.youtube.com/channel/UC123",
        "https://www.youtube.com/channel/",
        "https://www.youtube.com/user/",
        "https://www.youtube.com/c",
        "https://example.com/@GoogleDevelopers",
        "https://youtube.com.example.com/@GoogleDevelopers",
        "https://user@youtube.com/@GoogleDevelopers",
        "https://youtube.com:8080/@GoogleDevelopers",
        "ftp://youtube.com/@GoogleDevelopers",
        "file:///etc/passwd",
        "https://[youtube.com/@x",
        "'; DROP TABLE channel; --",
    ],
)
def test_invalid_channel_names_are_refused(text: str) -> None:
    with pytest.raises(BadChannel) as error:
        parse_channel_name(text)
    assert error.value.exit_code == 2
    assert ";" in str(error.value)


def test_a_bare_name_gets_a_hint() -> None:
    with pytest.raises(BadChannel, match="did you mean @GoogleDevelopers"):
        parse_channel_name("GoogleDevelopers")


@pytest.mark.slow
@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        name = parse_channel_name(text)
    except BadChannel:
        return
    assert isinstance(name, ChannelName)
    assert name.value
    assert "/" not in name.value


@given(st.from_regex(r"UC[0-9A-Za-z_-]{22}", fullmatch=True), st.sampled_from(["", "/videos", "/about?x=1"]))
def test_every_id_is_found_in_its_url(channel_id: str, tab: str) -> None:
    assert parse_channel_name(channel_id) == parse_channel_name(f"https://www.youtube.com/channel/{channel_id}{tab}")


@given(st.from_regex(r"@[A-Za-z0-9_.-]{3,30}", fullmatch=True))
def test_a_displayed_handle_can_be_parsed_again(handle: str) -> None:
    assert parse_channel_name(str(parse_channel_name(handle))) == ChannelName("handle", handle)
