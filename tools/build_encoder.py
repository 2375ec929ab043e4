"""Build the small dual encoder that `thumbtune demo` uses, from generated thumbnails and titles.

    python tools/build_encoder.py --output thumbtune/demo/encoder

Trains on the ten invented channels of `tools/training_styles.py`, never on the demo's channel, and saves a folder in
the CLIP format that `SentenceTransformer(folder)` loads. The same seed on the same machine gives identical files.
Prints the digest of `model.safetensors` at the end.

Finally, both projections are scaled to the size of CLIP's weights. This does not change cosine similarities, but a
learning rate then has a similar effect as with a CLIP model.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from encoder_data import IMAGE_SIZE, build_tokenizer, draw_pairs, drawn_words, known_words, sample_titles
from encoder_training import Settings, new_model, train
from training_styles import TRAINING_CHANNELS
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

VOCABULARY = 1024
"""Entries of the vocabulary: 512 for bytes, two for the start and end of the text, the rest for frequent sequences."""
LIMIT = 4_000_000
"""The maximum size of the folder in bytes."""
WEIGHT = 0.03
"""Root mean square weight of both projections, similar to CLIP's."""


def build(output: Path, steps: int, pictures: int, seed: int) -> str:
    """Train the encoder and save it to `output`; return the SHA-256 of its `model.safetensors` in hexadecimal.

    Raises:
        SystemExit: the folder is larger than `LIMIT`.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    titles = sample_titles(TRAINING_CHANNELS, 300, seed)
    tokenizer = build_tokenizer(titles, VOCABULARY, seed)
    words = drawn_words(TRAINING_CHANNELS)
    say(f"drawing {pictures} thumbnails of each of {len(TRAINING_CHANNELS)} channels")
    pairs = [
        draw_pairs(channel, [one for one in TRAINING_CHANNELS if one is not channel], pictures, seed, words)
        for channel in TRAINING_CHANNELS
    ]
    model = new_model(tokenizer)
    say(f"training {model.num_parameters():,} parameters")
    train(model, tokenizer, pairs, known_words(titles), len(words), Settings(steps, seed=seed), say)
    model.eval()  # type: ignore[no-untyped-call]
    for layer in (model.visual_projection, model.text_projection):
        layer.weight.data *= WEIGHT / layer.weight.data.square().mean().sqrt()
    save(output, model, tokenizer)
    size = sum(path.stat().st_size for path in output.iterdir())
    if size > LIMIT:
        raise SystemExit(f"error: {output} has {size:,} bytes, more than {LIMIT:,}; make the model smaller")
    say(f"saved {size:,} bytes to {output}")
    return hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()


def save(output: Path, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """Write the model, its tokenizer and its image processor as a folder in the CLIP format."""
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    # Resizes the whole frame to a square, so that content outside of the middle square counts, too.
    CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False).save_pretrained(output)
    for path in output.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read


def say(line: str) -> None:
    """Print a line of progress with the time since the start."""
    sys.stdout.write(f"{time.perf_counter() - _START:6.0f} s  {line}\n")
    sys.stdout.flush()


_START = time.perf_counter()


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write the encoder to")
    parser.add_argument("--steps", type=int, default=1500, help="training steps (default %(default)s)")
    parser.add_argument("--pictures", type=int, default=800, help="thumbnails of each channel (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default %(default)s)")
    options = parser.parse_args()
    if options.steps < 1 or options.pictures < 1:
        parser.error("--steps and --pictures must be at least 1")
    torch.set_num_threads(options.threads)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    digest = build(options.output, options.steps, options.pictures, options.seed)
    say(f"sha256 {digest}")


if __name__ == "__main__":
    main()
