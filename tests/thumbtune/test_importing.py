"""Imports from real files and folders of each kind, into real stores."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session
from PIL import Image

from collector.youtube import parse_channel_name
from store.db import Database, rows_as_dicts
from tests.collector.channels import channel
from tests.fakes.hub import FakeHub, Repository, serving
from tests.standin import StandIn
from tests.trainer.test_hub import use_hub
from thumbtune.importing import Imported, ImportFailed, import_rows, open_source


def jpeg(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (48, 27), (number * 20 % 255, number * 7 % 255, 90)).save(out, "JPEG")
    return out.getvalue()


def entries(n: int) -> list[dict[str, Any]]:
    return [{"id": f"video{number:06}", "title": f"Title {number}", "published": "2024-05-01"} for number in range(n)]


def write_pictures(folder: Path, n: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        (folder / f"video{number:06}.jpg").write_bytes(jpeg(number))


def videos_json(folder: Path) -> Path:
    write_pictures(folder / "thumbnails", 3)
    (folder / "videos.json").write_text(json.dumps(entries(3)))
    return folder


def metadata_csv(folder: Path) -> Path:
    write_pictures(folder, 3)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "text", "tags"])
        writer.writerows([f"video{number:06}.jpg", f"Title {number}", "a, b"] for number in range(3))
    return folder


def metadata_jsonl(folder: Path) -> Path:
    write_pictures(folder / "train", 3)
    lines = [{"file_name": f"video{number:06}.jpg", "title": f"Title {number}"} for number in range(3)]
    (folder / "train" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def table(folder: Path) -> Path:
    write_pictures(folder / "pictures", 3)
    rows = [f"Title {number}\tpictures/video{number:06}.jpg" for number in range(3)]
    (folder / "pairs.tsv").write_text("\n".join(["title\tpath", *rows]), encoding="utf-8-sig")
    return folder / "pairs.tsv"


def on_the_hub(folder: Path) -> Path:
    """The layout of a dataset on the hub: Parquet files for each split, pictures inside."""
    datasets = pytest.importorskip("datasets")
    (folder / "data").mkdir(parents=True)
    made = datasets.Dataset.from_dict(
        {"image": [jpeg(number) for number in range(3)], "title": [f"Title {number}" for number in range(3)]}
    ).cast_column("image", datasets.Image())
    made.to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    return folder


def saved(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict(
        {"anchor": [jpeg(number) for number in range(3)], "positive": [f"Title {number}" for number in range(3)]}
    ).cast_column("anchor", datasets.Image())
    datasets.DatasetDict({"train": made}).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def pairs(database: Database) -> list[dict[str, Any]]:
    with database.read() as session:
        return rows_as_dicts(session, "SELECT * FROM pairs ORDER BY title")


def counts(done: Imported) -> tuple[int, int, int, int]:
    return done.new, done.changed, done.unchanged, len(done.bad)


@pytest.mark.parametrize("make", [videos_json, metadata_csv, metadata_jsonl, table, on_the_hub, saved])
def test_each_kind_of_source_is_imported_once(database: Database, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = make(tmp_path / "my channel")
    done = import_rows(database, open_source(str(source)))
    assert counts(done) == (3, 0, 0, 0)
    found = pairs(database)
    assert [row["title"] for row in found] == ["Title 0", "Title 1", "Title 2"]
    assert len({row["channel_id"] for row in found}) == 1
    assert counts(import_rows(database, open_source(str(source)))) == (0, 0, 3, 0)
    assert pairs(database) == found
    with database.read() as session:
        history = rows_as_dicts(session, "SELECT status, new, units FROM sync_history")
    assert [(row["status"], row["new"], row["units"]) for row in history] == [("complete", 3, 0), ("complete", 0, 0)]


def test_only_changed_rows_are_imported_again(database: Database, tmp_path: Path) -> None:
    folder = videos_json(tmp_path / "ours")
    import_rows(database, open_source(str(folder)))
    (folder / "thumbnails" / "video000000.jpg").write_bytes(jpeg(9))
    changed = entries(3)
    changed[1]["title"] = "Another title"
    (folder / "videos.json").write_text(json.dumps(changed))
    assert counts(import_rows(database, open_source(str(folder)))) == (0, 2, 1, 0)
    with database.read() as session:
        seen = rows_as_dicts(session, "SELECT video_id, changed FROM changes ORDER BY video_id")
    assert seen == [
        {"video_id": "video000000", "changed": "thumbnail"},
        {"video_id": "video000001", "changed": "title"},
    ]


def test_equal_file_names_in_two_folders_are_two_videos(database: Database, tmp_path: Path) -> None:
    for first, place in enumerate(("a", "b")):
        folder = metadata_csv(tmp_path / place)
        for number in range(3):
            (folder / f"video{number:06}.jpg").write_bytes(jpeg(number + 4 * first))
        assert counts(import_rows(database, open_source(str(folder)), channel="mine")) == (3, 0, 0, 0)
    assert len(pairs(database)) == 6
    metadata_csv(tmp_path / "c")
    assert counts(import_rows(database, open_source(str(tmp_path / "c")))) == (3, 0, 0, 0), (
        "it belongs to another channel"
    )


def test_missing_values_of_a_row_keep_the_stored_values(database: Database, tmp_path: Path) -> None:
    folder = videos_json(tmp_path / "ours")
    known = [{**entry, "duration": 30 if number == 0 else 900, "tags": "a"} for number, entry in enumerate(entries(3))]
    (folder / "videos.json").write_text(json.dumps(known))
    import_rows(database, open_source(str(folder)))
    bare = [{"id": entry["id"], "title": entry["title"] + " again"} for entry in entries(3)]
    (folder / "videos.json").write_text(json.dumps(bare))
    assert counts(import_rows(database, open_source(str(folder)))) == (0, 3, 0, 0)
    with database.read() as session:
        videos = rows_as_dicts(session, "SELECT kind, duration_s, published_at, title FROM video ORDER BY id")
    assert [(row["kind"], row["duration_s"]) for row in videos] == [("short", 30), ("video", 900), ("video", 900)]
    assert all(row["published_at"] is not None and row["title"].endswith("again") for row in videos)


def test_two_spellings_of_a_channel_give_one_sync(database: Database, tmp_path: Path) -> None:
    folder = videos_json(tmp_path / "ours")
    named = [{**entry, "channel": name} for entry, name in zip(entries(3), ("@Ours", "@ours", "@OURS"), strict=True)]
    (folder / "videos.json").write_text(json.dumps(named))
    import_rows(database, open_source(str(folder)))
    with database.read() as session:
        assert rows_as_dicts(session, "SELECT status, new FROM sync_history") == [{"status": "complete", "new": 3}]


def test_a_dataset_in_the_hub_cache_with_linked_files_is_imported(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, folder = tmp_path / "repo" / "blobs", tmp_path / "repo" / "snapshots" / "abc"
    metadata_csv(blobs)
    folder.mkdir(parents=True)
    for file in blobs.iterdir():
        (folder / file.name).symlink_to(file)
    monkeypatch.setattr("thumbtune.importing.sources._downloaded", lambda _name: folder)
    assert counts(import_rows(database, open_source("me/thumbs"))) == (3, 0, 0, 0)


@pytest.mark.slow
def test_a_dataset_is_downloaded_from_the_hub_by_its_name(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = on_the_hub(tmp_path / "made")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}
    hub = FakeHub(repositories={("dataset", "creator/my-thumbs"): Repository("dataset", False, files)})
    with serving(hub):
        use_hub(monkeypatch, hub, tmp_path / "home")
        # These are computed from HF_ENDPOINT and HF_HOME when the library is imported.
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        assert counts(import_rows(database, open_source("creator/my-thumbs"))) == (3, 0, 0, 0)
        assert [row["title"] for row in pairs(database)] == ["Title 0", "Title 1", "Title 2"]
        with pytest.raises(ImportFailed, match="creator/nothing"):
            open_source("creator/nothing")
        close_session()


def test_an_invalid_hub_name_is_one_error() -> None:
    with pytest.raises(ImportFailed):
        open_source("no--such/place--")


def test_bad_rows_are_reported_and_the_others_are_imported(database: Database, tmp_path: Path) -> None:
    folder = videos_json(tmp_path / "ours")
    (folder / "thumbnails" / "video000001.jpg").write_bytes(b"no picture")
    bad = [
        {"id": "video000000", "title": "A twin"},
        {"id": "video000009", "title": "No picture"},
        {"id": "video000002", "title": " "},
        {"title": "Elsewhere", "picture": "../../secret.jpg"},
        {"id": "video000007", "title": "When", "published": "yesterday", "picture": "thumbnails/video000002.jpg"},
        "no object",
    ]
    (folder / "videos.json").write_text(json.dumps([*entries(3), *bad]))
    done = import_rows(database, open_source(str(folder)))
    assert (done.new, done.rows) == (2, 9)
    # In batches: problems of thumbnails are found after problems of rows.
    assert sorted(int(where.rpartition(" ")[2]) for where, _ in done.bad) == [2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "title,note\nx,y\n"])
def test_a_table_without_titles_or_thumbnails_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(ImportFailed, match="pairs.csv"):
        open_source(str(tmp_path / "pairs.csv"))
    with pytest.raises(ImportFailed):
        open_source(str(tmp_path / "nowhere"))


def test_text_that_a_database_refuses_does_not_end_the_import(database: Database, tmp_path: Path) -> None:
    write_pictures(tmp_path, 3)
    rows = [
        {"title": "a\0b", "image": "video000000.jpg", "channel": "c\0d", "tags": ["e\0f"]},
        {"title": "g\ud800h", "image": "video000001.jpg", "tags": "i\udfffj"},
        {"title": "NUL", "image": "video000002\0.jpg"},
        {"title": "long", "image": f"{'x' * 300}.jpg"},
        {"title": "long id", "id": "x" * 300},
        {"title": "whole", "image": "video000002.jpg"},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = import_rows(database, open_source(str(tmp_path / "pairs.jsonl")))
    assert (done.new, [where for where, _ in done.bad]) == (3, [f"pairs.jsonl, row {row}" for row in (3, 4, 5)])
    with database.read() as session:
        titles = [row["title"] for row in rows_as_dicts(session, "SELECT title FROM pairs ORDER BY title")]
    assert titles == ["a\ufffdb", "g\ufffdh", "whole"]


def imported(database: Database, folder: Path, name: str, content: str | bytes) -> Imported:
    """Write a list beside three thumbnails, and import it."""
    write_pictures(folder, 3)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return import_rows(database, open_source(str(folder / name)))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("more cells.csv", b"video000000.jpg,,Hello, world"),
        ("a quote.csv", b'video000000.jpg,,"So" he said'),
        ("not closed.csv", b'video000000.jpg,,"Hello'),
        ("latin-1.csv", "video000000.jpg,,Über".encode("latin-1")),
        ("date.csv", b"video000000.jpg,0001-01-01T00:00:00+05:00,Hello"),
        ("long.csv", b'"data:image/png;base64,' + b"A" * 5000 + b'",,Hello'),
        ("cut.jsonl", b'{"path": "video000000.jpg", "ti'),
        ("deep.jsonl", b"[" * 100_000),
        ("latin-1.jsonl", '{"path": "video000000.jpg", "title": "Über"}'.encode("latin-1")),
        ("nul.jsonl", b'{"path": "video000000\\u0000.jpg", "title": "Hello"}'),
        ("long.jsonl", b'{"id": "' + b"A" * 5000 + b'", "path": "", "title": "Hello"}'),
    ],
)
def test_a_row_that_cannot_be_read_is_reported_and_the_others_are_imported(
    database: Database, tmp_path: Path, name: str, bad: bytes
) -> None:
    if name.endswith(".csv"):
        lines = [b"path,date,title", b"video000001.jpg,,Title 1", b"video000002.jpg,,Title 2", bad]
    else:
        good = (json.dumps({"path": f"video00000{n}.jpg", "title": f"Title {n}"}).encode() for n in (1, 2))
        lines = [bad, *good]
    assert counts(imported(database, tmp_path, name, b"\n".join(lines))) == (2, 0, 0, 1)
    assert [row["title"] for row in pairs(database)] == ["Title 1", "Title 2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("all.jsonl", "no json\nat all\n"),
        ("deep.json", "[" * 100_000),
        ("utf-16.csv", "path,title\nvideo000000.jpg,Hello\n".encode("utf-16")),
    ],
)
def test_a_file_without_a_row_that_can_be_read_is_refused(tmp_path: Path, name: str, content: str | bytes) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ImportFailed, match=name):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", "path;title\r\nvideo000000.jpg;Title, with a comma;;\r\n"),
        ("transcripts.csv", f"path,transcript,title\nvideo000000.jpg,{'x' * 200_000},Title"),
        ("url.csv", "path,title,id\nvideo000000.jpg,Title,https://youtu.be/dQw4w9WgXcQ?t=3\n"),
        ("nan.json", '[{"path": "video000000.jpg", "title": "Title", "id": NaN, "channel": NaN, "date": NaN}]'),
    ],
)
def test_a_table_as_other_programs_write_it_is_imported(
    database: Database, tmp_path: Path, name: str, content: str
) -> None:
    assert counts(imported(database, tmp_path, name, content)) == (1, 0, 0, 0)
    (pair,) = pairs(database)
    assert pair["title"].startswith("Title")
    assert (pair["video_id"] == "dQw4w9WgXcQ") == (name == "url.csv")
    assert pair["video_id"] != "nan"


def test_text_that_cannot_be_stored_is_replaced(database: Database, tmp_path: Path) -> None:
    entry = {"path": "video000000.jpg", "title": "a\0b\ud800", "channel": "c\0", "tags": ["\0", "\udfff"]}
    assert counts(imported(database, tmp_path, "odd.jsonl", json.dumps(entry))) == (1, 0, 0, 0)
    assert [row["title"] for row in pairs(database)] == ["a\ufffdb\ufffd"]


def test_a_channel_may_be_named_by_its_url(database: Database, tmp_path: Path) -> None:
    names = (
        "@Ours",
        "https://www.youtube.com/@ours/videos",
        "https://www.youtube.com/channel/UCBJycsmduvYEL83R_U4JriQ",
    )
    rows = [f"Title {n},video00000{n}.jpg,{name}" for n, name in enumerate(names)]
    done = imported(database, tmp_path, "pairs.csv", "\n".join(["title,path,channel", *rows]))
    assert counts(done) == (3, 0, 0, 0)
    assert len(done.channels) == 2
    assert "UCBJycsmduvYEL83R_U4JriQ" in done.channels


@pytest.mark.parametrize(
    "names",
    [
        ("日本テレビ", "テレビ朝日", "한국 방송"),
        ("A channel of one company: north", "A channel of one company: south", "A channel of one company?"),
        ("Tea & cake", "Tea (cake)", "Tea + cake"),
    ],
)
def test_channels_with_different_names_stay_apart(database: Database, tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = [f"Title {n},video00000{n}.jpg,{name}" for n, name in enumerate(names)]
    for _ in range(2):
        done = imported(database, tmp_path, "pairs.csv", "\n".join(["title,path,channel", *rows]))
        handles = [handle for handle in done.channels.values() if handle]
        assert len(done.channels) == len(set(handles)) == 3
        assert all(parse_channel_name(handle).kind == "handle" for handle in handles)
        assert len(pairs(database)) == 3


def test_a_channel_with_an_id_keeps_its_handle_and_title(database: Database, tmp_path: Path) -> None:
    ids = ("UCBJycsmduvYEL83R_U4JriQ", "UCBJycsmduvYEL83R_U4JriR")
    rows = [f"Title {n},video00000{n}.jpg,{id_},{('@ours', 'Theirs')[n]}" for n, id_ in enumerate(ids)]
    done = imported(database, tmp_path, "pairs.csv", "\n".join(["title,path,channel_id,channel", *rows]))
    assert done.channels == {ids[0]: "@ours", ids[1]: None}
    with database.read() as session:
        titles = rows_as_dicts(session, "SELECT title FROM channel ORDER BY title")
    assert [row["title"] for row in titles] == ["Theirs", "ours"]


def test_thumbnails_are_fetched_from_allowed_hosts_only(database: Database, tmp_path: Path) -> None:
    with StandIn(channel(2)) as server:
        base = f"http://{server.thumbnail_host}/vi"
        rows = [
            f"Title 0,{base}/video000000/hqdefault.jpg",
            f"Title 1,{base}/video000001/hqdefault.jpg",
            "Inside,http://169.254.169.254/latest",
        ]
        (tmp_path / "pairs.csv").write_text("\n".join(["title,thumbnail_url", *rows]))
        hosts = (server.thumbnail_host,)
        done = import_rows(database, open_source(str(tmp_path / "pairs.csv")), hosts=hosts)
        assert counts(done) == (2, 0, 0, 1)
        assert [row["video_id"] for row in pairs(database)] == ["video000000", "video000001"], "as in the addresses"
        again = import_rows(database, open_source(str(tmp_path / "pairs.csv")), hosts=hosts)
        assert counts(again) == (0, 0, 2, 1)


def test_rows_can_name_their_channels(database: Database, tmp_path: Path) -> None:
    write_pictures(tmp_path, 3)
    rows = ["Title 0,video000000.jpg,@one", "Title 1,video000001.jpg,@two", "Title 2,video000002.jpg,"]
    (tmp_path / "pairs.csv").write_text("\n".join(["title,path,channel", *rows]))
    done = import_rows(database, open_source(str(tmp_path / "pairs.csv")), channel="@mine")
    assert set(done.channels.values()) == {"@one", "@two", "@mine"}
