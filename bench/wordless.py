"""Blur the text on a channel's thumbnails: a substitute for a channel whose thumbnails show no words."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
from PIL import Image, ImageFilter
from rapidocr_onnxruntime import RapidOCR

from thumbtune.standin.catalogue import Catalogue

__all__ = ["without_words"]

_PASSES = 3
"""The OCR finds further text where larger text is blurred."""
_MARGIN = 6
"""Pixels around a text box: letters reach beyond it."""


def without_words(catalogue: Catalogue) -> None:
    """Blur each part of the channel's thumbnails in which the OCR's detector finds text, whether it can be read or not.

    Each part is blurred over its own height, so that its colours stay and its letters disappear.
    """
    engine = RapidOCR(use_cls=False, intra_op_num_threads=1, inter_op_num_threads=1)
    for video in catalogue.public():
        catalogue.change(video.id, picture=partial(bytes, _blurred(engine, video.picture())))


def _blurred(engine: RapidOCR, content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    for _ in range(_PASSES):
        boxes, _seconds = engine(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]), use_rec=False)
        if not boxes:
            break
        for corners in boxes:
            across, down = [int(x) for x, _ in corners], [int(y) for _, y in corners]
            box = (
                max(0, min(across) - _MARGIN),
                max(0, min(down) - _MARGIN),
                min(image.width, max(across) + _MARGIN),
                min(image.height, max(down) + _MARGIN),
            )
            image.paste(image.crop(box).filter(ImageFilter.GaussianBlur((box[3] - box[1]) / 2)), box[:2])
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
