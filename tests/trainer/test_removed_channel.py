"""After the removal of a channel: runs keep their figures, other channels can be trained, and errors are clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.db import Database, check
from store.errors import ContentRemoved
from store.training import evaluations, get_run, load_examples
from store.types import utc_now
from store.youtube import remove_channel
from tests.trainer.tiny import fill
from tests.trainer.training import new_pairs, settings
from trainer.data import export_dataset
from trainer.errors import BadSetting
from trainer.library.library import searchable
from trainer.runs import evaluate, model_card, train
from trainer.runs.recorded import load_run_model
from trainer.scoring import compare


def remove(database: Database, *, keep_runs: bool) -> None:
    with database.write() as session:
        remove_channel(
            session, "UC1", keep_runs=keep_runs, host="here", is_alive=lambda _pid, _at, _start: False, now=utc_now()
        )
    assert not any(result.problems for result in check(database))


@pytest.mark.slow
def test_commands_after_the_removal_of_a_channel(database: Database, tiny_clip: Path, tmp_path: Path) -> None:
    fill(database, 14)
    fill(database, 14, "UC2")
    one, two = train(database, settings(tiny_clip)), train(database, settings(tiny_clip, lr=1e-3))
    with database.read() as session:
        before = [(row.scope, row.metric, row.value) for row in evaluations(session, one.run_id)]
        compared = compare(database, str(one.run_id), str(two.run_id), "train")
        examples = load_examples(session, one.snapshot_id)
    remove(database, keep_runs=True)
    assert evaluate(database, str(one.run_id), "cpu").matches
    remove(database, keep_runs=False)
    with database.read() as session:
        assert [(row.scope, row.metric, row.value) for row in evaluations(session, one.run_id)] == before
    again = compare(database, str(one.run_id), str(two.run_id), "train")
    assert (again.test, len(again.changes)) == (compared.test, len(compared.changes))
    assert str(one.run_id) in model_card(database, one.run_id)
    load_run_model(database, one.run_id, device="cpu")
    with pytest.raises(ContentRemoved):
        evaluate(database, str(one.run_id), "cpu")
    with pytest.raises(ContentRemoved):
        export_dataset(database, tmp_path / "data", run_id=one.run_id)
    with pytest.raises(BadSetting):
        train(database, settings(tiny_clip, channels=("UC1",)))
    assert {pair.channel_id for pair in searchable(database)} == {"UC2"}
    assert new_pairs(database).videos >= 0
    # The videos that are left have the splits that they had.
    after = train(database, settings(tiny_clip))
    with database.read() as session:
        found = {row.video_id: row.split for row in load_examples(session, after.snapshot_id)}
        assert found == {row.video_id: row.split for row in examples if row.channel_id == "UC2"}
        assert get_run(session, after.run_id).status == "done"
    assert evaluate(database, str(after.run_id), "cpu").matches
