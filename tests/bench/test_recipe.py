"""The benchmark's recipe does what the published recipe describes, on a real server with a small real model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer

from bench import recipe
from bench.channels import channel_of_pairs, write_table
from bench.clock import Clock
from bench.models import TITLE_MODEL
from tests.standin import StandIn


def test_the_split_equals_that_of_the_recipe() -> None:
    videos = pd.DataFrame({"title": [f"title {number}" for number in range(76)]})
    parts = recipe.split(videos)
    assert {name: len(part) for name, part in parts.items()} == {"train": 53, "valid": 11, "test": 12}
    shuffled = videos.sample(frac=1, random_state=42).title.tolist()
    assert [title for part in parts.values() for title in part.title] == shuffled


def test_negatives_are_the_least_similar_titles_used_once() -> None:
    titles = ["a red boat", "a boat in red", "taxes explained", "income tax in ten minutes", "feeding a cat"]
    negatives = recipe.least_similar_titles(titles, TITLE_MODEL, "cpu")
    vectors = SentenceTransformer(TITLE_MODEL, device="cpu").encode(titles, normalize_embeddings=True)
    free = set(range(len(titles)))
    for row, negative in enumerate(negatives):
        least = min(free, key=lambda other: float(np.dot(vectors[row], vectors[other])))
        assert negative == titles[least]
        free.remove(least)
    assert not free


@pytest.mark.slow
def test_the_recipe_runs_completely(tiny_clip: Path, tmp_path: Path) -> None:
    catalogue = channel_of_pairs(24)
    clock = Clock()
    with StandIn(catalogue) as server:
        write_table(catalogue, server, tmp_path / "videos.csv")
        found = recipe.run(clock, table=str(tmp_path / "videos.csv"), model=str(tiny_clip), title_model=TITLE_MODEL)
    assert server.journal.count() == server.journal.count("picture", 200) == 24, "one request per thumbnail"
    assert found["rows"] == {"train": 16, "valid": 3, "test": 5}
    assert set(clock.phases) == {"mine", "fetch", "dataset", "load", "evaluate", "prepare", "fit"}
    for model in ("base", "tuned"):
        for split, n in found["rows"].items():
            hits = found["recall@1"][model][split] * n
            assert hits == pytest.approx(round(hits), abs=1e-5)


def test_a_channel_of_pairs_has_only_pairs() -> None:
    catalogue = channel_of_pairs(30)
    assert len(catalogue.videos) == len(catalogue.public()) == 30
    assert all((video.duration_s or 0) >= 180 and video.live == "none" for video in catalogue.public())


def test_a_channel_with_too_few_pairs_is_refused(tmp_path: Path) -> None:
    video = {"id": "abcdefghijk", "title": "The only one", "published": "2024-01-01T00:00:00Z"}
    (tmp_path / "videos.json").write_text(json.dumps([video]))
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / "abcdefghijk.jpg").write_bytes(b"never read")
    assert set(channel_of_pairs(1, tmp_path).videos) == {"abcdefghijk"}
    with pytest.raises(SystemExit, match="1 pairs, not 2"):
        channel_of_pairs(2, tmp_path)
