"""Negatives of whole selections: from the row's split or, if requested, from its channel in the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.db import Database
from store.training import ExampleRow, get_run, load_examples, snapshot_info
from tests.trainer.tiny import fill
from tests.trainer.training import settings as settings_for
from trainer.data import Selection, mine_negatives
from trainer.data.mining import require_comparable
from trainer.errors import BadSetting
from trainer.runs import train
from trainer.settings import STRATEGIES, TrainSettings

SPLITS = {"train": 12, "valid": 5, "test": 4}


def embed(titles: Sequence[str]) -> np.ndarray:
    """Random vectors that depend only on the title."""
    return np.stack(
        [np.random.default_rng(list(title.encode())).standard_normal(8).astype(np.float32) for title in titles]
    )


def selection(*channels: str, **rows_of: int) -> Selection:
    """Channels of 21 videos in all splits, and as many training videos of other channels as given."""
    places = [(channel, split) for channel in channels for split, n in SPLITS.items() for _ in range(n)]
    places += [(channel, "train") for channel, n in rows_of.items() for _ in range(n)]
    places = [places[at] for at in np.random.default_rng(0).permutation(len(places))]
    rows = [
        ExampleRow(at, f"v{at}", channel, at, f"v{at}", split, f"title {channel} {at}", f"{at:064x}", None)
        for at, (channel, split) in enumerate(places)
    ]
    return Selection(rows, {}, ())


@pytest.mark.parametrize("negatives", [name for name in STRATEGIES if name != "none"])
def test_within_channels_other_channels_have_no_effect(negatives: Any) -> None:
    chosen = selection("A", "B", "C")
    settings = TrainSettings(negatives=negatives, negatives_within="channel")
    rows = mine_negatives(chosen, settings, embed)
    for channel in "ABC":
        mine = [row for row in chosen.examples if row.channel_id == channel]
        at = {row.position: number for number, row in enumerate(mine)}
        moved = [replace(row, position=at[row.position]) for row in mine]
        alone = mine_negatives(Selection(moved, {}, ()), settings, embed)
        found = [rows[row.position].negative_position for row in mine]
        assert [at[pick] for pick in found if pick is not None] == [row.negative_position for row in alone]
        assert all(pick is not None and rows[pick].split == row.split for pick, row in zip(found, mine, strict=True))


@pytest.mark.parametrize("negatives", ["least-similar", "hard"])
def test_for_one_channel_both_scopes_give_the_same_negatives(negatives: Any) -> None:
    chosen = selection("A")
    either = [
        mine_negatives(chosen, TrainSettings(negatives=negatives, negatives_within=within), embed)
        for within in ("all", "channel")
    ]
    assert either[0] == either[1]


@pytest.mark.parametrize("negatives", [name for name in STRATEGIES if name != "none"])
def test_a_channel_without_another_title_gets_a_title_of_its_split(negatives: Any) -> None:
    chosen = selection("A", lonely=1)
    rows = mine_negatives(chosen, TrainSettings(negatives=negatives, negatives_within="channel"), embed)
    (lonely,) = [row for row in rows if row.channel_id == "lonely"]
    assert lonely.negative_position is not None
    other = rows[lonely.negative_position]
    assert (other.channel_id, other.split) == ("A", "train")
    assert all(row.negative_position is not None for row in rows)


def test_titles_are_embedded_channel_by_channel() -> None:
    sizes: list[int] = []

    def counted(titles: Sequence[str]) -> np.ndarray:
        sizes.append(len(titles))
        return embed(titles)

    mine_negatives(selection("A", "B"), TrainSettings(negatives_within="channel"), counted)
    assert sorted(sizes) == sorted(2 * list(SPLITS.values()))


def test_a_comparison_that_would_take_hours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = selection("A", "B")
    monkeypatch.setattr("trainer.data.negatives.LEAST_SIMILAR_UP_TO", 23)
    with pytest.raises(BadSetting):
        mine_negatives(chosen, TrainSettings(), lambda _titles: pytest.fail("nothing is embedded"))
    require_comparable(chosen, TrainSettings(negatives="hard"))
    require_comparable(chosen, TrainSettings(negatives_within="channel"))


@pytest.mark.slow
def test_a_run_records_the_scope_of_its_negatives(filled: Database, tiny_clip: Path) -> None:
    fill(filled, 20, "UC2")
    settings = settings_for(tiny_clip, negatives="least-similar")
    everywhere = train(filled, settings)
    inside = train(filled, replace(settings, negatives_within="channel"))
    assert inside.snapshot_id != everywhere.snapshot_id
    with filled.read() as session:
        rows = load_examples(session, inside.snapshot_id)
        assert snapshot_info(session, inside.snapshot_id).settings["negatives_within"] == "channel"
        assert "negatives_within" not in snapshot_info(session, everywhere.snapshot_id).settings
        assert TrainSettings.from_dict(get_run(session, inside.run_id).settings).negatives_within == "channel"
    for row in rows:
        assert row.negative_position is not None
        assert rows[row.negative_position].channel_id == row.channel_id
