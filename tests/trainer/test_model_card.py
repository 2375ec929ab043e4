"""Model cards: their content, what they must not contain, and that their code runs unchanged."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image, ImageDraw

from store.db import Database
from store.errors import NotFound
from store.training import add_evaluations, end_run, load_examples, snapshot_info, start_run
from tests.trainer.tiny import draw, fill
from thumbtune.demo.session import ENCODER
from trainer.artifacts import save_whole_model
from trainer.data import framed, snapshot
from trainer.models import Encoder
from trainer.quiet import quiet_libraries
from trainer.runs import model_card
from trainer.runs.cards import hub_name, licence_of, public_name
from trainer.settings import Bars, CropMode, TrainSettings

FINGERPRINT = "c0ffee" + "0" * 58


def add_run(
    database: Database, base_model: str = "openai/clip-vit-base-patch32", snapshot_id: int | None = None, **other: Any
) -> int:
    """A finished run, with recalls of both models on all splits."""
    settings = {**TrainSettings(train="projection", lr=1e-4, model=base_model).as_dict(), **other}
    with database.write() as session:
        run_id = start_run(
            session,
            snapshot_id=snapshot_id,
            base_model=base_model,
            base_fingerprint=FINGERPRINT,
            trained=settings["train"],
            seed=settings["seed"],
            settings=settings,
            packages={"thumbtune": "0.1.0", "torch": "2.5", "python": "3.11"},
            device="cpu",
            parameters_total=4000,
            parameters_trainable=1000,
            artifact_path="/home/someone/thumbtune-models/run-1.safetensors",
            host="the-host",
            pid=1,
        )
        for model, value in (("base", 0.5), ("tuned", 0.75), ("champion", 0.6)):
            for split, n in (("train", 28), ("valid", 6), ("test", 6)):
                row = {"model": model, "split": split, "n": n, "low": value - 0.25, "high": value + 0.125}
                where = {"scope": "all", "direction": "thumbnail_to_title", "k": 1, "value": value}
                add_evaluations(session, run_id, [{**row, **where, "metric": "recall@1"}])
                add_evaluations(session, run_id, [{**row, **where, "metric": "recall@5", "value": 0.987}])
        end_run(session, run_id, "done")
    return run_id


def made_snapshot(database: Database, **settings: Any) -> int:
    """A snapshot of 40 pairs of two channels."""
    fill(database, 30)
    fill(database, 10, "UC2")
    chosen = snapshot.select_pairs(database)
    return snapshot.write_snapshot(database, chosen, chosen.examples, TrainSettings(**settings), None)[0]


def test_the_card_states_training_and_measurements(database: Database) -> None:
    snapshot_id = made_snapshot(database)
    card = model_card(database, add_run(database, snapshot_id=snapshot_id, lora_rank=4, mask=True))
    with database.read() as session:
        info = snapshot_info(session, snapshot_id)
    assert "40 (thumbnail, title) pairs of 2 YouTube channels, published from 2024-01-01 to 2024-01-30." in card
    assert sum(info.counts.values()) == 40
    assert "\n".join(f"| {split} | {n} |" for split, n in info.counts.items()) in card
    assert f"Fingerprint of the dataset: `{info.fingerprint}`." in card
    assert "form a group (40 here)" in card
    assert "Negative titles (`least-similar`): the title that is least similar" in card
    assert "| valid | base | 0.500 | 0.250 to 0.625 | 6 |\n| valid | tuned | 0.750 | 0.500 to 0.875 | 6 |" in card
    assert "| test | tuned | 0.750 | 0.500 to 0.875 | 6 |" in card
    assert "Models are chosen by `valid`, never by `test`." in card
    assert "0.987" not in card
    assert "champion" not in card
    assert f"| fingerprint of the base model | `{FINGERPRINT}` |" in card
    assert "| parameters trained | 1,000 of 4,000 (25.00 %) |" in card
    for row in ("epochs | 2", "batch size | 16", "learning rate | 0.0001", "seed | 42", "device | cpu"):
        assert f"| {row} |" in card
    assert "| precision of frozen towers | fp32 |" in card
    assert "| crop mode | `crop`: " in card
    assert "LoRA" not in card
    assert "cosines are divided by 0.05" in card
    assert "is excluded from its candidates" in card
    assert "The test split has 6 videos, so the true recall@1 may be anywhere from 0.500 to 0.875" in card
    assert "The licence of [openai/clip-vit-base-patch32]" in card


def test_settings_without_effect_are_omitted(sqlite_database: Database) -> None:
    card = model_card(
        sqlite_database,
        add_run(sqlite_database, train="lora", negatives="hard", mask=False, temperature=0.1, precision="bf16"),
    )
    for row in ("LoRA rank | 8", "LoRA alpha | 16.0", "highest similarity of a negative | 0.9", "trained | `lora`"):
        assert f"| {row} |" in card
    assert "| precision of frozen towers | bf16 |" in card
    assert "cosines are divided by 0.1" in card
    assert "is excluded from its candidates" not in card
    assert "started from" not in card
    card = model_card(sqlite_database, add_run(sqlite_database, start="champion"))
    assert "| started from | an earlier run of the base model |" in card


def test_a_closed_form_has_no_settings_of_steps(sqlite_database: Database) -> None:
    card = model_card(sqlite_database, add_run(sqlite_database, train="ridge"))
    assert "closed form" in card
    assert "| seed | 42 |" in card
    assert [told for told in ("epochs", "learning rate", "AdamW") if told in card] == []


def test_a_regular_expression_is_escaped_in_its_cell(sqlite_database: Database) -> None:
    card = model_card(sqlite_database, add_run(sqlite_database, train="visual|text"))
    assert r"| trained | `visual\|text` |" in card


def test_the_hub_library_reads_the_metadata(database: Database, tmp_path: Path) -> None:
    run_id = add_run(database, snapshot_id=made_snapshot(database))
    (tmp_path / "README.md").write_text(model_card(database, run_id), encoding="utf-8")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert data.base_model == "openai/clip-vit-base-patch32"
    assert data.tags is not None
    assert {"clip", "thumbtune"} <= set(data.tags)
    assert data.eval_results is not None
    found = {(row.dataset_split, row.metric_type, row.metric_value, row.dataset_name) for row in data.eval_results}
    assert found == {(split, "recall_at_1", 0.75, f"{split} split, n = 6") for split in ("valid", "test")}


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n# A model\n", "mit"),
        ("---\r\nlicense:  cc-by-4.0 \r\n---\r\n", "cc-by-4.0"),
        ("---\nlicense: [mit, other]\n---\n", None),
        ("---\nlicense: mit\\nbase_model: evil\n---\n", None),
        ("# A model\n---\nlicense: mit\n---\n", None),
        ("\xff", None),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_base_model(
    sqlite_database: Database, tmp_path: Path, readme: str | None, licence: str | None
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    if readme is not None:
        (base / "README.md").write_bytes(readme.encode("latin-1"))
    (tmp_path / "README.md").write_text(model_card(sqlite_database, add_run(sqlite_database, str(base))))
    assert ModelCard.load(tmp_path / "README.md").data.license == licence


def test_the_demo_encoder_has_a_licence() -> None:
    assert licence_of(str(ENCODER)) == "apache-2.0"


@pytest.mark.parametrize("relative", [False, True])
def test_the_card_contains_nothing_private(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "secret-place" / "my-clip"
    base.mkdir(parents=True)
    snapshot_id = made_snapshot(database, title_model=str(tmp_path / "secret-place" / "titles"))
    named = "secret-place/my-clip" if relative else str(base)
    settings = {"title_model": str(tmp_path / "secret-place" / "titles"), "channels": ["UC1", "UC2"]}
    card = model_card(database, add_run(database, named, snapshot_id, **settings))
    assert "# my-clip, fine-tuned" in card
    assert "`my-clip` (a local folder)" in card
    assert "| titles compared by | `titles` |" in card
    assert "base_model" not in card
    assert "The licence of the base model applies" in card
    with database.read() as session:
        rows = load_examples(session, snapshot_id)
    hidden = {text for row in rows for text in (row.title, row.video_id, row.channel_id, row.picture_sha256)}
    hidden |= {"secret-place", str(tmp_path), "/home/", "the-host", "thumbtune-models"}
    assert [text for text in hidden if text in card] == []


@pytest.mark.parametrize(
    ("name", "full", "public"),
    [
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("clip-ViT-B-32", "sentence-transformers/clip-ViT-B-32", "clip-ViT-B-32"),
        ("/models/clip", None, "clip"),
        ("./clip", None, "clip"),
        ("~/clip", None, "clip"),
        ("gone/models/clip", None, "clip"),
        (r"C:\models\clip", None, "clip"),
        ("/", None, "a local model"),
    ],
)
def test_names_of_base_models(name: str, full: str | None, public: str) -> None:
    assert hub_name(name) == full
    assert public_name(name) == public


def test_an_unknown_run_is_an_error(sqlite_database: Database) -> None:
    with pytest.raises(NotFound, match="there is no run 3"):
        model_card(sqlite_database, 3)


def test_a_run_without_snapshot_or_metrics_has_a_card(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        facts: dict[str, Any] = {"settings": {}, "packages": {}, "host": "here", "pid": 1}
        run_id = start_run(session, base_model="clip", trained="all", seed=1, **facts)
    card = model_card(sqlite_database, run_id)
    assert "Not recorded." in card
    assert "not scored on a test split" in card
    assert "model-index" not in card


def snippet(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(code)


def wide() -> Image.Image:
    """A 480x360 picture with YouTube's bars above and below a 16:9 one."""
    image = Image.new("RGB", (480, 360), "black")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 45, 479, 314), fill="orange")
    pen.ellipse((20, 100, 200, 280), fill="navy")
    return image


def pictures() -> list[Image.Image]:
    unbarred = Image.frombytes("RGB", (480, 360), np.random.default_rng(0).bytes(480 * 360 * 3))
    odd = Image.new("RGB", (481, 77), "red")
    return [
        wide(),
        unbarred,
        wide().resize((120, 90)),
        wide().crop((0, 45, 480, 315)),
        odd,
        odd.rotate(90, expand=True),
    ]


def test_the_card_names_the_oldest_compatible_library(
    sqlite_database: Database, encoder: Encoder, tmp_path: Path
) -> None:
    card = model_card(sqlite_database, add_run(sqlite_database))
    assert 'pip install "sentence-transformers>=5.4"' in card
    save_whole_model(encoder.model, tmp_path / "model", card)
    # These classes came with 5.4: a module that lies elsewhere may need another version.
    (module,) = json.loads((tmp_path / "model" / "modules.json").read_text(encoding="utf-8"))
    assert module["type"] == "sentence_transformers.base.modules.transformer.Transformer"


@pytest.mark.parametrize("bars", ["cut", "keep"])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_code_of_the_card_runs(
    sqlite_database: Database,
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fit: CropMode,
    bars: Bars,
) -> None:
    run_id = add_run(sqlite_database, fit=fit, bars=bars)
    save_whole_model(encoder.model, tmp_path / "model", model_card(sqlite_database, run_id, name="model"))
    monkeypatch.chdir(tmp_path)
    Path("thumbnail.jpg").write_bytes(draw("red", "circle"))
    code = snippet((tmp_path / "model" / "README.md").read_text(encoding="utf-8"))
    told = io.StringIO()
    values: dict[str, Any] = {}
    with quiet_libraries(), redirect_stdout(told):
        exec(compile(code, "README.md", "exec"), values)
    assert tuple(values["scores"].shape) == (1, 2)
    assert told.getvalue().startswith("tensor(")
    if (fit, bars) == ("crop", "keep"):
        assert "framed" not in values
        return
    fill_colour = (123, 117, 104)  # CLIP's mean colour
    for picture in pictures():
        expected = framed(picture, fit, side=32, fill=fill_colour)
        assert (np.asarray(values["framed"](picture)) == np.asarray(expected)).all(), picture.size
