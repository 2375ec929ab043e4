"""Make a snapshot of the store's pairs: group them, assign permanent splits, and mine negatives inside each split."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from store.db import Database, unsound
from store.errors import DatabaseUnavailable
from store.training import (
    ExampleRow,
    Pair,
    assign_splits,
    channel_titles,
    current_pairs,
    newest_snapshot,
    pairs_of_snapshot,
    save_snapshot,
    set_groups,
    snapshot_info,
    split_pictures,
    split_videos,
)
from store.types import utc_now
from store.wording import counted
from store.youtube import count_not_pairs, lock_videos
from trainer.data.channel_names import channel_id
from trainer.data.likeness import alike_pictures, remember_altered, remember_sketches
from trainer.data.mining import mine_negatives
from trainer.data.splits import SPLITS, Member, assign, left_out, members_of, normalised
from trainer.errors import NotEnoughPairs
from trainer.progress import Progress
from trainer.settings import TrainSettings

__all__ = ["Selection", "current_snapshot", "require_trainable", "select_pairs", "write_snapshot"]

HELD_OUT_ELSEWHERE = "group_in_more_held_out_split"
PICTURE_PENDING = "picture_pending"
PICTURE_DAMAGED = "picture_damaged"
_DIGESTED_AT_ONCE = 10_000
_REMEDIES = {PICTURE_DAMAGED: "; run 'thumbtune db check --repair' to fetch such thumbnails again"}


@dataclass(frozen=True)
class Selection:
    """The examples for a snapshot, without negatives.

    Args:
        examples: newest first, with positions 0, 1, ...
        excluded: {reason: number of pairs left out}.
        channels: the requested channel ids; empty for all channels.
    """

    examples: list[ExampleRow]
    excluded: dict[str, int]
    channels: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return {split: number of examples} for all three splits."""
        found = Counter(example.split for example in self.examples)
        return {split: found[split] for split in SPLITS}


def select_pairs(database: Database, channels: Sequence[str] = ()) -> Selection:
    """Group all pairs of the store, assign a split to pairs without a split, and select the pairs of some channels.

    Groups and splits are assigned in the whole store, even if only some channels are selected, so that all videos of a
    group get the same split. If videos with different splits become one group later, their splits stay. Only the pairs
    in the most held-out split of the group are then selected, so that no held-out pair is trained on.

    Args:
        database: the store. Splits and groups are written to it.
        channels: ids or handles; empty for all channels.

    Raises:
        BadSetting: a channel is not in the store.
        NotEnoughPairs: no pair can be selected.
    """
    with database.read() as session:
        known = channel_titles(session)
    channel_ids = tuple(channel_id(name, known) for name in channels)
    with database.read() as session:
        pictures = split_pictures(session)
    # Done before the write transaction, because other writers wait for that one. Thumbnails that are added in between
    # are compared for the next snapshot.
    sketched = remember_sketches(database, pictures)
    remember_altered(database, pictures)
    with database.read() as session:
        alike = alike_pictures(session, sketched)
    del pictures, sketched  # 300 bytes for each thumbnail

    # Reading and assigning happen in one transaction: of two concurrent trainers, the second reads the splits that the
    # first assigned, so the members of a group can't get different splits.
    def write(session: Session) -> tuple[list[Member], dict[str, str], list[Pair]]:
        lock_videos(session)
        members = members_of(split_videos(session), alike)
        set_groups(session, {member.video_id: member.group_id for member in members})
        given = assign_splits(session, assign(members), utc_now())
        return members, given, current_pairs(session)

    members, given, pairs = database.transact(write)
    # Not in that transaction: other writers would wait while the thumbnails are read.
    with database.read() as session:
        damaged = unsound(
            session, {pair.picture_sha256 for pair in pairs if not channel_ids or pair.channel_id in channel_ids}
        )
    members = [
        replace(member, split=given[member.video_id]) if member.video_id in given else member for member in members
    ]
    selection = _select(members, pairs, channel_ids, damaged)
    if not selection.examples:
        if selection.excluded.get(PICTURE_DAMAGED):
            raise NotEnoughPairs(f"no pair is usable for training: {_gaps(selection)[-1]}")
        raise NotEnoughPairs(_why_none(database, channel_ids or tuple(known)))
    return selection


def _why_none(database: Database, channels: Sequence[str]) -> str:
    """Explain why the channels have no pairs, and what to do."""
    if not channels:
        return "the store has no channels; run 'thumbtune sync CHANNEL' first"
    reasons: Counter[str] = Counter()
    with database.read() as session:
        for channel in channels:
            reasons.update(count_not_pairs(session, channel))
    found = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in reasons.items() if n)
    if not found:
        return "the store has no videos; run 'thumbtune sync' when the channel has published some"
    shorter = ", or use a lower --min-duration to include shorts (0 includes all)" if reasons["short"] else ""
    return f"no video is usable for training: {found}; run 'thumbtune sync' again{shorter}"


def _select(
    members: Sequence[Member],
    pairs: Sequence[Pair],
    channel_ids: tuple[str, ...],
    damaged: Collection[str],
) -> Selection:
    by_id = {member.video_id: member for member in members}
    elsewhere = left_out(members)
    in_view = [m for m in members if m.is_pair and (not channel_ids or m.channel_id in channel_ids)]
    mine_only = [pair for pair in pairs if not channel_ids or pair.channel_id in channel_ids]
    # A pair that was added between the two reads is not among the members. The next snapshot includes it.
    mine_only = [pair for pair in mine_only if pair.video_id in by_id and by_id[pair.video_id].split]
    excluded: Counter[str] = Counter()
    examples: list[ExampleRow] = []
    for pair in mine_only:
        member = by_id[pair.video_id]
        if pair.video_id in elsewhere:
            excluded[HELD_OUT_ELSEWHERE] += 1
            continue
        if pair.picture_sha256 in damaged:
            excluded[PICTURE_DAMAGED] += 1
            continue
        examples.append(
            ExampleRow(
                len(examples),
                pair.video_id,
                pair.channel_id,
                pair.version_id,
                member.group_id,
                str(member.split),
                pair.title,
                pair.picture_sha256,
                None,
            )
        )
    pending = len(in_view) - len(mine_only)
    if pending > 0:
        excluded[PICTURE_PENDING] = pending
    return Selection(examples, dict(excluded), channel_ids)


def require_trainable(selection: Selection) -> list[str]:
    """Check that a model can be trained on the selection; return warnings about missing results.

    Raises:
        NotEnoughPairs: the training split has fewer than two groups, so a row has no negative.
    """
    train = [example for example in selection.examples if example.split == "train"]
    total = len(selection.examples)
    if len({example.group_id for example in train}) < 2:
        if len(train) >= 2:
            equal = len({normalised(row.title) for row in train}) == 1
            same = "equal titles" if equal else "equal or almost equal titles or thumbnails"
            raise NotEnoughPairs(
                f"all {len(train)} training pairs have {same}, so they can't be distinguished; "
                "sync more videos, or another channel"
            )
        raise NotEnoughPairs(
            f"the training split has {len(train)} of {counted(total, 'pair')}; "
            "at least 2 distinct pairs are needed; sync more videos (the first snapshot needs at least 3 pairs)"
        )
    return _gaps(selection)


def _gaps(selection: Selection) -> list[str]:
    warnings = [
        f"the {split} split is empty, so it has no metrics" for split, n in selection.counts().items() if n == 0
    ]
    by_channel = Counter(example.channel_id for example in selection.examples)
    if len(by_channel) > 1:
        warnings += [
            f"channel {channel} has only one pair, which is used, but the channel has no metrics of its own"
            for channel, n in sorted(by_channel.items())
            if n == 1
        ]
    for reason, n in selection.excluded.items():
        warnings.append(f"{counted(n, 'pair')} left out: {reason.replace('_', ' ')}{_REMEDIES.get(reason, '')}")
    return warnings


def write_snapshot(
    database: Database,
    selection: Selection,
    rows: Sequence[ExampleRow],
    settings: TrainSettings,
    title_fingerprint: str | None,
) -> tuple[int, bool]:
    """Store the snapshot, or find an equal one in the store. Return its id, and whether it is new."""
    kept: dict[str, Any] = {"negatives": settings.negatives, "channels": sorted(selection.channels)}
    if settings.compares_titles():
        kept |= {"title_model": settings.title_model, "title_fingerprint": title_fingerprint}
    if settings.negatives == "hard":
        kept["hard_max_similarity"] = settings.hard_max_similarity
    if settings.negatives == "random":
        kept["seed"] = settings.seed
    if settings.negatives_within != "all" and settings.negatives != "none":
        # Only then, so that snapshots from before this setting keep their fingerprints.
        kept["negatives_within"] = settings.negatives_within
    # The fingerprint identifies the title model. Its name does not: the same name can refer to another model later.
    hashed = {key: value for key, value in kept.items() if key != "title_model"}
    fingerprint = _fingerprint(rows, hashed)
    return database.transact(lambda session: save_snapshot(session, fingerprint, kept, selection.excluded, rows))


def _fingerprint(rows: Sequence[ExampleRow], settings: Mapping[str, Any]) -> str:
    """SHA-256 over the JSON document {"examples": [...], "settings": {...}}, which is never in memory as a whole."""
    digest = hashlib.sha256(b'{"examples":[')
    for start in range(0, len(rows), _DIGESTED_AT_ONCE):
        batch = [
            (row.video_id, row.version_id, row.group_id, row.split, row.negative_position)
            for row in rows[start : start + _DIGESTED_AT_ONCE]
        ]
        digest.update((("," if start else "") + _canonical(batch)[1:-1]).encode())
    digest.update(('],"settings":' + _canonical(settings) + "}").encode())
    return digest.hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def current_snapshot(database: Database, channels: tuple[str, ...], progress: Progress) -> int:
    """Return the newest snapshot if it has all current pairs, else a new one with random negatives.

    If the store is read-only, the newest snapshot is returned with a note.

    Args:
        database: the store.
        channels: ids of the channels; empty for all channels.
        progress: receives the note.

    Raises:
        NotEnoughPairs: there are no pairs.
        DatabaseUnavailable: the store is read-only, and has no snapshot.
    """
    with database.read() as session:
        newest = newest_snapshot(session)
    try:
        selection = select_pairs(database, channels)
    except DatabaseUnavailable:
        if newest is None or not database.unwritable:
            raise
        progress.warn(f"the store is read-only, so its newest snapshot ({newest}) is used")
        return newest
    if newest is not None and _is_snapshot_of(database, newest, selection.examples):
        return newest
    settings = TrainSettings(negatives="random")
    return write_snapshot(database, selection, random_negatives(selection), settings, None)[0]


def random_negatives(selection: Selection) -> list[ExampleRow]:
    """Return the rows with random negatives, see `mine_negatives`, which need no vectors."""
    return mine_negatives(selection, TrainSettings(negatives="random"), _no_vectors)


def _is_snapshot_of(database: Database, snapshot_id: int, rows: Sequence[ExampleRow]) -> bool:
    with database.read() as session:
        if sum(snapshot_info(session, snapshot_id).counts.values()) != len(rows):
            return False
        pairs = {(row.video_id, row.version_id, row.split) for row in rows}
        return all(pair in pairs for pair in pairs_of_snapshot(session, snapshot_id))


def _no_vectors(_titles: Sequence[str]) -> NDArray[np.float32]:
    raise AssertionError("random negatives need no vectors of titles")
