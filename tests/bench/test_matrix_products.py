"""All matrix products of a real forward pass, with their sizes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPModel

from bench.matrix_products import MatrixProducts


def test_every_product_of_both_towers_is_recorded(tiny_clip: Path) -> None:
    model = CLIPModel.from_pretrained(tiny_clip)
    products = MatrixProducts()
    with torch.no_grad(), products.record(model):
        model.vision_model(pixel_values=torch.zeros(3, 3, 32, 32))
        model.text_model(input_ids=torch.tensor([[2, 5, 6, 3], [2, 7, 8, 3]]))
    # 16 patches of 8 x 8 and a class token a picture; width 32, MLP 64, 2 layers, 2 heads of 16.
    patches = 2 * (3 * 16) * (3 * 8 * 8) * 32

    def layers(batch: int, tokens: int) -> int:
        linear = 2 * batch * tokens * (4 * 32 * 32 + 2 * 32 * 64)
        attention = 2 * (2 * batch * 2 * tokens * tokens * 16)
        return 2 * (linear + attention)

    assert products.flops == patches + layers(3, 17) + layers(2, 4)
    # In each of 2 layers of 2 towers: 6 linear layers and an attention; and the patches.
    assert len(products.calls) == 2 * 2 * 7 + 1
    assert products.run() > 0


def test_nothing_is_recorded_after_the_block(tiny_clip: Path) -> None:
    model = CLIPModel.from_pretrained(tiny_clip)
    products = MatrixProducts()
    with products.record(model):
        pass
    with torch.no_grad():
        model.vision_model(pixel_values=torch.zeros(1, 3, 32, 32))
    assert (products.flops, products.calls) == (0, [])
