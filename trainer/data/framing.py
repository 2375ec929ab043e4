"""How a wide picture becomes the square that a CLIP-style model sees, pure: pictures in, pictures out.

Such a model's own preprocessing resizes the shorter edge to its side (224 pixels for most) and cuts the middle square
out. Of a 16:9 picture that leaves the middle 56 %, of YouTube's 4:3 sizes 75 %, bars included.
"""

from __future__ import annotations

from PIL import Image, ImageStat

from trainer.settings import Bars, Fit

__all__ = ["framed", "without_bars"]

# JPEG codes blocks of 8 x 8 pixels: the blocks that a bar's edge goes through are noisy, those beside it are not.
_BLOCK = 8
# Luma, 0 to 255, of a bar: one that was coded anew, or scaled, has some noise.
_BAR_MEAN = 8
_BAR_MOST = 32


def without_bars(image: Image.Image) -> Image.Image:
    """Cut off the black bars above and below a 16:9 picture in a 4:3 one, as YouTube's `high` and `default` have.

    What is left is the middle 16:9 part, and never less: 480x360 becomes 480x270; where a bar ends between two rows
    (120x90), the shared row stays. Both bars have to be black, but for the rows next to the picture, which JPEG or
    scaling may have mixed with it.

    Returns:
        The image itself where it is not 4:3 to within a pixel, has no such bars, or is too small to tell (bars of less
        than 8 rows).
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


def framed(image: Image.Image, fit: Fit, *, side: int, fill: tuple[int, int, int], bars: Bars = "cut") -> Image.Image:
    """Make a picture ready for a model that resizes the shorter edge to `side` and cuts out the middle square.

    `crop` cuts black bars off and leaves the rest to the model. `pad` and `squash` cut them off too, and return a
    square of `side` pixels, which the model's preprocessing leaves as it is, so the picture is resampled once (bicubic,
    antialiased, as CLIP does):

    - `pad`: shapes are kept; the longer edge becomes `side`, the shorter one as many pixels as keep the shape best, at
      least 1; the picture is in the middle (half a pixel up or left of it where that can't be), `fill` around it.
    - `squash`: both edges become `side`; shapes are not kept.

    Args:
        image: RGB, any size.
        fit: how.
        side: pixels of the model's square input.
        fill: RGB around a padded picture, 0 to 255: the model's mean colour, which its normalisation turns to about 0.
        bars: with `keep`, `crop` leaves them to the model too.

    Returns:
        RGB, side x side; with `crop` the image itself, or what is left of it without bars.
    """
    if fit == "crop" and bars == "keep":
        return image
    picture = without_bars(image)
    if fit == "crop":
        return picture
    if fit == "squash":
        return picture.resize((side, side), Image.Resampling.BICUBIC)
    longer = max(picture.size)
    width, height = (max(1, round(edge * side / longer)) for edge in picture.size)
    square = Image.new("RGB", (side, side), fill)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(resized, ((side - width) // 2, (side - height) // 2))
    return square
