"""Fit a wide picture into the square input of a CLIP-style model. Pure functions on pictures.

The preprocessing of such a model resizes the shorter edge to its input size (usually 224 pixels) and crops the middle
square. This keeps the middle 56 % of a 16:9 picture, and 75 % of YouTube's 4:3 sizes, bars included.
"""

from __future__ import annotations

from PIL import Image, ImageStat

from trainer.settings import CropMode

__all__ = ["framed", "without_bars"]

# JPEG codes blocks of 8 x 8 pixels: only the blocks that contain the edge of a bar are noisy.
_BLOCK = 8
# Limits for the luma of a bar, 0 to 255. Bars that were recompressed or scaled have some noise.
_BAR_MEAN = 8
_BAR_MOST = 32


def without_bars(image: Image.Image) -> Image.Image:
    """Remove the black bars above and below a 16:9 picture in a 4:3 frame, as in YouTube's sizes `high` and `default`.

    The result is the middle 16:9 part: 480x360 becomes 480x270. If a bar ends within a row of pixels (120x90), that row
    is kept. Both bars must be black, except for the rows next to the content, which JPEG coding or scaling may have
    mixed with it.

    Returns:
        The cropped image; or the given image if it is not 4:3 to within a pixel, has no such bars, or is too small for
        a decision (bars of less than 8 rows).
    """
    width, height = image.size
    bar = (height - width * 9 // 16 - (width * 9 % 16 > 0)) // 2
    if abs(height - width * 3 / 4) > 1 or bar < _BLOCK:
        return image
    sure = bar - bar % _BLOCK
    if all(_is_black(image.crop((0, top, width, top + sure))) for top in (0, height - sure)):
        return image.crop((0, bar, width, height - bar))
    return image


def _is_black(part: Image.Image) -> bool:
    luma = ImageStat.Stat(part.convert("L"))
    return luma.extrema[0][1] <= _BAR_MOST and luma.mean[0] <= _BAR_MEAN


def framed(image: Image.Image, crop_mode: CropMode, *, side: int, fill: tuple[int, int, int]) -> Image.Image:
    """Apply a crop mode to a picture, for a model that resizes the shorter edge to `side` and crops the middle square.

    `crop` only removes black bars; the model crops the rest. `pad` and `squash` also remove the bars, and return a
    square of `side` pixels. The model's preprocessing does not change the square, so the picture is resampled only once
    (bicubic, antialiased, as in CLIP):

    - `pad`: keeps the aspect ratio. The longer edge becomes `side` pixels; the shorter edge is scaled by the same
      factor and rounded, to at least 1 pixel. The picture is centred (rounded up or left by half a pixel), with `fill`
      around it.
    - `squash`: both edges become `side` pixels. The aspect ratio is not kept.

    Args:
        image: RGB, any size.
        crop_mode: the crop mode.
        side: side of the model's square input, in pixels.
        fill: RGB around a padded picture, 0 to 255: the model's mean colour, which it normalises to about 0.

    Returns:
        RGB, side x side. With `crop`, the image without bars, or the given image.
    """
    picture = without_bars(image)
    if crop_mode == "crop":
        return picture
    if crop_mode == "squash":
        return picture.resize((side, side), Image.Resampling.BICUBIC)
    longer = max(picture.size)
    width, height = (max(1, round(edge * side / longer)) for edge in picture.size)
    square = Image.new("RGB", (side, side), fill)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(resized, ((side - width) // 2, (side - height) // 2))
    return square
