"""Invalid values in any file of a model's folder give one error that names the folder, in bounded time and memory."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.hostile.model_folders import edit
from tests.trainer.families import siglip, text_student
from tests.trainer.tiny import build_clip
from trainer.errors import DamagedModel, ModelUnavailable
from trainer.models.encoder import Encoder, load_clip, title_vectors
from trainer.models.lazy import Facts
from trainer.models.loading import load_model, try_out
from trainer.progress import uncounted
from trainer.quiet import quiet_libraries

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 7, 50_000, 2**31, 2**63, 10**30, 10**400, 1.5, float("nan"), float("inf")),
    *("", "x", "24", "\ud800", "\0", "../../etc/passwd", "x" * 70_000, [], [[]], ["x"], list(range(1000))),
    *({}, {"a": 1}, {"shortest_edge": 10**9}, {"content": "x"}),
)
TITLES = ["red circle 1", "A fox, 3 Füchse & 狐's", ""]
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("good")
    with quiet_libraries():
        return {
            "clip": build_clip(place / "clip"),
            "siglip": siglip(place / "siglip"),
            "text": text_student(place / "text", 16),
        }


class Drawn:
    """A source of thumbnails of different sizes."""

    def load(self, digests: Any) -> list[Image.Image]:
        return [Image.new("RGB", (40 + n, 30), "red") for n, _ in enumerate(digests)]


def use(family: str, folder: Path) -> None:
    """Load a model as the commands do, and embed with it."""
    if family == "text":
        model = load_model(str(folder), "cpu", option="--title-model", text_only=True)
        try_out(model, str(folder), "--title-model")
        title_vectors(model, TITLES, uncounted)
        return
    model = load_clip(str(folder), "cpu")
    encoder = Encoder(model, str(folder), Facts.of(model).fingerprint, "cpu", "pad")
    encoder.picture_vectors(["a", "b"], Drawn(), uncounted)
    encoder.title_vectors(TITLES, uncounted)
    encoder.cut_titles(TITLES)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values in a JSON value, but only of the first 40 items of each list and object."""
    yield path
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys[:40]:
        yield from places(value[key], (*path, key))


def mutate(folder: Path, dice: random.Random) -> str:
    """Change one value or some bytes of a file; return a description of the change."""
    path = dice.choice(sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".model")))
    content = path.read_bytes()
    if path.suffix != ".json" or dice.random() < 0.1:
        at = dice.randrange(len(content))
        path.write_bytes(dice.choice([content[:at], content[:at] + b"\xff\xfe" + content[at:], b"", bytes(at)]))
        return f"{path.name} at {at}"
    value = json.loads(content)
    place, other = dice.choice([place for place in places(value) if place]), dice.choice(VALUES)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if dice.random() < 0.2:
        del inner[place[-1]]
    else:
        inner[place[-1]] = other
    # A repeated key: the first value is ignored.
    twice = b'{"model_type": 5, ' if dice.random() < 0.1 and isinstance(value, dict) else b"{"
    path.write_bytes(json.dumps(value).encode().replace(b"{", twice, 1))
    return f"{path.name} {place} = {str(other)[:50]!r}"


def refusal(family: str, folder: Path) -> str | None:
    """Return the error of an unusable model; None if it can be used. Errors of other classes are raised."""
    try:
        use(family, folder)
    except ModelUnavailable as error:
        return str(error)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("family", ["clip", "siglip", "text"])
def test_any_invalid_value_is_an_error_that_names_the_folder(
    good: dict[str, Path], tmp_path: Path, family: str
) -> None:
    errors = []
    for seed in range(25):
        folder = shutil.copytree(good[family], tmp_path / str(seed))
        changed = mutate(folder, random.Random(f"{family} {seed}"))
        try:
            error = refusal(family, folder)
        except Exception as raised:
            raise AssertionError(changed) from raised
        if error is not None:
            assert str(folder) in error or "fails on a" in error, changed
            assert "\n" not in error, changed
            errors.append(error)
    assert 5 < len(errors) < 25


@pytest.mark.parametrize("length", ["24", [24], -5, 0, True, 1e30, float("nan"), 10**40, None, {}], ids=repr)
@pytest.mark.parametrize("family", ["clip", "text"])
def test_a_maximum_length_of_any_type_is_used_or_an_error(
    good: dict[str, Path], tmp_path: Path, family: str, length: object
) -> None:
    folder = shutil.copytree(good[family], tmp_path / "model")
    edit(folder / "tokenizer_config.json", model_max_length=length)
    assert str(folder) in (refusal(family, folder) or str(folder))


@pytest.mark.parametrize("options", [{"padding": "max_length", "max_length": 10**9}, {"pad_to_multiple_of": 10**9}])
def test_titles_are_not_padded_without_limit(good: dict[str, Path], tmp_path: Path, options: dict[str, Any]) -> None:
    folder = shutil.copytree(good["text"], tmp_path / "model")
    edit(folder / "sentence_bert_config.json", processing_kwargs={"text": options})
    assert "pads titles" in str(refusal("text", folder))


def _nested(path: Path, *keys: str, **changes: Any) -> None:
    value = json.loads(path.read_text())
    inner = value
    for key in keys:
        inner = inner[key]
    inner.update(changes)
    path.write_text(json.dumps(value))


def _replacing(times: int) -> dict[str, Any]:
    doubling = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
    return {"type": "Sequence", "normalizers": [doubling] * times}


def _mark(folder: Path) -> None:
    """Let the tokenizer end each title with 1.2 million tokens."""
    mark = {"SpecialToken": {"id": "x", "type_id": 0}}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, *[mark] * 40]
    marks = {"x": {"id": "x", "ids": [2] * 30_000, "tokens": ["x"] * 30_000}}
    processor = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": marks}
    edit(folder / "tokenizer.json", post_processor=processor)


COSTLY: dict[str, Change] = {
    "a million layers": lambda folder: _nested(folder / "config.json", "text_config", num_hidden_layers=10**6),
    "many layers": lambda folder: _nested(folder / "config.json", "text_config", num_hidden_layers=90_000),
    "a wide layer": lambda folder: _nested(folder / "config.json", "text_config", intermediate_size=10**7),
    "many words": lambda folder: _nested(folder / "config.json", "text_config", vocab_size=10**8),
    "large pictures": lambda folder: _nested(folder / "config.json", "vision_config", image_size=100_000),
    "many labels": lambda folder: edit(folder / "config.json", num_labels=10**9),
    "enlarging": lambda folder: _nested(
        folder / "processor_config.json", "image_processor", "size", shortest_edge=10**5
    ),
    "cropping": lambda folder: _nested(folder / "processor_config.json", "image_processor", "crop_size", height=10**7),
    "enlarging areas": lambda folder: _nested(
        folder / "processor_config.json", "image_processor", size={"shortest_edge": 10**7, "longest_edge": 10**7}
    ),
    "longer and longer": lambda folder: edit(folder / "tokenizer.json", normalizer=_replacing(60)),
    "many marks": _mark,
    "a long vocabulary": lambda folder: _endless(folder / "tokenizer.json"),
}


def _endless(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(3 * 2**30)


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_folder_is_refused_before_it_takes_time_or_memory(
    good: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """Without the checks, each folder takes minutes or gigabytes, and this test does not end."""
    folder = shutil.copytree(good["clip"], tmp_path / "model")
    COSTLY[kind](folder)
    with pytest.raises(DamagedModel) as caught:
        load_clip(str(folder), "cpu")
    assert str(folder) in str(caught.value)
