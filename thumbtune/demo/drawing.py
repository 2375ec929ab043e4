"""Drawing tools: outlines in unit coordinates that are styled when they are drawn.

A subject (a cat, a teapot) is a tuple of `Part`s in the square [-1, 1] x [-1, 1], y downwards. A part has a role
instead of a colour; a `Pen` assigns colours to the roles and sets the line style. The same subject can therefore be
drawn in the style of any channel.

Everything is deterministic: all randomness comes from the given `random.Random`.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]
Role = Literal["main", "shade", "light", "trim", "ink"]

WIDTH = 480
"""Width in pixels of a `high` thumbnail and of the 16:9 picture in it."""
HEIGHT = 360
"""Height in pixels of a `high` thumbnail, black bars included."""
CONTENT_HEIGHT = 270
"""Height in pixels of the 16:9 picture between the bars."""

_CURVE_STEPS = 28


@dataclass(frozen=True, slots=True)
class Part:
    """One outline of a subject: a filled polygon, or a stroke of `width` (in unit coordinates) when it is positive."""

    role: Role
    points: tuple[Point, ...]
    width: float = 0.0


def polygon(role: Role, *points: Point) -> Part:
    """Return a filled polygon."""
    return Part(role, points)


def box(role: Role, left: float, top: float, right: float, bottom: float) -> Part:
    """Return a filled upright rectangle."""
    return Part(role, ((left, top), (right, top), (right, bottom), (left, bottom)))


def ellipse(role: Role, centre: Point, radii: Point, angles: Point = (0.0, 360.0)) -> Part:
    """Return a filled ellipse, or the segment of it between two angles in degrees (clockwise from the right)."""
    return Part(role, _curve(centre, radii, angles))


def stroke(role: Role, width: float, *points: Point) -> Part:
    """Return an open line through the points."""
    return Part(role, points, width)


def bow(role: Role, width: float, centre: Point, radii: Point, angles: Point = (0.0, 360.0)) -> Part:
    """Return an open line along an ellipse between two angles in degrees (clockwise from the right)."""
    return Part(role, _curve(centre, radii, angles), width)


def _curve(centre: Point, radii: Point, angles: Point) -> tuple[Point, ...]:
    start, end = angles
    steps = [math.radians(start + (end - start) * i / _CURVE_STEPS) for i in range(_CURVE_STEPS + 1)]
    return tuple((centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in steps)


def rgb(code: str) -> Colour:
    """Return the colour of a six-digit hexadecimal code without `#`."""
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


def blend(first: Colour, second: Colour, amount: float) -> Colour:
    """Return the colour `amount` (0 to 1) of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Pen:
    """A drawing style: the outline, the tremor of the hand, the edge of a paper cut-out and the shadow.

    Widths and offsets are in pixels of the 480-pixel-wide picture.
    """

    ink: Colour
    trim: Colour
    outline: float = 0.0
    halo: float = 0.0
    halo_colour: Colour = (255, 255, 255)
    tremor: float = 0.0
    shadow: float = 0.0
    shadow_colour: Colour = (0, 0, 0)

    def roles(self, main: Colour) -> dict[Role, Colour]:
        """Return the colour of each role for a subject of the colour `main`."""
        return {
            "main": main,
            "shade": blend(main, self.ink, 0.35),
            "light": blend(main, (255, 255, 255), 0.45),
            "trim": self.trim,
            "ink": self.ink,
        }


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subject is drawn: its centre and height in pixels of 480x270, its rotation in degrees, and mirroring."""

    centre: Point
    height: float
    turn: float = 0.0
    mirrored: bool = False

    def points(self, points: Sequence[Point]) -> list[Point]:
        """Return unit coordinates as pixels of the finished picture."""
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        half, sign = self.height / 2, -1.0 if self.mirrored else 1.0
        (left, top), placed = self.centre, []
        for x, y in points:
            placed.append((left + half * (sign * x * cos - y * sin), top + half * (sign * x * sin + y * cos)))
        return placed


@dataclass(slots=True)
class Canvas:
    """A picture being drawn, `scale` times larger than its final 480x270, to smooth the edges."""

    image: Image.Image
    scale: int
    rng: random.Random

    @classmethod
    def blank(cls, colour: Colour, scale: int, rng: random.Random) -> Canvas:
        """Return a 16:9 canvas of one colour."""
        return cls(Image.new("RGB", (WIDTH * scale, CONTENT_HEIGHT * scale), colour), scale, rng)

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        """Pillow's drawing interface to the picture."""
        return ImageDraw.Draw(self.image)

    def fill(self, colour: Colour, points: Sequence[Point]) -> None:
        """Fill a polygon given in pixels of the finished picture."""
        self.draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=colour)

    def line(self, colour: Colour, width: float, points: Sequence[Point]) -> None:
        """Draw an open line with round ends, in pixels of the finished picture."""
        thick = max(1, round(width * self.scale))
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        draw = self.draw
        draw.line(scaled, fill=colour, width=thick, joint="curve")
        if thick > 2:
            half = thick / 2 - 0.5
            for x, y in (scaled[0], scaled[-1]):
                draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)

    def subject(self, parts: Sequence[Part], place: Place, main: Colour, pen: Pen) -> None:
        """Draw a subject at its place in the pen's style, its main role in the colour `main`."""
        half = place.height / 2
        placed = [(part, self._shaken(place.points(part.points), pen.tremor)) for part in parts]
        if pen.shadow:
            self._silhouette(placed, half, pen.shadow_colour, 0.0, (pen.shadow, pen.shadow))
        if pen.halo:
            self._silhouette(placed, half, pen.halo_colour, pen.halo + pen.outline)
        if pen.outline:
            self._silhouette(placed, half, pen.ink, pen.outline)
        colours = pen.roles(main)
        for part, points in placed:
            if part.width:
                self.line(colours[part.role], part.width * half, points)
            else:
                self.fill(colours[part.role], points)
                if pen.outline:
                    self.line(pen.ink, pen.outline * 0.6, [*points, points[0]])

    def _shaken(self, points: Sequence[Point], tremor: float) -> list[Point]:
        if not tremor:
            return list(points)
        return [(x + self.rng.gauss(0, tremor), y + self.rng.gauss(0, tremor)) for x, y in points]

    def _silhouette(
        self,
        placed: Sequence[tuple[Part, list[Point]]],
        half: float,
        colour: Colour,
        grow: float,
        offset: Point = (0.0, 0.0),
    ) -> None:
        for part, points in placed:
            moved = [(x + offset[0], y + offset[1]) for x, y in points]
            if part.width:
                self.line(colour, part.width * half + 2 * grow, moved)
                continue
            self.fill(colour, moved)
            if grow:
                self.line(colour, 2 * grow, [*moved, moved[0]])

    def finished(self) -> Image.Image:
        """Return the picture at 480x270."""
        return self.image if self.scale == 1 else self.image.reduce(self.scale)


def letterboxed(picture: Image.Image) -> Image.Image:
    """Return a 480x270 picture between the black bars of YouTube's 480x360 `high` thumbnail."""
    framed = Image.new("RGB", (WIDTH, HEIGHT))
    framed.paste(picture, (0, (HEIGHT - CONTENT_HEIGHT) // 2))
    return framed


def jpeg(picture: Image.Image, quality: int = 88) -> bytes:
    """Return the picture as JPEG bytes (4:2:0, baseline), the same bytes for the same picture."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def seeded(key: str) -> random.Random:
    """Return a random generator seeded with `key`, the same in every process."""
    return random.Random(key)  # noqa: S311 -- must be repeatable


def jittered(palette: Mapping[str, Colour], name: str, amount: int, rng: random.Random) -> Colour:
    """Return a colour of the palette, each RGB value changed by up to `amount`, so that drawings vary."""
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in palette[name])
    return red, green, blue
