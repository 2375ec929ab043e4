"""Write the rows of an export as WebDataset shards: tar files whose members with equal stems are one row.

See https://github.com/webdataset/webdataset. The members of a row are `KEY.jpg` (or `.png`, `.webp`), `KEY.txt` (the
title) and `KEY.json` (all other columns), the names that open_clip's reader expects.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["shard_sizes", "suffix_of", "write_tar"]


def shard_sizes(rows: int, shards: int) -> list[int]:
    """Divide rows among shards: sizes that differ by at most one. There are no empty shards."""
    shards = min(shards, rows)
    return [rows * (number + 1) // shards - rows * number // shards for number in range(shards)]


def suffix_of(picture: bytes) -> str:
    """The file name extension of a thumbnail's format."""
    return ".png" if picture.startswith(b"\x89PNG") else ".webp" if picture[8:12] == b"WEBP" else ".jpg"


def write_tar(path: Path, rows: Iterable[Mapping[str, Any]], first: int) -> None:
    """Write rows to a tar file. Equal rows give equal bytes: no member has a time or an owner.

    Args:
        path: the new file.
        rows: rows with `anchor` as {"bytes": ...} and `positive`, the title.
        first: the number of the first row, from which the keys are made.
    """
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, row in enumerate(rows, first):
            picture, title = row["anchor"]["bytes"], row["positive"]
            facts = {name: value for name, value in row.items() if name != "anchor"}
            published = facts["published_at"]
            facts["published_at"] = None if published is None else published.isoformat()
            members = {
                suffix_of(picture): picture,
                ".txt": title.encode(errors="replace"),
                ".json": json.dumps(facts, ensure_ascii=False, sort_keys=True).encode(errors="replace"),
            }
            for suffix, content in members.items():
                member = tarfile.TarInfo(f"{number:09d}{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
