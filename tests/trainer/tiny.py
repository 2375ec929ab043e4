"""A tiny CLIP with random weights in the real file format, and a channel of small drawn thumbnails."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from store.db import Database
from tests.store.builders import add_channel, add_video
from trainer.models import Encoder
from trainer.models.encoder import load_clip
from trainer.models.fingerprints import fingerprint

# For such small operations, a second thread costs more time than it saves.
torch.set_num_threads(1)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
COLOURS = ("red", "green", "blue", "orange", "purple", "black", "white", "pink", "brown", "navy")
SHAPES = ("circle", "square", "bar")


def load_encoder(name: str, device: str, *, text_model: str | None = None) -> Encoder:
    """Load a model that embeds thumbnails and titles, outside of any store."""
    model = load_clip(name, device, text_model=text_model)
    return Encoder(model, name, fingerprint(model), device)


def build_clip(folder: Path, seed: int = 0) -> Path:
    """Write a CLIP model with 47,000 random parameters to `folder`, in transformers' format."""
    special = ("<|pad|>", "<|unk|>", "<|startoftext|>", "<|endoftext|>")
    vocabulary = [*special, *(f"##{letter}" for letter in LETTERS), *LETTERS, *COLOURS, *SHAPES]
    tokenizer = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(vocabulary)}, unk_token="<|unk|>")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 2), ("<|endoftext|>", 3)]
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        unk_token="<|unk|>",
        model_max_length=24,
    )
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {"vocab_size": len(vocabulary), "max_position_embeddings": 24}
    marks = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**tower, **words, **marks},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(seed)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = CLIPProcessor(image_processor=images, tokenizer=fast)  # type: ignore[no-untyped-call]
    processor.save_pretrained(folder)
    return folder


def draw(colour: str, shape: str, number: int = 0, mark: str = "") -> bytes:
    """Return a 48 x 36 PNG of one shape. `number` moves the shape; `mark` colours a corner."""
    image = Image.new("RGB", (48, 36), "grey")
    pen = ImageDraw.Draw(image)
    left = 8 + number % 7
    if shape == "circle":
        pen.ellipse((left, 6, left + 22, 28), fill=colour)
    elif shape == "square":
        pen.rectangle((left, 6, left + 20, 26), fill=colour)
    else:
        pen.rectangle((0, 12 + number % 5, 48, 20), fill=colour)
    if mark:
        pen.rectangle((38, 0, 47, 11), fill=(zlib.crc32(mark.encode()) & 0xFFFFFF))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def fill(database: Database, n: int, channel_id: str = "UC1", first: int = 0) -> None:
    """Add `n` pairs with distinct titles and thumbnails, as a sync leaves them."""
    with database.write() as session:
        add_channel(session, channel_id, f"@{channel_id.lower()}", channel_id)
        for number in range(first, first + n):
            colour, shape = COLOURS[number % 10], SHAPES[number // 10 % 3]
            # Thumbnails of different channels must look different, because similar thumbnails form one group.
            mark = "" if channel_id == "UC1" else channel_id
            add_video(
                session,
                f"{channel_id}-{number:03}",
                day=number,
                title=f"{colour} {shape} {number} {channel_id}",
                picture=draw(colour, shape, number, mark) + str((channel_id, number)).encode(),
                channel_id=channel_id,
            )
