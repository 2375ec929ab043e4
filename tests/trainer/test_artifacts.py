"""Trained tensors on disk: written atomically, checked when they are read."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from store.db import Database
from tests.trainer.tiny import load_encoder
from trainer.artifacts import (
    can_save,
    check_empty,
    check_place,
    check_writable,
    load_tensors,
    models_dir,
    put_tensors,
    save_tensors,
    save_whole_model,
    tensors_file,
    whole_folder,
)
from trainer.errors import BadSetting, CantSave, RunUnusable
from trainer.models import Encoder, named_parameters

NAME = "0.model.text_projection.weight"


def test_saved_tensors_are_loaded(encoder: Encoder, tiny_clip: Path, tmp_path: Path) -> None:
    weight = dict(encoder.model.named_parameters())[NAME] + 1
    path = tmp_path / "models" / "run-1.safetensors"
    digest = save_tensors({NAME: weight}, path)
    assert list(load_file(path)) == [NAME]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    fresh = load_encoder(str(tiny_clip), "cpu")
    put_tensors(named_parameters(fresh.model), load_tensors(path, digest), str(path))
    assert torch.equal(dict(fresh.model.named_parameters())[NAME], weight)


def test_a_missing_changed_or_foreign_file_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    digest = save_tensors({NAME: torch.ones(2, 3)}, path)
    with pytest.raises(RunUnusable, match="not found at"):
        load_tensors(tmp_path / "lost", digest)
    for misfit in ({NAME: torch.ones(2, 3)}, {"no.such.parameter": torch.ones(1)}):
        with pytest.raises(RunUnusable, match="run 1's file"):
            put_tensors(named_parameters(encoder.model), misfit, "run 1's file")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RunUnusable, match="differs from the file"):
        load_tensors(path, digest)


def test_an_unwritable_path_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CantSave, match=r"can't be written \("):
        save_tensors({NAME: torch.ones(1)}, tmp_path / "file" / "run.safetensors")


def test_a_full_disk_is_a_clear_error() -> None:
    """Every write to /dev/full fails as on a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(CantSave, match="the disk is full"), can_save(Path("there")):
        Path("/dev/full").write_bytes(b"x")
    with pytest.raises(CantSave, match="the disk is full"), can_save(Path("there")):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")


def test_a_folder_that_is_not_empty_is_unchanged(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(CantSave, match="is not an empty folder"):
        save_whole_model(encoder.model, tmp_path, "card")
    with pytest.raises(CantSave, match="is not an empty folder"):
        check_empty(tmp_path / "kept")
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_models_are_stored_beside_the_store(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THUMBTUNE_MODELS", raising=False)
    assert models_dir(sqlite_database) == tmp_path / "thumbtune-models"
    monkeypatch.setenv("THUMBTUNE_MODELS", "elsewhere")
    assert models_dir(sqlite_database) == Path.cwd() / "elsewhere"
    monkeypatch.setenv("THUMBTUNE_MODELS", "~no-such-user/models")
    with pytest.raises(BadSetting, match="no such home folder"):
        models_dir(sqlite_database)


@pytest.mark.parametrize("there", [True, False])
def test_a_model_gets_its_name_when_it_is_complete(encoder: Encoder, tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "models" / "whole"
    if there:
        folder.mkdir(parents=True)
    save_whole_model(encoder.model, folder, "card")
    assert [path.name for path in folder.parent.iterdir()] == ["whole"]
    assert (folder / "README.md").read_text() == "card"
    assert load_encoder(str(folder), "cpu").fingerprint == encoder.fingerprint


def test_an_existing_folder_is_kept_and_filled(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is a shell's working folder, and belongs to a group."""
    folder = tmp_path / "models" / "whole"
    folder.mkdir(parents=True)
    folder.chmod(0o2775)
    monkeypatch.chdir(folder)
    check_place(Path())
    save_whole_model(encoder.model, Path(), "card")
    assert Path("README.md").read_text() == "card"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2775
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")], "no temporary files left"
    assert [path.name for path in folder.parent.iterdir()] == ["whole"]
    assert load_encoder(str(folder), "cpu").fingerprint == encoder.fingerprint


def test_files_written_there_meanwhile_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(CantSave, match="out is no longer empty"), whole_folder(folder) as whole:  # noqa: PT012
        (whole / "README.md").write_text("card")
        (folder / "README.md").write_text("mine")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    assert (folder / "README.md").read_text() == "mine"


def test_the_target_path_is_checked_as_given(encoder: Encoder, tmp_path: Path) -> None:
    """The folder `new` of `new/..` does not exist."""
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "kept").write_text("mine")
    folder = tmp_path / "new" / ".." / "up"
    with pytest.raises(CantSave, match=r"new/\.\./up is not an empty folder"):
        check_place(folder)
    with pytest.raises(CantSave, match=r"new/\.\./up is not an empty folder"):
        save_whole_model(encoder.model, folder, "card")
    assert [path.name for path in (tmp_path / "up").iterdir()] == ["kept"]
    assert [path.name for path in tmp_path.iterdir()] == ["up"]


def test_a_name_may_have_the_maximum_length(encoder: Encoder, tmp_path: Path) -> None:
    save_whole_model(encoder.model, tmp_path / ("n" * 255), "card")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]
    with pytest.raises(CantSave, match=r"^the file name n{60}\.\.\. is too long"):
        check_place(Path("n" * 256))


def test_the_folder_of_tensors_is_refused_as_a_target(tmp_path: Path) -> None:
    """The folder is empty until the run is done."""
    models = tmp_path / "thumbtune-models"
    models.mkdir()
    (tmp_path / "link").symlink_to(models)
    for folder in (models, tmp_path / "link", tmp_path / "new" / ".." / "thumbtune-models"):
        with pytest.raises(CantSave, match="reserved"):
            check_place(folder, models)
    with pytest.raises(CantSave, match="reserved"):
        check_place(tmp_path / "new", tmp_path / "new" / "models")
    check_place(models / "whole", models)
    check_place(models)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_stays(encoder: Encoder, tmp_path: Path, there: bool) -> None:
    real, link = tmp_path / "disk" / "model", tmp_path / "out"
    real.parent.mkdir()
    if there:
        real.mkdir()
    link.symlink_to(real)
    check_place(link)
    save_whole_model(encoder.model, link, "card")
    assert link.is_symlink()
    assert [path.name for path in real.parent.iterdir()] == ["model"]
    assert load_encoder(str(link), "cpu").fingerprint == encoder.fingerprint


def test_a_circular_link_is_a_clear_error(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "out")
    with pytest.raises(CantSave, match="out is a circular link"):
        check_place(tmp_path / "out")
    with pytest.raises(CantSave, match="circular link"):
        save_whole_model(encoder.model, tmp_path / "out", "card")


@pytest.mark.processes
def test_a_mount_point_is_filled(tiny_clip: Path, tmp_path: Path) -> None:
    """A mount of another disk, and a bind mount of the same disk, which has no visible difference."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    places = ("disk", "bound")
    mounted = f"cd {tmp_path} && mount -t tmpfs none disk && mount --bind source bound"
    for name in ("source", *places):
        (tmp_path / name).mkdir()
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, mounted], check=False, capture_output=True).returncode
    ):
        pytest.skip("nothing can be mounted here")
    code = f"""
from pathlib import Path
from trainer.artifacts import check_place, save_whole_model
from tests.trainer.tiny import load_encoder
encoder = load_encoder({str(tiny_clip)!r}, "cpu")
for name in {places}:
    out = Path({str(tmp_path)!r}, name)
    check_place(out)
    save_whole_model(encoder.model, out, "card")
    assert load_encoder(str(out), "cpu").fingerprint == encoder.fingerprint
    print(sorted(path.name for path in out.iterdir() if path.name.startswith(".")), (out / "README.md").read_text())
"""
    arguments = [*alone, mounted + ' && cd "$2" && exec "$0" -c "$1"', sys.executable, code, str(Path.cwd())]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[] card\n[] card\n"), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bound", "disk", "source"]
    assert [list((tmp_path / name).iterdir()) for name in places] == [[], []]


def test_targets_are_checked_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "models")
    check_place(tmp_path / "other" / "whole")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["new", "new/models", "other"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CantSave, match="file is a file, not a folder"):
        check_writable(tmp_path / "file")
    with pytest.raises(CantSave, match="file is a file, not a folder"):
        check_place(tmp_path / "file" / "whole")
    with pytest.raises(CantSave, match=r"can't be written \("):
        check_writable(tmp_path / "file" / "models" / "deep")


def test_tensors_are_found_after_the_store_was_moved(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THUMBTUNE_MODELS", raising=False)
    recorded, moved = tmp_path / "old" / "run-1.safetensors", tmp_path / "thumbtune-models" / "run-1.safetensors"
    with pytest.raises(RunUnusable, match=f"not found at {recorded} or {moved}"):
        tensors_file(sqlite_database, str(recorded))
    for place in (moved, recorded):
        save_tensors({NAME: torch.ones(1)}, place)
        assert tensors_file(sqlite_database, str(recorded)) == place
    with pytest.raises(RunUnusable, match=r"not found at [^ ]*; "):
        tensors_file(sqlite_database, str(moved.with_name("run-2.safetensors")))


def test_tensors_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_tensors({NAME: torch.ones(1)}, tmp_path / "run.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "run.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the synced files are read from /proc")
def test_tensors_and_their_folder_are_synced_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced, sync = tmp_path / "models" / "run.safetensors", list[tuple[int, bool]](), os.fsync

    def noted(handle: int) -> None:
        synced.append((os.fstat(handle).st_ino, path.exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    save_tensors({NAME: torch.ones(1)}, path)
    assert synced[:2] == [(path.stat().st_ino, False), (path.parent.stat().st_ino, True)]
    assert (tmp_path.stat().st_ino, True) in synced, "the folder was new"


def test_unreadable_tensors_are_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    digest = save_tensors({NAME: torch.ones(1)}, path)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(RunUnusable, match="permission"):
            load_tensors(path, digest)
    finally:
        if root:
            os.seteuid(0)
