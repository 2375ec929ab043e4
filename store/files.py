"""Move files so that they survive a power cut, and restrict their permissions."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["move_synced", "narrow"]


def move_synced(whole: Path, target: Path) -> None:
    """Rename a complete file or folder in one step that survives a power cut.

    The content is synced to the disk before the move, and the target's folder after it. Otherwise, the file system may
    write the name before the content, and a committed row could refer to a file that is lost. See fsync(2).

    Raises:
        OSError: the file or folder can't be synced or moved.
    """
    for path in (*sorted(whole.rglob("*"), reverse=True), whole) if whole.is_dir() else (whole,):
        _sync(path)
    whole.replace(target)
    for folder in (target.parent, target.parent.parent):  # the target's folder may be new, too
        _sync(folder)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows can't open folders
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # an unreadable parent folder, which this process has not changed
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def narrow(path: Path, like: Path) -> None:
    """Remove permissions from `path` that `like` does not have, before a copy of its content is written to `path`.

    If the groups differ, the group loses all permissions. The owner keeps read and write permission.
    """
    mine, theirs = path.stat(), like.stat()
    kept = mine.st_mode & (theirs.st_mode | stat.S_IRUSR | stat.S_IWUSR)
    if mine.st_gid != theirs.st_gid:
        kept &= ~stat.S_IRWXG
    path.chmod(stat.S_IMODE(kept))
