"""Groups and splits, pure: which videos belong together, and where new ones go. No video ever moves.

Two videos that share a picture (same bytes, or alike by `trainer.data.likeness`) or a title (nearly the same, see
`title_keys`) would leak from training into testing, so they form one group, and a group goes to one split as a whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from store.training import SplitVideo

__all__ = [
    "SPLITS",
    "SPLIT_SEED",
    "Member",
    "assign",
    "first_counts",
    "group_homes",
    "groups_of",
    "left_out",
    "members_of",
    "normalised",
    "numbers_of",
    "title_keys",
]

SPLITS = ("train", "valid", "test")
PROPORTIONS = {"train": 0.7, "valid": 0.15, "test": 0.15}

SPLIT_SEED = 42
"""The recipe's. Not `--seed`: a split lasts for ever, and must not hang on what the first run happened to be given."""


@dataclass(frozen=True, slots=True)
class Member:
    """A video as splitting sees it."""

    video_id: str
    channel_id: str
    group_id: str
    split: str | None
    is_pair: bool = True


def normalised(title: str) -> str:
    """A title reduced to what makes it the same title: NFKC, case folded, runs of whitespace as one space."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    # Folding can leave a composed letter in parts (Greek iota with two accents), hence the second time.
    return " ".join(unicodedata.normalize("NFKC", folded).split())


# What a video is called when it is published once more; not what tells two videos apart. Some words say so only where
# they stand apart from the title: "the old clock, fixed" is another video than "the old clock".
_APART = r"(?:\s*[(\[{|]\s*|\s+[–—-]\s+|:\s+)"
_AGAIN = r"#?re-?\s?(?:upload|post)(?:ed)?"
_MENDED = (
    r"re-?(?:issued?|master(?:ed)?|edit(?:ed)?)|(?:audio|sound|video)\s(?:fix(?:ed)?|corrected)"
    r"|fixed(?:\s(?:audio|sound|video))?|corrected|new\sversion|(?:full\s)?hd|uhd|4k|1080p|720p"
)
_ONCE_MORE = re.compile(rf"(?:{_APART}(?:{_AGAIN}|{_MENDED})|[\s,]+{_AGAIN})[\s)\]}}!.]*$")
_PART = re.compile(
    r"[\s([{|:,.–—-]*(?:\b(?:part|pt|teil|partie|parte|vol|volume|ep|episode)\b\.? ?|#)(\d+|[ivx]+)[\s)\]}!.]*$"
)
# Marks that carry meaning: C# and C++, 50 %, @name, $5.
_MEANT = frozenset("+#%@$&*=<>")


def title_keys(titles: Iterable[str]) -> dict[str, str]:
    """Reduce titles to keys that are equal for titles that say the same.

    Beside what `normalised` does, punctuation and symbols count as spaces, except for marks that carry meaning (as in
    C#), and endings that only say that a video was published once more are left out, such as "(re-upload)" and "HD".
    An ending that counts parts, such as "part 2", is left out where it tells two videos apart at most: three parts or
    more are a series, whose videos differ.

    Returns:
        {title: key}, of titles as given.
    """
    bare = {title: _bare(normalised(title)) for title in titles}
    parts: dict[str, set[str]] = defaultdict(set)
    split = {text: _without_part(text) for text in bare.values()}
    for text, (stem, number) in split.items():
        # The first of two parts often has no number.
        parts[stem or text].add(number or "1")
    keys: dict[str, str] = {}
    for title, text in bare.items():
        stem = split[text][0]
        chosen = stem if stem and len(parts[stem]) <= 2 else text
        keys[title] = _words(chosen) or normalised(title)
    return keys


def _bare(text: str) -> str:
    """A normalised title without the endings that say that it was published once more; never empty."""
    while True:
        shorter = _ONCE_MORE.sub("", text)
        if shorter == text or not _words(shorter):
            return text
        text = shorter


def _without_part(text: str) -> tuple[str, str | None]:
    """A title without its number among parts, and that number; the title and None where there is none."""
    found = _PART.search(text)
    if found is None or not _words(text[: found.start()]):
        return text, None
    return text[: found.start()], _ROMAN.get(found[1], found[1].lstrip("0") or "0")


_ROMAN = {
    "i": "1",
    "ii": "2",
    "iii": "3",
    "iv": "4",
    "v": "5",
    "vi": "6",
    "vii": "7",
    "viii": "8",
    "ix": "9",
    "x": "10",
}


def _words(text: str) -> str:
    return " ".join("".join(char if char in _MEANT or _is_word(char) else " " for char in text).split())


def _is_word(char: str) -> bool:
    """Letters, marks, numbers and currency; not punctuation, separators, controls, or symbols such as emoji."""
    return unicodedata.category(char)[0] in "LMN" or unicodedata.category(char) in ("Sc", "Sm")


def numbers_of(labels: Collection[str]) -> NDArray[np.intp]:
    """Number n labels, equal ones alike, in the order in which they first come: (n,) int from 0."""
    import numpy as np  # noqa: PLC0415 (who only groups does not need it)

    # Not by an array of them: its rows are as long as the longest, and drop a label's NULs at the end.
    seen: dict[str, int] = {}
    return np.fromiter((seen.setdefault(label, len(seen)) for label in labels), np.intp, len(labels))


def groups_of(videos: Iterable[tuple[str, str, str | None]], alike: Mapping[str, str] | None = None) -> dict[str, str]:
    """Group videos that share a picture or a title, directly or through others.

    Args:
        videos: (video id, title, picture digest or None) each; a title that is empty, or spaces, joins nothing.
        alike: {picture digest: a digest that stands for all that show the same}; others stand for themselves.

    Returns:
        {video id: group id}; a group's id is the smallest video id in it.
    """
    parent: dict[str, str] = {}

    def root(video: str) -> str:
        while parent[video] != video:
            parent[video] = parent[parent[video]]
            video = parent[video]
        return video

    videos, same = list(videos), alike or {}
    keys = title_keys(title for _, title, _ in videos)
    first_with: dict[tuple[str, str], str] = {}
    for video, title, picture in videos:
        parent[video] = video
        # Blank as the view `pairs` has it is a title that is missing, and those are not equal ones. Other white space
        # makes a pair, though it is normalised to nothing as well.
        for kind, value in (
            ("title", keys[title] if title.strip(" ") else None),
            ("picture", None if picture is None else same.get(picture, picture)),
        ):
            if value is None:
                continue
            other = first_with.setdefault((kind, value), video)
            low, high = sorted((root(other), root(video)))
            parent[high] = low
    return {video: root(video) for video in parent}


def members_of(videos: Sequence[SplitVideo], alike: Mapping[str, str] | None = None) -> list[Member]:
    """Videos with the groups that their present titles and pictures make of them, in the order given.

    Args:
        videos: all of the store.
        alike: pictures that show the same, see `groups_of`.
    """
    groups = groups_of(((video.video_id, video.title, video.picture_sha256) for video in videos), alike)
    return [
        Member(video.video_id, video.channel_id, groups[video.video_id], video.split, video.is_pair) for video in videos
    ]


def first_counts(n: int) -> dict[str, int]:
    """How the recipe cuts n rows: `int(.7n)` train, `int(.15n)` valid, the rest test."""
    train, valid = int(PROPORTIONS["train"] * n), int(PROPORTIONS["valid"] * n)
    return {"train": train, "valid": valid, "test": n - train - valid}


def assign(members: Sequence[Member]) -> dict[str, str]:
    """Choose a split for each video that has none, by channel; those that have one keep it.

    A channel's first videos are shuffled and cut as the recipe does. Later ones, oldest first, go where their channel
    is furthest below its proportions. A group that has a split already, here or in another channel, passes it on to
    its new members.

    Args:
        members: newest first: what the shuffle starts from. Members of a group are all here.

    Returns:
        {video id: split} of the newly assigned only.
    """
    of_group = {group: home for group, (home, _) in group_homes(members).items()}
    given: dict[str, str] = {}
    by_channel: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        if member.is_pair:
            by_channel[member.channel_id].append(member)
    for channel in sorted(by_channel):
        inside = by_channel[channel]
        if any(member.split for member in inside):
            _assign_later(inside, of_group)
        else:
            _assign_first(inside, of_group)
        given.update({m.video_id: of_group[m.group_id] for m in inside if m.split is None})
    return given


def group_homes(members: Iterable[Member]) -> dict[str, tuple[str, bool]]:
    """Each group's split: the most held-out one that a member has, so that nothing held out is trained on.

    Returns:
        {group id: (split, whether members are in several)}; groups without any split are left out.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for member in members:
        if member.split is not None:
            found[member.group_id].add(member.split)
    return {group: (max(splits, key=SPLITS.index), len(splits) > 1) for group, splits in found.items()}


def left_out(members: Sequence[Member]) -> set[str]:
    """Videos whose group came together after its members had different splits, and is more held out than they are.

    Snapshots leave them out: nobody moves, and nothing held out is trained on.
    """
    homes = group_homes(members)
    return {m.video_id for m in members if m.split is not None and m.split != homes[m.group_id][0]}


def _assign_first(members: Sequence[Member], of_group: dict[str, str]) -> None:
    """Cut a channel's first videos as the recipe does; groups stay whole, counts stay exact where that can be."""
    import pandas as pd  # noqa: PLC0415 (only a channel's first snapshot is shuffled)

    order = pd.Series(range(len(members))).sample(frac=1, random_state=SPLIT_SEED).tolist()
    shuffled = [members[index] for index in order]
    sizes = Counter(member.group_id for member in shuffled)
    targets = first_counts(len(shuffled))
    room = dict(targets)
    for member in shuffled:
        if member.group_id in of_group:
            room[of_group[member.group_id]] -= 1
    # Groups first, where the recipe's cut puts their newest member: single videos then fill what is left exactly.
    # (By whichever member the shuffle puts first, nearly every group would go to train, and hardly any be held out.)
    newest = {member.group_id: member for member in reversed(members)}
    for position, member in enumerate(shuffled):
        group, size = member.group_id, sizes[member.group_id]
        if size > 1 and group not in of_group and member is newest[group]:
            natural = _split_at(position, targets)
            home = natural if room[natural] >= size else max(SPLITS, key=lambda split: room[split])
            of_group[group] = home
            room[home] -= size
    for member in shuffled:
        if member.group_id not in of_group:
            home = next((split for split in SPLITS if room[split] > 0), "test")
            of_group[member.group_id] = home
            room[home] -= 1


def _split_at(position: int, targets: Mapping[str, int]) -> str:
    if position < targets["train"]:
        return "train"
    return "valid" if position < targets["train"] + targets["valid"] else "test"


def _assign_later(members: Sequence[Member], of_group: dict[str, str]) -> None:
    """Put a channel's new groups, oldest first, where the channel is furthest below its proportions."""
    counts = Counter(member.split for member in members if member.split)
    sizes = Counter(member.group_id for member in members if member.split is None)
    for group, size in sizes.items():
        if group in of_group:
            counts[of_group[group]] += size
    for member in reversed(members):
        group = member.group_id
        if group in of_group:
            continue
        total = sum(counts.values()) + sizes[group]
        home = max(SPLITS, key=lambda split: PROPORTIONS[split] * total - counts[split])
        of_group[group] = home
        counts[home] += sizes[group]
