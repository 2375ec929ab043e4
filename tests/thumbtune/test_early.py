"""Wrong names and folders are refused before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.db import open_database
from tests.thumbtune.test_importing import videos_json
from thumbtune.importing import import_rows, open_source

pytestmark = pytest.mark.processes

WRONG = {
    "export dataset ours": 1,
    "export dataset ours --overwrite": 1,
    "export dataset file/below": 1,
    "export dataset new --channel @nobody": 2,
    "export dataset new --run 7": 1,
    "export model ours": 1,
    "export model /proc/new": 1,
    "export model new --run 7": 1,
    "push model me/mine --run 7": 1,
    "evaluate WRONG": 1,
    "evaluate --model ./WRONG": 1,
    "evaluate --model 7": 1,
    "search text --model WRONG": 1,
    "search text --model ours": 1,
    "search text --channel @nobody": 2,
    "search text --out nowhere/found.png": 2,
    "search --like missing.jpg": 2,
    "match missing.jpg Title": 2,
    "match video000000 Title --model 7:base": 1,
    "train --model WRONG": 1,
    "train --model demo --channel @nobody": 2,
    "train --model demo --output ours": 1,
    "train --model demo --train projection --title-model ./WRONG": 1,
    "retrain --no-sync --model WRONG": 1,
    "sweep --model WRONG": 1,
    "runs promote 7": 1,
    "search text": 1,
    "match video000000 Title": 1,
    "evaluate": 1,
    "export model new": 1,
    "push model me/mine": 1,
}
"""{command: exit code}"""

RUN = """
import json, sys
from thumbtune.cli import _run
done = {}
for command in json.loads(sys.argv[1]):
    code = _run(command.split(), debug=False)
    done[command] = [code, sorted({"torch", "transformers", "sentence_transformers", "datasets"} & set(sys.modules))]
print(json.dumps(done))
"""


def test_invalid_names_are_reported_before_torch_is_imported(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path / 'thumbtune.db'}") as database:
        import_rows(database, open_source(str(videos_json(tmp_path / "ours"))))
    (tmp_path / "file").touch()
    root = Path(__file__).parents[2]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(list(WRONG))],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout) == {command: [code, []] for command, code in WRONG.items()}
    assert done.stderr.count("error: ") == len(WRONG)
    assert not (tmp_path / "new").exists()
