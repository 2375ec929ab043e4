"""The folder of an export, which `export dataset` may replace: its names, and the file that marks it."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.artifacts import can_save, check_place
from trainer.errors import CantSave

__all__ = ["MARK", "SIZES", "SPLIT_NAMES", "check_export_folder"]

SPLIT_NAMES = {"train": "train", "valid": "validation", "test": "test"}
"""{split: its name in an export}, as the Hugging Face Hub expects."""
MARK = ".thumbtune-export"
"""The file that tells an export from another folder with the same names in it."""
SIZES = "sizes.json"
"""The file with the number of rows of each WebDataset shard, as open_clip reads it."""
_SHARD = re.compile(r"-\d{5}(-of-\d{5})?$")


def check_export_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that an export can be written to `folder`, before work is spent on it.

    Args:
        folder: a new or empty folder.
        overwrite: whether the folder may contain an earlier export.

    Raises:
        CantSave: the folder is not empty, or can't be written.
    """
    with can_save(folder):
        if not (overwrite and is_export(folder)):
            check_place(folder)


def is_export(folder: Path) -> bool:
    """Whether a folder contains only files of an export. No other folder may be overwritten.

    Raises:
        CantSave: the folder has an export's mark, but also other files.
    """
    if not (folder / MARK).is_file():
        return False
    written = {MARK, SIZES, "dataset_dict.json", "thumbnails", *SPLIT_NAMES.values()}
    names = {
        _SHARD.sub("", path.stem) if path.suffix in (".parquet", ".csv", ".tar") else path.name
        for path in folder.iterdir()
    }
    if not names <= written:
        raise CantSave(f"{folder} contains files that are not from an export; name another folder")
    return True
