"""What `bench.copies` counts: copies that joined their original, that are in another split, and false joins."""

from __future__ import annotations

from bench.copies import _id_of_copy, counted
from store.training import ExampleRow


def row(video_id: str, group: str, split: str) -> ExampleRow:
    return ExampleRow(0, video_id, "UC1", 1, group, split, video_id, "0" * 64, None)


def test_joins_leaks_and_false_joins_are_counted() -> None:
    before = {name: row(name, name, "train") for name in "abcd"}
    before["d"] = row("d", "c", "train")
    copies = {
        "a": ("a", "train"),  # joined
        "b": ("copy of b", "test"),  # a leak
        "c": ("c", "train"),  # joined, and its group is also that of d
    }
    after = dict(before)
    for name, (group, split) in copies.items():
        after[_id_of_copy(name)] = row(_id_of_copy(name), group, split)
    assert counted(before, after) == "3 | 2 | 1 | 0", "c and d were already one group, so the copy of d does not count"
    after[_id_of_copy("b")] = row(_id_of_copy("b"), "a", "train")
    assert counted(before, after) == "3 | 2 | 0 | 1", "the copy of b joined the group of a"
