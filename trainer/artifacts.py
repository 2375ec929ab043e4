"""Trained tensors on disk. Only changed tensors are stored; files are written atomically and verified when read."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from store.db import Database
from store.files import move_synced
from trainer.errors import BadSetting, CantSave, RunUnusable, causes_of
from trainer.quiet import quiet_libraries

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

__all__ = [
    "can_save",
    "check_empty",
    "check_place",
    "check_writable",
    "load_tensors",
    "models_dir",
    "put_tensors",
    "save_tensors",
    "save_whole_model",
    "tensors_file",
    "whole_folder",
]


def models_dir(database: Database) -> Path:
    """The folder of the runs' tensors: `THUMBTUNE_MODELS`, or `thumbtune-models` by the SQLite file or in this folder.

    Raises:
        BadSetting: `THUMBTUNE_MODELS` begins with the home folder of an unknown user.
    """
    named = os.environ.get("THUMBTUNE_MODELS")
    if named:
        try:
            return Path(named).expanduser().absolute()
        except RuntimeError as error:
            raise BadSetting(f"THUMBTUNE_MODELS={named}: no such home folder; use an absolute path") from error
    beside = database.path.parent if database.path else Path()
    return (beside / "thumbtune-models").absolute()


def tensors_file(database: Database, recorded: str) -> Path:
    """The file of a run's tensors: the recorded path, or if it has moved, the same name in `models_dir`.

    `load_tensors` checks the file against the run's SHA-256.

    Raises:
        BadSetting: see `models_dir`.
        RunUnusable: the file is at neither path.
    """
    path = Path(recorded)
    if _is_there(path):
        return path
    moved = models_dir(database) / path.name
    if _is_there(moved):
        return moved
    where = f"{path}" if moved == path else f"{path} or {moved}"
    hidden = _why_not_there(path, moved)
    raise RunUnusable(f"the run's tensors were not found at {where}{hidden}; restore the file, or train again")


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # for example, another user's folder that is not readable
        return False


def _why_not_there(*paths: Path) -> str:
    for path in paths:
        try:
            path.stat()
        except PermissionError:
            return f"; {path.parent} can't be read by this user"
        except OSError:
            continue
    return ""


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write tensors to `path` (safetensors); return the file's SHA-256 (hex). They survive a power cut from then on.

    Raises:
        CantSave: the file can't be written; nothing is left at `path`.
    """
    from safetensors.torch import save_file  # noqa: PLC0415 (loads torch, which checks of folders do not need)

    with can_save(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            # `tempfile` and safetensors let only the owner read; a shared store's models follow the umask.
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
            temporary.chmod(mode)
            digest = _sha256(temporary)
            move_synced(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return digest


def load_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read a run's tensors.

    Raises:
        RunUnusable: the file is missing, or differs from the file that the run wrote.
    """
    from safetensors.torch import load_file  # noqa: PLC0415 (loads torch)

    try:
        if not path.is_file():
            raise RunUnusable(f"the run's tensors were not found at {path}; restore the file, or train again")
        if _sha256(path) != sha256:
            raise RunUnusable(
                f"{path} differs from the file that the run wrote; restore it from a backup, or train again"
            )
        tensors: dict[str, Tensor] = load_file(path)
    except OSError as error:
        raise RunUnusable(f"{path} can't be read ({error.strerror}); give this user permission to read it") from error
    except SafetensorError as error:
        raise RunUnusable(f"{path} can't be read ({error}); restore it from a backup, or train again") from error
    return tensors


def put_tensors(named: Iterable[tuple[str, Tensor]], tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy tensors into a model's parameters, in place.

    Args:
        named: the model's parameters, as `trainer.models.named_parameters` gives them.
        tensors: {name: values}.
        origin: the source of the tensors, for error messages.

    Raises:
        RunUnusable: a name or shape does not match; the message names `origin`.
    """
    parameters = dict(named)
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise RunUnusable(f"{origin} does not match the base model ({name}); the file may belong to another run")
        parameters[name].data.copy_(tensor)


def check_empty(folder: Path) -> None:
    """Refuse a folder that is not empty, before work is spent on filling it.

    The path is checked as given: the system finds nothing at `new/../up` while `new` does not exist.

    Raises:
        CantSave: the path is a file, or the folder is not empty or not readable.
    """
    with can_save(folder):
        real = real_folder(folder)
        if real.exists() and (not real.is_dir() or any(real.iterdir())):
            raise CantSave(f"{folder} is not an empty folder; use a new folder")


def check_writable(folder: Path) -> None:
    """Create a folder and check that files can be created in it, before work is spent on its content.

    Raises:
        CantSave: the folder can't be created or written to.
    """
    with can_save(folder):
        if folder.exists() and not folder.is_dir():
            raise CantSave(f"{folder} is a file, not a folder; move it, or use another folder")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def check_place(folder: Path, models: Path | None = None) -> None:
    """Check that `save_whole_model` can write to `folder`, before work is spent on the model.

    Args:
        folder: a new or empty folder.
        models: the folder of the runs' tensors, if the model is still to be trained; `folder` must be a different
            folder.

    Raises:
        CantSave: `folder` is a file, is not empty, is `models` or contains it, or can't be written to.
    """
    with can_save(folder):
        check_empty(folder)
        real = real_folder(folder)
        if models is not None and real in (real_folder(models), *real_folder(models).parents):
            raise CantSave(f"{folder} is reserved for the trained tensors of all runs; use another folder")
        check_writable(_staging_parent(real))
        if real.exists():
            check_writable(real)


def save_whole_model(model: SentenceTransformer, folder: Path, card: str) -> None:
    """Write the model as a folder that `SentenceTransformer(folder)` loads, with our own card as its README.

    The library's generated card is not written: it would contain training titles, thumbnails and local paths. The
    folder appears only when it is complete, so an interrupted command can be run again.

    Raises:
        CantSave: the folder is not empty, or can't be written.
    """
    check_empty(folder)
    with can_save(folder), quiet_libraries(), whole_folder(folder) as whole:
        model.save_pretrained(str(whole), create_model_card=False)
        readme = whole / "README.md"
        readme.write_text(card, encoding="utf-8")
        for file in whole.rglob("*.safetensors"):
            file.chmod(readme.stat().st_mode)  # by the umask; safetensors lets only the owner read


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose content moves to `folder` when the block ends. After an error, nothing is moved.

    If `folder` is a link, its target is used. An existing empty folder is kept and filled, because it may be a mount
    point or a shell's current folder, and has an owner and mode.

    Raises:
        CantSave: another process has written to `folder` in the meantime.
        OSError: the content can't be moved.
    """
    real = real_folder(folder)
    place = _staging_parent(real)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".thumbtune-", dir=place) as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        yield whole
        if not real.exists():
            whole.replace(real)
            return
        if _others(real, scratch):
            raise CantSave(f"{real} is no longer empty; use a new folder")
        try:
            for path in whole.iterdir():
                shutil.move(path, real)  # a folder that is mounted from the same disk looks like a normal folder
        except BaseException:
            for path in _others(real, scratch):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise


def _others(folder: Path, scratch: str) -> set[Path]:
    return set(folder.iterdir()) - {Path(scratch)}


def real_folder(folder: Path) -> Path:
    """Return the folder that `folder` links to, or `folder` itself.

    Raises:
        CantSave: the link is circular.
    """
    real = Path(os.path.realpath(folder))  # Path.resolve raises for a circular link up to Python 3.12 only
    if real.is_symlink():
        raise CantSave(f"{folder} is a circular link; use another folder")
    return real


def _staging_parent(folder: Path) -> Path:
    """The folder in which to prepare a folder's content: its parent, or itself if the parent is unsuitable.

    The parent is unsuitable if it is on another disk or not writable. With the parent, a killed command leaves nothing
    in `folder`, so the command can be run again.
    """
    inside = folder.is_dir() and (os.path.ismount(folder) or not os.access(folder.parent, os.W_OK))
    return folder if inside else folder.parent


@contextmanager
def can_save(path: Path) -> Iterator[None]:
    """Convert errors while writing to `path` into `CantSave` with a one-line message."""
    try:
        yield
    except Exception as error:
        # The datasets library reports a full disk as an error of its own.
        if any(_is_full(cause) for cause in causes_of(error)):
            raise CantSave(f"{path} can't be written: the disk is full; free some space and run again") from error
        if not isinstance(error, OSError | SafetensorError):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise CantSave(f"the file name {str(path)[:60]}... is too long; use a shorter name") from error
        raise CantSave(f"{path} can't be written ({error}); check the folder's permissions") from error


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, OSError | SafetensorError) and "No space left" in str(error)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
