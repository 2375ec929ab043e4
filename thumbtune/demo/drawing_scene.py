"""Draws scenes: a scene is the content of a thumbnail, a picture style is the way a channel draws it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from thumbtune.demo.drawing import CONTENT_HEIGHT, WIDTH, Canvas, Colour, Pen, Place, Point, blend, jittered, rgb
from thumbtune.demo.drawing_subjects import SUBJECTS

COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
"""The colours of subjects; each style has its own shades."""
SETTINGS = ("desk", "sea", "meadow", "night", "snow", "sunset")
"""The places of subjects."""
COUNTS = (1, 2, 3, 5)
"""The possible numbers of subjects."""

Texture = Literal["none", "stripes", "dots", "rays", "grid", "halftone"]
Layout = Literal["centre", "left", "right", "low"]
Gathering = Literal["row", "stair", "cluster", "arch"]
BadgeShape = Literal["circle", "square", "triangle", "star", "hexagon", "diamond"]
WordPlace = Literal["bottom", "top", "side"]

# Sky, ground and detail colours of each setting, before a style tints them.
_TONES: Mapping[str, tuple[Colour, Colour, Colour]] = MappingProxyType(
    {
        "desk": (rgb("e9dcc6"), rgb("b88a5a"), rgb("8d6238")),
        "sea": (rgb("cfe8f3"), rgb("4f9cc4"), rgb("e6f6fb")),
        "meadow": (rgb("d9efd0"), rgb("84b95c"), rgb("4f8a3b")),
        "night": (rgb("20264a"), rgb("2f3566"), rgb("f3ecb8")),
        "snow": (rgb("dfe6ee"), rgb("f8fafc"), rgb("ffffff")),
        "sunset": (rgb("f6b38a"), rgb("8c5a78"), rgb("fbe08a")),
    }
)

# Positions of the smaller copies beside the main one, in the order they are added, in units of the layout's field.
_GATHERINGS: Mapping[Gathering, tuple[Point, ...]] = MappingProxyType(
    {
        "row": ((0.95, 0.6), (-0.95, 0.6), (0.95, -0.4), (-0.95, -0.4)),
        "stair": ((0.95, 0.7), (0.95, -0.1), (-0.95, 0.7), (-0.95, -0.1)),
        "cluster": ((-0.95, 0.66), (0.95, 0.66), (-0.9, -0.14), (0.9, -0.14)),
        "arch": ((0.9, -0.42), (-0.9, -0.42), (1.0, 0.44), (-1.0, 0.44)),
    }
)
_COPY_SIZE = 0.38

# Centre and half width of the subject's field, in pixels. All content is between x = 60 and x = 420, because a model
# that crops the middle square of 480x360 sees nothing else.
_FIELDS: Mapping[Layout, tuple[float, float, float]] = MappingProxyType(
    {
        "centre": (240.0, 138.0, 150.0),
        "left": (226.0, 140.0, 146.0),
        "right": (256.0, 140.0, 146.0),
        "low": (240.0, 148.0, 148.0),
    }
)


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of a thumbnail, which its title also describes."""

    subject: str
    colour: str
    count: int = 1
    setting: str = "desk"
    series: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Badge:
    """The mark that a channel puts on every thumbnail of a series."""

    shape: BadgeShape
    colour: Colour


@dataclass(frozen=True, slots=True)
class PictureStyle:
    """The drawing style of a channel: paints, paper, pen, composition and badges. Lengths are in pixels of 480x270."""

    name: str
    palette: Mapping[str, Colour]
    pen: Pen
    tint: Colour
    tint_amount: float
    texture: Texture = "none"
    layout: Layout = "centre"
    gathering: Gathering = "row"
    size: float = 165.0
    lean: float = 6.0
    horizon: float = 0.72
    plate: bool = False
    word_place: WordPlace = "bottom"
    word_colour: Colour = (255, 255, 255)
    word_box: Colour | None = (0, 0, 0)
    word_tilt: float = 0.0
    badges: Mapping[str, Badge] = field(default_factory=dict)
    badge_at: Point = (90.0, 36.0)
    frame: Colour | None = None


def draw_scene(scene: Scene, style: PictureStyle, rng: random.Random, scale: int = 2) -> Image.Image:
    """Draw the scene in the style: a 480x270 RGB picture, the same for the same state of `rng`.

    The scene is drawn `scale` times larger and then reduced; 1 is faster, but has jagged edges.
    """
    canvas = Canvas.blank(style.tint, scale, rng)
    _backdrop(canvas, scene.setting, style)
    main = jittered(style.palette, scene.colour, 9, rng)
    x, y, half = _FIELDS[style.layout]
    if style.plate:
        _plate(canvas, (x, y), style)
    places = [(0.0, 0.0, 1.0), *((dx, dy, _COPY_SIZE) for dx, dy in _GATHERINGS[style.gathering][: scene.count - 1])]
    for dx, dy, size in places:
        centre = (x + dx * half + rng.uniform(-4, 4), y + dy * 80 + rng.uniform(-4, 4))
        height = style.size * size * rng.uniform(0.94, 1.06)
        place = Place(centre, height, rng.uniform(-style.lean, style.lean), rng.random() < 0.1)
        canvas.subject(SUBJECTS[scene.subject], place, main, style.pen)
    if scene.series:
        _badge(canvas, style.badges[scene.series], style)
    if scene.words:
        _words(canvas, scene.words, style)
    if style.frame is not None:
        edge = ((4, 4), (WIDTH - 5, 4), (WIDTH - 5, CONTENT_HEIGHT - 5), (4, CONTENT_HEIGHT - 5), (4, 4))
        canvas.line(style.frame, 10, edge)
    return canvas.finished()


def _backdrop(canvas: Canvas, setting: str, style: PictureStyle) -> None:
    sky, ground, detail = (blend(tone, style.tint, style.tint_amount) for tone in _TONES[setting])
    canvas.fill(sky, ((0, 0), (WIDTH, 0), (WIDTH, CONTENT_HEIGHT), (0, CONTENT_HEIGHT)))
    _texture(canvas, style.texture, blend(sky, style.pen.ink, 0.07))
    horizon = CONTENT_HEIGHT * style.horizon + canvas.rng.uniform(-6, 6)
    draw = {"sea": _sea, "meadow": _meadow, "night": _night, "snow": _snow, "sunset": _sunset}.get(setting, _desk)
    draw(canvas, horizon, ground, detail)


def _texture(canvas: Canvas, texture: Texture, colour: Colour) -> None:
    draw = {"stripes": _stripes, "dots": _dots, "rays": _rays, "grid": _grid, "halftone": _halftone}.get(texture)
    if draw is not None:
        draw(canvas, colour)


def _stripes(canvas: Canvas, colour: Colour) -> None:
    for x in range(-280, WIDTH, 44):
        canvas.fill(colour, ((x, 270), (x + 20, 270), (x + 290, 0), (x + 270, 0)))


def _dots(canvas: Canvas, colour: Colour) -> None:
    for row in range(9):
        for column in range(16):
            _disc(canvas, colour, (column * 32 + (row % 2) * 16, row * 32 + 8), 6)


def _halftone(canvas: Canvas, colour: Colour) -> None:
    for row in range(16):
        for column in range(27):
            centre = (column * 18 + (row % 2) * 9, row * 18)
            _disc(canvas, colour, centre, 0.6 + 6.5 * max(0.0, (column + row - 12) / 30))


def _rays(canvas: Canvas, colour: Colour) -> None:
    for degrees in range(0, 360, 24):
        one, two = math.radians(degrees), math.radians(degrees + 12)
        tips = ((240 + 400 * math.cos(a), 135 + 400 * math.sin(a)) for a in (one, two))
        canvas.fill(colour, ((240.0, 135.0), *tips))


def _grid(canvas: Canvas, colour: Colour) -> None:
    for x in range(12, WIDTH, 28):
        canvas.line(colour, 1.5, ((x, 0), (x, CONTENT_HEIGHT)))
    for y in range(10, CONTENT_HEIGHT, 28):
        canvas.line(colour, 1.5, ((0, y), (WIDTH, y)))


def _ground(canvas: Canvas, horizon: float, colour: Colour) -> None:
    canvas.fill(colour, ((0, horizon), (WIDTH, horizon), (WIDTH, CONTENT_HEIGHT), (0, CONTENT_HEIGHT)))


def _desk(canvas: Canvas, horizon: float, ground: Colour, detail: Colour) -> None:
    _ground(canvas, horizon, ground)
    canvas.line(detail, 5, ((0, horizon), (WIDTH, horizon)))
    for y in (horizon + 24, horizon + 52):
        start = canvas.rng.uniform(40, 160)
        canvas.line(detail, 2, ((start, y), (start + canvas.rng.uniform(90, 200), y)))


def _sea(canvas: Canvas, horizon: float, ground: Colour, detail: Colour) -> None:
    _ground(canvas, horizon, ground)
    for row in range(3):
        y, shift = horizon + 6 + 24 * row, canvas.rng.uniform(0, 30)
        wave = [(x, y + 5 * math.sin((x + shift) / 13)) for x in range(-5, WIDTH + 10, 6)]
        canvas.line(detail, 3, wave)


def _meadow(canvas: Canvas, horizon: float, ground: Colour, detail: Colour) -> None:
    shift = canvas.rng.uniform(-40, 40)
    hill = [(x, horizon - 22 * math.sin((x + shift) / 105)) for x in range(0, WIDTH + 8, 8)]
    canvas.fill(ground, ((0, CONTENT_HEIGHT), *hill, (WIDTH, CONTENT_HEIGHT)))
    for _ in range(26):
        x, y = canvas.rng.uniform(0, WIDTH), canvas.rng.uniform(horizon + 22, CONTENT_HEIGHT)
        canvas.line(detail, 2.5, ((x - 4, y - 9), (x, y), (x + 4, y - 9)))


def _night(canvas: Canvas, horizon: float, ground: Colour, detail: Colour) -> None:
    _ground(canvas, horizon, ground)
    for _ in range(34):
        _disc(
            canvas,
            detail,
            (canvas.rng.uniform(0, WIDTH), canvas.rng.uniform(0, horizon)),
            canvas.rng.uniform(1.2, 3),
        )
    x = canvas.rng.uniform(340, 390)
    _disc(canvas, detail, (x, 48), 24)


def _snow(canvas: Canvas, horizon: float, ground: Colour, detail: Colour) -> None:
    shift = canvas.rng.uniform(-60, 60)
    drift = [(x, horizon + 16 * math.cos((x + shift) / 90)) for x in range(0, WIDTH + 8, 8)]
    canvas.fill(ground, ((0, CONTENT_HEIGHT), *drift, (WIDTH, CONTENT_HEIGHT)))
    for _ in range(46):
        centre = (canvas.rng.uniform(0, WIDTH), canvas.rng.uniform(0, horizon))
        _disc(canvas, detail, centre, canvas.rng.uniform(2, 4.5))


def _sunset(canvas: Canvas, horizon: float, ground: Colour, detail: Colour) -> None:
    x = canvas.rng.uniform(180, 320)
    _disc(canvas, detail, (x, horizon - 10), 74)
    _ground(canvas, horizon, ground)
    for row in range(3):
        y = horizon + 14 + 20 * row
        canvas.line(detail, 3, ((x - 60 + 12 * row, y), (x + 60 - 12 * row, y)))


def _disc(canvas: Canvas, colour: Colour, centre: Point, radius: float) -> None:
    (x, y), scale = centre, canvas.scale
    corners = ((x - radius) * scale, (y - radius) * scale, (x + radius) * scale, (y + radius) * scale)
    canvas.draw.ellipse(corners, fill=colour)


def _plate(canvas: Canvas, centre: Point, style: PictureStyle) -> None:
    (x, y), scale, half = centre, canvas.scale, style.size * 0.6
    corners = ((x - half * 1.35) * scale, (y - half) * scale, (x + half * 1.35) * scale, (y + half) * scale)
    canvas.draw.rounded_rectangle(corners, radius=18 * scale, fill=style.pen.trim)


def _badge(canvas: Canvas, badge: Badge, style: PictureStyle) -> None:
    x, y = style.badge_at
    corners = {"triangle": 3, "square": 4, "diamond": 4, "star": 10, "hexagon": 6, "circle": 36}[badge.shape]
    start = math.pi / 4 if badge.shape == "square" else -math.pi / 2

    def outline(radius: float) -> list[Point]:
        lengths = [radius * (0.5 if badge.shape == "star" and i % 2 else 1.0) for i in range(corners)]
        angles = [start + 2 * math.pi * i / corners for i in range(corners)]
        return [(x + n * math.cos(a), y + n * math.sin(a)) for n, a in zip(lengths, angles, strict=True)]

    canvas.fill(style.pen.ink, outline(29))
    canvas.fill(badge.colour, outline(23))


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _words(canvas: Canvas, words: str, style: PictureStyle) -> None:
    scale = canvas.scale
    font = _font(34 * scale)
    left, top, right, bottom = font.getbbox(words, stroke_width=scale)
    pad = 9 * scale
    size = (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad)
    layer = Image.new("RGBA", size, (*style.word_box, 255) if style.word_box else (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    # The stroke makes the default font's thin letters as bold as a thumbnail's.
    edge = style.word_colour if style.word_box else style.pen.ink
    pen.text(
        (pad - left, pad - top),
        words,
        font=font,
        fill=style.word_colour,
        stroke_width=scale,
        stroke_fill=edge,
    )
    if style.word_tilt:
        layer = layer.rotate(style.word_tilt, Image.Resampling.BILINEAR, expand=True)
    x, y = {"bottom": (240, 240), "top": (262, 28), "side": (316, 240)}[style.word_place]
    canvas.image.paste(layer, (x * scale - layer.width // 2, y * scale - layer.height // 2), layer)
