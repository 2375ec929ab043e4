"""Text on the page: it can't imitate other elements, and shows nothing private."""

from __future__ import annotations

import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbtune.ui.charts import loss_chart, recall_chart
from thumbtune.ui.forms import read_titles, video_id
from thumbtune.ui.guards import safe_next
from thumbtune.ui.showing import base_name, plain_title, secrets_hidden


@given(st.text())
def test_control_and_reordering_characters_are_replaced_in_titles(text: str) -> None:
    for char in plain_title(text):
        assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def test_ordinary_titles_are_unchanged() -> None:
    for title in ("A & B <c>", "日本語の題名", "עברית\u200f!", "שָׁלוֹם", "👩‍👩‍👧 family", "café"):
        assert plain_title(title) == title
    assert plain_title("abc\u202etxt.exe") == "abc⟨U+202E⟩txt.exe"
    assert len(plain_title("a" + "\u0301" * 500)) < 10


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("the store /srv/data/my/thumbtune.db is locked; try again", "the store thumbtune.db is locked; try again"),
        ("postgresql+psycopg://me:secret@host/name can't be used", "the PostgreSQL store can't be used"),
        ("sqlite:////srv/data/thumbtune.db is gone", "the SQLite store is gone"),
        ("asked https://user:word@example.org/path?key=abc", "asked https://***@example.org/path?key=…"),
        ("asked https://user:wo/rd@example.org/path", "asked https://***@example.org/path"),
        ("postgresql://me:w,o;r'd@host/name can't be used", "the PostgreSQL store can't be used"),
        ("the key AIza" + "x" * 35 + " is refused", "the key … is refused"),
        (r"C:\Users\me\thumbtune.db can't be read", "thumbtune.db can't be read"),
        ("~/models/clip is gone (file:///home/me/x.bin)", "clip is gone (x.bin)"),
        ("1/2 of and/or https://example.org/a/b stay", "1/2 of and/or https://example.org/a/b stay"),
    ],
)
def test_messages_contain_no_path_password_or_key(told: str, shown: str) -> None:
    assert secrets_hidden(told) == shown


@pytest.mark.parametrize(
    "part", ["a", "a/", "/a", "C:\\a", "sqlite+a", "a://", "a:/b:", "key=", "AIza", "'thumbtune ", "(/a/b"]
)
def test_huge_messages_are_cut_before_they_are_examined(part: str) -> None:
    """Expressions on the whole message took minutes, in which the page answered nobody."""
    assert len(secrets_hidden(part * 1_000_000)) <= 10_001
    assert "word" not in secrets_hidden("x " * 4_990 + "https://user:" + "word" * 100 + "@example.org/")


def test_a_known_folder_with_spaces_is_hidden(tmp_path: Path) -> None:
    store = Path("/srv/my own data/store")
    assert secrets_hidden(f"there is no store at {store}/thumbtune.db; sync", [store]) == (
        "there is no store at thumbtune.db; sync"
    )
    for known in (Path.cwd(), Path.home(), Path(tempfile.gettempdir()), tmp_path):
        assert str(known) + "/" not in secrets_hidden(f"{known}/a b/c is gone")


def test_local_base_models_are_shown_without_their_path() -> None:
    assert base_name("/srv/models/encoder") == "encoder"
    assert base_name("sentence-transformers/clip-ViT-B-32") == "sentence-transformers/clip-ViT-B-32"
    assert base_name("./models/encoder/") == "encoder"


def test_form_titles_and_ids_in_urls_are_parsed() -> None:
    assert read_titles(" a \r\n\r\nb\rc\na\0\n") == (["a", "b", "c"], 0)
    titles, left_out = read_titles("\n".join(map(str, range(60))))
    assert (len(titles), left_out) == (50, 10)
    for address in (
        "https://youtu.be/dQw4w9WgXcQ?t=3",
        "https://www.youtube.com/watch?x=1&v=dQw4w9WgXcQ",
        "https://studio.youtube.com/video/dQw4w9WgXcQ/edit",
        "dQw4w9WgXcQ",
    ):
        assert video_id(address) == "dQw4w9WgXcQ"
    for other in ("", "/etc/passwd", "../x", "https://example.org/", "https://example.org/?v=dQw4w9WgXcQ", "a b"):
        assert video_id(other) is None


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb", ""])
def test_login_redirects_only_to_this_server(target: str) -> None:
    assert safe_next(target) == "/"


def test_charts_without_data_and_with_one_step() -> None:
    assert recall_chart([], []) is None
    assert loss_chart([(0.1, 1.0)]) is None
    drawn = loss_chart([(at / 1000, float(1000 - at)) for at in range(1000)])
    assert drawn is not None
    assert len(drawn.points.split()) <= 200
    assert loss_chart([(0.1, float("nan")), (0.2, 1.0), (0.3, 0.5)]) is not None
