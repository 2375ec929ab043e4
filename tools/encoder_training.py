"""Train the demo's encoder."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from encoder_data import IMAGE_SIZE, MAX_TOKENS, SHAPES, WORD_DIMENSIONS, Pairs, babble, word_sum
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from thumbtune.demo.drawing_scene import COLOURS, COUNTS, SETTINGS
from thumbtune.demo.drawing_subjects import SUBJECTS

PROJECTION = 64
"""Length of an embedding."""
_WIDTH = 96
# CLIP's own normalisation, which is the image processor's default.
_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
_DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True, slots=True)
class Settings:
    """Length and speed of the training."""

    steps: int
    batch: int = 96
    rate: float = 1.5e-3
    seed: int = 0


class Lessons(nn.Module):
    """Auxiliary tasks for the towers, so that their vectors contain more information than the training titles need.

    The thumbnail's vector must predict the attributes of the scene, and the title's vector its words, known or not. A
    linear map can then extract a channel's own names, and fine-tuning only trains such maps, the projections.
    """

    def __init__(self, drawn_words: int) -> None:
        super().__init__()
        sizes = (len(SUBJECTS), len(COLOURS), len(COUNTS), len(SETTINGS), len(SHAPES), drawn_words)
        self.attributes = nn.ModuleList(nn.Linear(_WIDTH, size) for size in sizes)
        self.badge = nn.Linear(_WIDTH, 3)
        self.words = nn.Linear(_WIDTH, WORD_DIMENSIONS)

    def picture_loss(self, vectors: Tensor, labels: Tensor, badges: Tensor) -> Tensor:
        """Return the mean loss of predicting the attributes: vectors (n, width), labels (n, 6), badges (n, 3)."""
        losses = [
            nn.functional.cross_entropy(head(vectors), labels[:, index]) for index, head in enumerate(self.attributes)
        ]
        # The subject is the hardest attribute, and is learnt earlier with a greater weight.
        return losses[0] + torch.stack(losses[1:]).mean() + nn.functional.mse_loss(self.badge(vectors), badges)

    def title_loss(self, vectors: Tensor, sums: Tensor) -> Tensor:
        """Return the loss of predicting the words: vectors (n, width), sums (n, WORD_DIMENSIONS)."""
        loss: Tensor = nn.functional.mse_loss(self.words(vectors), sums)
        return loss


def new_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained dual encoder: a vision transformer of 36 patches and a text transformer, both 96 wide."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    # On a CPU, training with the library's fused "gelu" is three times faster than with CLIP's "quick_gelu".
    shared = {"hidden_act": "gelu", "hidden_size": _WIDTH, "num_attention_heads": 4, "projection_dim": PROJECTION}
    config = CLIPConfig(
        text_config={
            **shared,
            **ends,
            "intermediate_size": 3 * _WIDTH,
            "num_hidden_layers": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": MAX_TOKENS,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            **shared,
            "intermediate_size": 4 * _WIDTH,
            "num_hidden_layers": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": 16,
        },
        projection_dim=PROJECTION,
    )
    return CLIPModel(config)


def pixel_values(pixels: NDArray[np.uint8]) -> Tensor:
    """Return uint8 pictures (n, height, width, 3) as CLIP's normalised float32 (n, 3, height, width)."""
    values = torch.from_numpy(pixels).float().div_(255.0)
    return values.sub_(_MEAN).div_(_DEVIATION).permute(0, 3, 1, 2).contiguous()


def picture_vectors(model: CLIPModel, pixels: NDArray[np.uint8]) -> Tensor:
    """Return the pooled vectors of pictures before the projection, float32 (n, width)."""
    vectors: Tensor = model.vision_model(pixel_values=pixel_values(pixels)).pooler_output
    return vectors


def title_vectors(model: CLIPModel, tokenizer: CLIPTokenizer, titles: Sequence[str]) -> Tensor:
    """Return the pooled vectors of titles before the projection, float32 (n, width)."""
    tokens = tokenizer(list(titles), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    outputs = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    vectors: Tensor = outputs.pooler_output
    return vectors


def train(  # noqa: PLR0917 -- model, data and settings
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    channels: Sequence[Pairs],
    lexicon: Sequence[str],
    drawn_words: int,
    settings: Settings,
    say: Callable[[str], None],
) -> None:
    """Train the model in place: CLIP's symmetric loss on batches of one channel each, plus the auxiliary losses."""
    rng = random.Random(f"{settings.seed}:batches")
    lessons = Lessons(drawn_words)
    parameters = [*model.parameters(), *lessons.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=max(settings.steps, 100), pct_start=0.1, cycle_momentum=False
    )
    for step in range(settings.steps):
        pairs = rng.choice(channels)
        chosen = [rng.randrange(len(pairs.scenes)) for _ in range(settings.batch)]
        titles = [pairs.voice.phrase(pairs.scenes[i], rng, rng.randint(1, 99)) for i in chosen]
        noise = [babble(rng, lexicon) for _ in range(settings.batch // 3)]
        pictures = picture_vectors(model, _varied(pairs.pixels[chosen], rng))
        texts = title_vectors(model, tokenizer, titles)
        noise_texts = title_vectors(model, tokenizer, noise)
        sums = torch.from_numpy(np.stack([word_sum(title) for title in (*titles, *noise)]))
        matching = _matching_loss(model, pictures, texts)
        naming = lessons.picture_loss(
            pictures, torch.from_numpy(pairs.labels[chosen]), torch.from_numpy(pairs.badges[chosen])
        )
        recalling = lessons.title_loss(torch.cat([texts, noise_texts]), sums)
        optimizer.zero_grad()
        (matching + naming + recalling).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=float(np.log(40.0)))
        if step % 50 == 0 or step == settings.steps - 1:
            losses = f"match {matching.item():.3f}, picture {naming.item():.3f}, words {recalling.item():.3f}"
            say(f"step {step:5d} of {settings.steps}: {losses}")


def _varied(pixels: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Return the pictures with their brightness varied, each by a random amount."""
    noise = np.random.default_rng(rng.getrandbits(32))
    gain = noise.uniform(0.88, 1.12, (len(pixels), 1, 1, 3)).astype(np.float32)
    varied: NDArray[np.uint8] = np.clip(pixels * gain, 0, 255).astype(np.uint8)
    return varied


def _matching_loss(model: CLIPModel, pictures: Tensor, texts: Tensor) -> Tensor:
    left = nn.functional.normalize(model.visual_projection(pictures), dim=-1)
    right = nn.functional.normalize(model.text_projection(texts), dim=-1)
    scores = left @ right.T * model.logit_scale.exp()
    own = torch.arange(len(scores))
    return (nn.functional.cross_entropy(scores, own) + nn.functional.cross_entropy(scores.T, own)) / 2
