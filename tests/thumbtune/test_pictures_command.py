"""Commands on a store whose thumbnails are in a folder or bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store.db.places import open_place
from tests.object_store import SECRET, ObjectStore, folder_url
from tests.thumbtune.asking import Run, fill_store, runner


@pytest.fixture
def run(
    migrated_sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THUMBTUNE_PICTURES", raising=False)
    return runner(fill_store(migrated_sqlite_url), monkeypatch, capfd)


def test_commands_need_the_setting_after_thumbnails_were_moved(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = folder_url(tmp_path / "pictures")
    moved = json.loads(run("db", "move-pictures", url, "--json").stdout)
    assert (moved["place"], moved["moved"]) == (url, 15)
    for command in (("db", "check"), ("runs",), ("export", "dataset", "out"), ("db", "upgrade")):
        refused = run(*command)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert url in refused.stderr
    (tmp_path / "thumbtune.toml").write_text(f'pictures = "{url}"\n')
    assert run("db", "check").returncode == 0
    assert run("export", "dataset", "out").returncode == 0
    shown = {row: of["value"] for row, of in json.loads(run("config", "--json").stdout).items()}
    assert shown["pictures"] == url
    monkeypatch.setenv("THUMBTUNE_PICTURES", folder_url(tmp_path / "other"))
    assert run("runs").returncode == 2
    assert run("db", "move-pictures", "database").returncode == 0
    monkeypatch.setenv("THUMBTUNE_PICTURES", "database")
    assert run("db", "check").returncode == 0


def test_backup_restore_and_copy_report_the_place_of_the_thumbnails(run: Run, tmp_path: Path) -> None:
    url = folder_url(tmp_path / "pictures")
    run("db", "move-pictures", url)
    (tmp_path / "thumbtune.toml").write_text(f'pictures = "{url}"\n')
    assert url in run("db", "backup", "backups/").stderr
    assert url in run("db", "restore", "backups", db=f"sqlite:///{tmp_path / 'again.db'}").stderr
    assert run("db", "check", db=f"sqlite:///{tmp_path / 'again.db'}").returncode == 0
    assert url in run("db", "copy", str(tmp_path / "copy.db")).stderr
    assert run("db", "check", db=f"sqlite:///{tmp_path / 'copy.db'}").returncode == 0


def test_check_marks_lost_thumbnails_and_removes_orphaned_files(
    run: Run, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("db", "move-pictures", bucket.url)
    monkeypatch.setenv("THUMBTUNE_PICTURES", bucket.url)
    place = open_place(bucket.url)
    (lost, *_), *_ = place.listed()
    place.delete_names([lost.name])
    place.put_many({"ab" * 32: b"of a killed sync"})
    checked = run("db", "check", "--json")
    assert checked.returncode == 1
    assert lost.sha256 in str(json.loads(checked.stdout)["problems"]["pictures"])
    failed = run("sql", "--json", "SELECT count(*) AS n FROM picture_failure")
    assert json.loads(failed.stdout) == [{"n": 1}]
    for name in ("config", "runs"):
        assert SECRET not in str(run(name))


def test_an_invalid_setting_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBTUNE_PICTURES", f"s3://key:{SECRET}@bucket/prefix")
    for command in (("runs",), ("config",), ("db", "move-pictures", f"s3://key:{SECRET}@bucket")):
        done = run(*command)
        assert SECRET not in done.stdout + done.stderr
    assert run("runs").returncode == 2
