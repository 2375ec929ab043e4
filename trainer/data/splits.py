"""Group videos and assign splits to new videos. Pure functions. A video's split never changes.

Two videos that share a thumbnail (equal bytes, or near-duplicates by `trainer.data.likeness`) or a title (equal or
nearly equal, see `title_keys`) would leak from training into testing. They form a group, and a whole group is assigned
to one split.
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
    "Member",
    "assign",
    "first_counts",
    "group_homes",
    "groups_of",
    "left_out",
    "members_of",
    "normalised",
    "numbers_of",
    "positions_of",
    "title_keys",
]

SPLITS = ("train", "valid", "test")
PROPORTIONS = {"train": 0.7, "valid": 0.15, "test": 0.15}

SPLIT_SEED = 42
"""The seed of the original recipe. `--seed` is not used: splits are permanent and must not depend on the first run."""


@dataclass(frozen=True, slots=True)
class Member:
    """The facts about a video that decide its split."""

    video_id: str
    channel_id: str
    group_id: str
    split: str | None
    is_pair: bool = True


def normalised(title: str) -> str:
    """Return a title in NFKC, case folded, with runs of whitespace replaced by one space."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    # Case folding can decompose a letter (Greek iota with two accents), so the title is normalised again.
    return " ".join(unicodedata.normalize("NFKC", folded).split())


# Marks of a video that was published again, before or after the title. Most count only if they are separated from the
# title by brackets, a dash or a colon: "the old clock, fixed" and "the old clock" are different videos.
_OPEN, _CLOSE = r"(\[{|【〔", r")\]}|】〕"
_APART = rf"(?:\s*[{_OPEN}]\s*|\s+[–—-]\s+|:\s+)"
_AGAIN = r"#?re-?\s?(?:upload|post)(?:ed)?"
_MENDED = (
    r"re-?(?:issued?|master(?:ed)?|edit(?:ed)?)|(?:audio|sound|video)\s(?:fix(?:ed)?|corrected)"
    r"|fixed(?:\s(?:audio|sound|video))?|corrected|new\sversion|(?:full\s)?hd|uhd|4k|1080p|720p"
)
# Spanish, Portuguese, French, Italian, German, Turkish, Indonesian, Russian, Arabic, Japanese, Korean, Chinese.
_ABROAD = (
    r"re-?up|re-?subid[oa]|reenviad[oa]|ré-?upload(?:é|ée)?|remis\sen\sligne|ricaricat[oa]|(?:neu|erneut)\shochgeladen"
    r"|(?:tekrar|yeniden)\syükleme|unggah\sulang|перезалив|[إا]عادة\sرفع|再(?:アップ(?:ロード)?|up|投稿|掲)|재업(?:로드)?"
    r"|重新?上[传傳]|重[传傳]"
)
_MARK = rf"(?:{_AGAIN}|{_MENDED}|{_ABROAD})"
_ONCE_MORE = re.compile(
    rf"(?:{_APART}{_MARK}|[\s,]+{_AGAIN})[\s{_CLOSE}!.]*$"
    rf"|^(?:[{_OPEN}]\s*{_MARK}\s*[{_CLOSE}]|{_AGAIN}(?:\s*:|\s+[|–—-]\s))[\s!.]*"
)
_PART = re.compile(
    r"[\s([{|:,.–—-]*(?:\b(?:part|pt|teil|partie|parte|часть|vol|volume|ep|episode)(?:\b\.? ?|(?=\d))|#)"
    r"(\d+|[ivx]+)[\s)\]}!.]*$"
)
_LONGEST = 250
"""Longer titles are compared as they are, because the expressions take quadratic time. YouTube's limit is 100."""
# Symbols with a meaning, as in C#, C++, 50 %, @name and $5.
_MEANT = frozenset("+#%@$&*=<>")


def title_keys(titles: Iterable[str]) -> dict[str, str]:
    """Reduce titles to keys, so that equivalent titles get equal keys.

    In addition to what `normalised` does, punctuation and symbols are replaced by spaces, except for symbols with a
    meaning (as in C#), and marks of a video that was published again are removed, such as "(re-upload)" and "HD".
    A part number such as "part 2" is removed if there are no other parts than 1 and 2. Higher numbers belong to a
    series of different videos, even if the store has only one or two of them, such as episodes 12 and 13.

    Returns:
        {title as given: key}.
    """
    plain = {title: normalised(title) for title in titles}
    bare = {title: _bare(text) if len(text) <= _LONGEST else text for title, text in plain.items()}
    parts: dict[str, set[str]] = defaultdict(set)
    stems: dict[str, str] = {}
    unnumbered: set[str] = set()
    for text in bare.values():
        stem, number = _without_part(text)
        if stem != text:
            stems[text] = stem
            parts[stem].add(number or "1")
        else:
            unnumbered.add(text)
    for stem in parts.keys() & unnumbered:
        parts[stem].add("1")  # a title without a number counts as part 1
    keys: dict[str, str] = {}
    for title, text in bare.items():
        stem = stems.get(text, text)
        chosen = stem if stem == text or parts[stem] <= {"1", "2"} else text
        keys[title] = _words(chosen) or plain[title]
    return keys


def _bare(text: str) -> str:
    """A normalised title without marks that it was published again; never empty."""
    while True:
        shorter = _ONCE_MORE.sub("", text)
        if shorter == text or not _words(shorter):
            return text
        text = shorter


def _without_part(text: str) -> tuple[str, str | None]:
    """A title without its part number, and the number; the title and None if it has no part number."""
    found = _PART.search(text) if len(text) <= _LONGEST else None
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


class _OnlyWords(dict[int, str]):
    """A table for `str.translate`, filled on demand: characters that are not part of words become spaces."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = char if char in _MEANT or _is_word(char) else " "
        return self[code]


_ONLY_WORDS = _OnlyWords()


def _words(text: str) -> str:
    return " ".join(text.translate(_ONLY_WORDS).split())


def _is_word(char: str) -> bool:
    """Whether a character is a letter, mark, number, currency sign or mathematical symbol."""
    return unicodedata.category(char)[0] in "LMN" or unicodedata.category(char) in ("Sc", "Sm")


def numbers_of(labels: Collection[str]) -> NDArray[np.intp]:
    """Number n labels from 0 in order of first occurrence: (n,) int. Equal labels get the same number."""
    import numpy as np  # noqa: PLC0415 (grouping alone does not need it)

    # `np.unique` does not work here: NumPy strings are padded to the longest label, and lose NULs at their end.
    seen: dict[str, int] = {}
    return np.fromiter((seen.setdefault(label, len(seen)) for label in labels), np.intp, len(labels))


def positions_of(values: Iterable[str]) -> dict[str, int]:
    """Return {value: position} of distinct values."""
    return {value: position for position, value in enumerate(values)}


def groups_of(videos: Iterable[tuple[str, str, str | None]], alike: Mapping[str, str] | None = None) -> dict[str, str]:
    """Group videos that share a thumbnail or a title, directly or through other videos.

    Args:
        videos: (video id, title, thumbnail digest or None) of each video. An empty or blank title is not compared.
        alike: {thumbnail digest: the digest that represents its near-duplicates}, see `alike_pictures`.

    Returns:
        {video id: group id}. The id of a group is the smallest video id in it.
    """
    parent: dict[str, str] = {}

    def root(video: str) -> str:
        while parent[video] != video:
            parent[video] = parent[parent[video]]
            video = parent[video]
        return video

    videos, same = list(videos), alike or {}
    keys = title_keys(title for _, title, _ in videos)
    first_titled: dict[str, str] = {}
    first_showing: dict[str, str] = {}
    for video, title, picture in videos:
        parent[video] = video
        # The view `pairs` treats a title of spaces as missing, and missing titles are not equal titles. A title of
        # other whitespace makes a pair, although it is normalised to an empty string too.
        for first_with, value in (
            (first_titled, keys[title] if title.strip(" ") else None),
            (first_showing, None if picture is None else same.get(picture, picture)),
        ):
            if value is None:
                continue
            other = first_with.setdefault(value, video)
            low, high = sorted((root(other), root(video)))
            parent[high] = low
    return {video: root(video) for video in parent}


def members_of(videos: Sequence[SplitVideo], alike: Mapping[str, str] | None = None) -> list[Member]:
    """Return the videos with the groups given by their current titles and thumbnails, in the same order.

    Args:
        videos: all videos of the store.
        alike: near-duplicate thumbnails, see `groups_of`.
    """
    groups = groups_of(((video.video_id, video.title, video.picture_sha256) for video in videos), alike)
    return [
        Member(video.video_id, video.channel_id, groups[video.video_id], video.split, video.is_pair) for video in videos
    ]


def first_counts(n: int) -> dict[str, int]:
    """Return the split sizes of the original recipe for n rows: `int(.7n)` train, `int(.15n)` valid, the rest test."""
    train, valid = int(PROPORTIONS["train"] * n), int(PROPORTIONS["valid"] * n)
    return {"train": train, "valid": valid, "test": n - train - valid}


def assign(members: Sequence[Member]) -> dict[str, str]:
    """Choose a split for each video that does not have a split yet, channel by channel.

    A channel's first videos are shuffled and divided as in the original recipe. Each later video, oldest first, is
    assigned to the split that is furthest below its proportion in the channel. New members of a group that already has
    a split, in this channel or another, get that split.

    Args:
        members: newest first, because the shuffle depends on the order; with all members of each group.

    Returns:
        {video id: split} of the newly assigned videos.
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
    """Return each group's split: the most held-out split of its members, so that no held-out pair is trained on.

    Returns:
        {group id: (split, whether its members have several splits)}, without groups that have no split.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for member in members:
        if member.split is not None:
            found[member.group_id].add(member.split)
    return {group: (max(splits, key=SPLITS.index), len(splits) > 1) for group, splits in found.items()}


def left_out(members: Sequence[Member]) -> set[str]:
    """Return the ids of videos whose group has a more held-out split than they have.

    This happens if videos become one group after they got different splits. Splits never change, so snapshots leave
    these videos out: otherwise a model would be trained on held-out titles or thumbnails.
    """
    homes = group_homes(members)
    return {m.video_id for m in members if m.split is not None and m.split != homes[m.group_id][0]}


def _assign_first(members: Sequence[Member], of_group: dict[str, str]) -> None:
    """Divide a channel's first videos as in the recipe. Groups stay whole; the counts are exact where possible."""
    import pandas as pd  # noqa: PLC0415 (only a channel's first snapshot is shuffled)

    order = pd.Series(range(len(members))).sample(frac=1, random_state=SPLIT_SEED).tolist()
    shuffled = [members[index] for index in order]
    sizes = Counter(member.group_id for member in shuffled)
    targets = first_counts(len(shuffled))
    room = dict(targets)
    for member in shuffled:
        if member.group_id in of_group:
            room[of_group[member.group_id]] -= 1
    # Groups are assigned first, to the split that the recipe gives their newest member; single videos then fill the
    # splits exactly. (Using the first shuffled member would put nearly all groups into train.)
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
    """Assign a channel's new groups, oldest first, to the split that is furthest below its proportion."""
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
