"""The demo's dual encoder: its format, its size, its recall, and its reproducible build."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import thumbtune.demo
from thumbtune.demo.channel import drawn_channel
from trainer.data import without_bars

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from sentence_transformers import SentenceTransformer

from tests import forked

pytestmark = pytest.mark.slow

FOLDER = Path(thumbtune.demo.__file__).parent / "encoder"
BUILD = Path(__file__).parents[2] / "tools" / "build_encoder.py"
FORKED = (*forked.CODE, f"import runpy; runpy.run_path({str(BUILD)!r}, run_name='__main__')")
ODD_TITLES = [
    "",
    "Ω≈ç√ éàü",
    "漢字かな交じり文",
    "🎈🦉👩‍🚀",
    "مرحبا بالعالم",
    "\u202eright to left\u202c",
    "nul \x00 and \ud7ff",
    "word " * 200,
]


@pytest.fixture(scope="module")
def encoder() -> SentenceTransformer:
    return SentenceTransformer(str(FOLDER), device="cpu", local_files_only=True)


def vectors(encoder: SentenceTransformer, inputs: Sequence[str | Image.Image]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = encoder.encode(list(inputs), normalize_embeddings=True)
    return found


def test_the_folder_is_small_and_has_only_safetensors() -> None:
    files = sorted(path.name for path in FOLDER.iterdir())
    assert files == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 4_000_000


def test_the_encoder_is_a_clip_with_the_projections_of_the_recipe(encoder: SentenceTransformer) -> None:
    names = [name for name, _ in encoder.named_parameters() if "projection" in name]
    assert [name.split(".")[-2] for name in names] == ["visual_projection", "text_projection"]
    assert vectors(encoder, ["a red boat"]).shape == (1, 64)
    assert vectors(encoder, [Image.new("RGB", (480, 360))]).shape == (1, 64)


def test_any_unicode_title_has_tokens_and_a_finite_vector(encoder: SentenceTransformer) -> None:
    found = vectors(encoder, ODD_TITLES)
    assert np.isfinite(found).all()
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    tokenizer = encoder.tokenizer
    for title in ODD_TITLES:
        ids = tokenizer(title, truncation=True)["input_ids"]
        assert 2 <= len(ids) <= tokenizer.model_max_length
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in ids[1:-1]
    assert float(found[2] @ found[4]) < 0.999


def test_the_tokenizer_decodes_to_the_same_title(encoder: SentenceTransformer) -> None:
    title = "two neon owls at night"
    assert (
        encoder.tokenizer.decode(encoder.tokenizer(title)["input_ids"], skip_special_tokens=True).split()
        == title.split()
    )


def test_the_encoder_has_middling_recall_on_the_drawn_channel(encoder: SentenceTransformer) -> None:
    videos = [video for video in drawn_channel().listed() if (video.duration_s or 0) >= 180][:240]
    pictures = vectors(encoder, [without_bars(Image.open(io.BytesIO(video.picture()))) for video in videos])
    titles = vectors(encoder, [video.title for video in videos])
    own = np.arange(60)
    recalls = []
    for start in range(0, 240, 60):
        rows = slice(start, start + 60)
        recalls.append(float(((pictures[rows] @ titles[rows].T).argmax(axis=1) == own).mean()))
    # Chance is 1 in 60.
    assert 0.15 < float(np.mean(recalls)) < 0.85


@pytest.mark.processes
def test_the_build_script_is_deterministic(tmp_path: Path) -> None:
    """In a fork, and in a process of its own, which has another seed of hashes."""
    digests = []
    for name, run, python in (("one", forked.run, FORKED), ("two", subprocess.run, (sys.executable, str(BUILD)))):
        output = tmp_path / name
        command = [
            *python,
            "--output",
            str(output),
            "--steps",
            "2",
            "--pictures",
            "4",
            "--threads",
            "1",
        ]
        done = run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        digests += re.findall(r"sha256 ([0-9a-f]{64})$", done.stdout, flags=re.MULTILINE)
    assert len(digests) == 2
    assert digests[0] == digests[1]
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (tmp_path / "two" / "tokenizer.json").read_bytes()
    built = SentenceTransformer(str(tmp_path / "one"), device="cpu", local_files_only=True)
    assert vectors(built, ["anything"]).shape == (1, 64)


@pytest.mark.processes
def test_the_build_script_refuses_zero_training_steps(tmp_path: Path) -> None:
    command = [*FORKED, "--output", str(tmp_path / "none"), "--steps", "0"]
    done = forked.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "--steps and --pictures must be at least 1" in done.stderr
    assert not (tmp_path / "none").exists()
