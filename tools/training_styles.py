"""The ten invented channels on which the shipped encoder was trained.

They differ from the demo's channel (`thumbtune.demo.channel`) in paints, pens, papers, compositions, phrases, and names
of colours, subjects and series.
"""

from __future__ import annotations

from dataclasses import dataclass

from thumbtune.demo.drawing import Pen, rgb
from thumbtune.demo.drawing_scene import COLOURS, Badge, BadgeShape, PictureStyle
from thumbtune.demo.titles import Voice


@dataclass(frozen=True, slots=True)
class InventedChannel:
    """A drawing style and a wording."""

    picture: PictureStyle
    voice: Voice


def _paints(codes: str) -> dict[str, tuple[int, int, int]]:
    return {name: rgb(code) for name, code in zip(COLOURS, codes.split(), strict=True)}


def _badges(**marks: tuple[BadgeShape, str]) -> dict[str, Badge]:
    return {name.replace("_", " "): Badge(shape, rgb(code)) for name, (shape, code) in marks.items()}


_PLAIN = COLOURS
_NUMBERS = ("a", "two", "three", "five")
_PLACES = ("on the desk", "at sea", "in the meadow", "at night", "in the snow", "at sunset")

_POSTER = InventedChannel(
    PictureStyle(
        "poster",
        _paints("e53935 fb8c00 fdd835 43a047 00acc1 1e5bd0 8e24aa f06292"),
        Pen(rgb("101418"), rgb("ffffff"), outline=5.0),
        rgb("ffffff"),
        0.1,
        "rays",
        "centre",
        "row",
        208,
        word_box=rgb("ffeb3b"),
        word_colour=rgb("101418"),
        word_tilt=4,
        badges=_badges(Quick_Start=("circle", "e53935"), Deep_Dive=("square", "1e5bd0"), Live_Build=("star", "fdd835")),
    ),
    Voice(
        _PLAIN,
        _NUMBERS,
        _PLACES,
        (
            "How to Draw {count} {colour} {noun} {place}",
            "Draw {count} {colour} {noun}!",
            "{series}: {count} {colour} {noun} {place}",
            "{count} {noun} {place} - {format}",
            "{colour} {noun} drawing {format} {place}",
        ),
        formats={
            "EASY!": ("easy tutorial", "made easy"),
            "PRO": ("like a pro", "the pro way"),
            "": ("step by step",),
        },
    ),
)
_WATERCOLOUR = InventedChannel(
    PictureStyle(
        "watercolour",
        _paints("c96a5e dda26a e3cd83 8fae7c 79aea9 7a95bd a08bb5 dfaab5"),
        Pen(rgb("6b6470"), rgb("fbf7f0"), tremor=1.4),
        rgb("f8f3e8"),
        0.55,
        "none",
        "left",
        "cluster",
        193,
        word_place="side",
        word_box=None,
        word_colour=rgb("5a4e58"),
        badges=_badges(Morning_Wash=("circle", "79aea9"), Soft_Edges=("diamond", "dfaab5")),
        badge_at=(385.0, 40.0),
    ),
    Voice(
        ("crimson", "apricot", "lemon", "olive", "turquoise", "cobalt", "violet", "rose"),
        ("a single", "a couple of", "three", "five"),
        ("by the window", "on the water", "in tall grass", "under the moon", "in winter", "at dusk"),
        (
            "painting {count} {colour} {noun} {place}",
            "{colour} {noun} in watercolour, {place}",
            "{series} - {colour} {noun} {place}",
            "{format}: {count} {colour} {noun}",
        ),
        {"boat": "sailing boat", "cat": "kitten", "mug": "coffee mug"},
        {
            "loose": ("loose strokes", "painting loosely"),
            "wet": ("wet in wet",),
            "": ("a slow study", "quiet painting"),
        },
        0.15,
    ),
)
_CUTOUT = InventedChannel(
    PictureStyle(
        "cut-out",
        _paints("b71c1c d96516 c9a227 2e7d32 00796b 283593 6a1b9a c2185b"),
        Pen(rgb("3b2a1e"), rgb("efe3cf"), halo=6.0, shadow=7.0, shadow_colour=rgb("7d6b5c")),
        rgb("d7b98e"),
        0.45,
        "dots",
        "right",
        "stair",
        183,
        14,
        word_place="top",
        word_box=rgb("3b2a1e"),
        word_colour=rgb("ffe9c7"),
        badges=_badges(
            Scrap_Box=("triangle", "2e7d32"), Rainy_Day=("hexagon", "283593"), Kids_Table=("star", "c2185b")
        ),
    ),
    Voice(
        ("red", "rusty", "golden", "forest green", "petrol", "navy", "purple", "magenta"),
        ("one", "two", "three", "five"),
        (
            "on the table",
            "by the ocean",
            "in the garden",
            "after dark",
            "on a snowy day",
            "in the evening sun",
        ),
        (
            "Paper {noun} {place} ({colour}) | {series}",
            "{count} {colour} paper {noun} {place}",
            "Cut and glue {count} {colour} {noun}",
            "{series}: {format} with {colour} {noun}",
            "Make {count} {noun} {place} from scraps",
        ),
        {"house": "cottage", "bicycle": "bike"},
        {
            "5 MIN": ("a five minute craft",),
            "FREE": ("free template", "printable template"),
            "": ("afternoon craft",),
        },
        0.2,
    ),
)
_NEON = InventedChannel(
    PictureStyle(
        "neon",
        _paints("ff4d5a ff9f43 fff05a 5cff8f 3ffff0 4d7cff b45cff ff7ad9"),
        Pen(rgb("0b0f24"), rgb("e8ecff"), outline=2.0, halo=3.0, halo_colour=rgb("f4f6ff")),
        rgb("0d1026"),
        0.75,
        "grid",
        "low",
        "arch",
        188,
        3,
        word_place="top",
        word_box=None,
        word_colour=rgb("3ffff0"),
        badges=_badges(Night_Class=("hexagon", "3ffff0"), Speed_Run=("triangle", "ff4d5a")),
        badge_at=(92.0, 228.0),
        frame=rgb("4d7cff"),
    ),
    Voice(
        ("hot red", "neon orange", "acid yellow", "lime", "cyan", "electric blue", "ultraviolet", "hot pink"),
        ("solo", "double", "triple", "five"),
        ("desk setup", "ocean mode", "field trip", "midnight", "ice level", "golden hour"),
        (
            "{colour} {noun} // {place}",
            "{count} {colour} {noun} // {place} // {format}",
            "[{series}] {colour} {noun}, {place}",
            "{noun} {format} ({colour})",
        ),
        {"lighthouse": "beacon", "rocket": "starship"},
        {"4K": ("full process",), "VS": ("versus", "head to head"), "": ("no talking", "timelapse")},
        0.25,
    ),
)
_CHALK = InventedChannel(
    PictureStyle(
        "chalk",
        _paints("e08a84 e8b483 ece09a a5cc98 93cfc8 92afdd bda2d6 efb4cf"),
        Pen(rgb("1c2b26"), rgb("f2f5ef"), outline=3.0, halo=2.0, halo_colour=rgb("f2f5ef"), tremor=0.9),
        rgb("24433a"),
        0.7,
        "none",
        "centre",
        "row",
        168,
        2,
        0.78,
        word_box=None,
        word_colour=rgb("f2f5ef"),
        word_place="top",
        badges=_badges(Lesson=("circle", "ece09a"), Exam_Prep=("square", "e08a84"), Office_Hours=("diamond", "92afdd")),
    ),
    Voice(
        _PLAIN,
        ("one", "two", "three", "five"),
        ("on a desk", "in the sea", "in a field", "at night", "in the snow", "in the sunset"),
        (
            "Lesson: drawing {count} {colour} {noun} {place}",
            "{count} {colour} {noun} {place}, explained",
            "{series} | {colour} {noun} {place}",
            "What shape is {count} {colour} {noun}? ({format})",
        ),
        formats={
            "Q&A": ("questions and answers",),
            "1-2-3": ("in three steps",),
            "": ("basics", "for beginners"),
        },
    ),
)
_STORYBOOK = InventedChannel(
    PictureStyle(
        "storybook",
        _paints("d1495b edae49 f3d46b 66a182 2e8f8a 30638e 7d5ba6 f29ca3"),
        Pen(rgb("3d2c40"), rgb("fff6e5"), outline=2.0, tremor=0.6),
        rgb("fbe9d0"),
        0.35,
        "stripes",
        "centre",
        "cluster",
        193,
        10,
        plate=True,
        word_box=rgb("d1495b"),
        badges=_badges(Bedtime=("star", "f3d46b"), Picnic=("circle", "66a182")),
        badge_at=(380.0, 38.0),
        frame=rgb("edae49"),
    ),
    Voice(
        ("ruby", "amber", "sunny", "leafy", "sea green", "sky blue", "lavender", "blush"),
        ("one little", "two little", "three little", "five little"),
        (
            "at home",
            "across the sea",
            "over the hills",
            "under the stars",
            "in the snow",
            "as the sun went down",
        ),
        (
            "The tale of {count} {colour} {noun} {place}",
            "{count} {colour} {noun} {place}",
            "{series} stories: {colour} {noun} {place}",
            "{colour} {noun} and {format}",
        ),
        {"fish": "goldfish", "tree": "apple tree", "balloon": "hot air balloon"},
        {
            "PART 2": ("what happened next", "the second half"),
            "THE END": ("a happy ending",),
            "": ("a new friend",),
        },
        0.2,
    ),
)
_BLUEPRINT = InventedChannel(
    PictureStyle(
        "blueprint",
        _paints("e4572e f3a712 f6e27f 76b041 17bebb 6fa8ff a06cd5 ff99c8"),
        Pen(rgb("dfe9ff"), rgb("0f2f66"), outline=2.0),
        rgb("143a7b"),
        0.65,
        "grid",
        "left",
        "row",
        188,
        0,
        word_place="side",
        word_box=rgb("dfe9ff"),
        word_colour=rgb("143a7b"),
        badges=_badges(
            Teardown=("square", "f3a712"), Workshop=("hexagon", "dfe9ff"), Field_Test=("triangle", "76b041")
        ),
    ),
    Voice(
        _PLAIN,
        ("single", "twin", "triple", "five"),
        (
            "bench test",
            "marine edition",
            "outdoor edition",
            "night edition",
            "cold weather edition",
            "evening edition",
        ),
        (
            "{count} {colour} {noun}, {place}",
            "{series}: {colour} {noun} ({place})",
            "Building {count} {colour} {noun} from scratch, {place}",
            "{colour} {noun} {format}",
        ),
        {"camera": "film camera", "clock": "alarm clock"},
        {
            "V2": ("version two", "rebuilt"),
            "FAIL": ("what went wrong", "a failed build"),
            "": ("assembly guide",),
        },
    ),
)
_SUNPRINT = InventedChannel(
    PictureStyle(
        "sun print",
        _paints("ef5b4c f7934c f9d56e 7fb069 4ea5a0 4b7fb8 9a6fb0 f2a2b8"),
        Pen(rgb("4a3b32"), rgb("fdf8ee"), shadow=4.0, shadow_colour=rgb("c9a98a")),
        rgb("f9dcb8"),
        0.5,
        "rays",
        "low",
        "stair",
        198,
        8,
        word_box=rgb("4a3b32"),
        word_colour=rgb("f9d56e"),
        word_place="top",
        badges=_badges(Weekend=("circle", "ef5b4c"), Road_Trip=("triangle", "4b7fb8")),
    ),
    Voice(
        ("scarlet", "tangerine", "mustard", "emerald", "aqua", "royal blue", "lilac", "flamingo"),
        ("a", "a pair of", "a trio of", "a bunch of"),
        (
            "from my desk",
            "by the seaside",
            "out in the fields",
            "on a starry night",
            "in deep snow",
            "at sundown",
        ),
        (
            "I drew {count} {colour} {noun} {place}",
            "{colour} {noun} {place} | {series}",
            "why I love {colour} {noun}",
            "{format}! {count} {colour} {noun} {place}",
            "{count} {noun} {place}",
        ),
        {"house": "little house", "cake": "birthday cake"},
        {"WOW": ("surprise", "unbelievable"), "NEW": ("brand new", "first look"), "": ("sketch with me",)},
        0.2,
    ),
)
_COMIC = InventedChannel(
    PictureStyle(
        "comic",
        _paints("f02d3a f9822f ffdd00 2fb34a 00a7a7 0066d6 8b2fc9 ff66b3"),
        Pen(rgb("000000"), rgb("ffffff"), outline=4.0, halo=4.0, shadow=6.0),
        rgb("fff3a0"),
        0.3,
        "dots",
        "right",
        "arch",
        193,
        12,
        word_place="side",
        word_box=rgb("f02d3a"),
        word_tilt=-8,
        badges=_badges(Issue_One=("star", "f02d3a"), Villain_Week=("diamond", "8b2fc9"), Origin=("circle", "0066d6")),
        frame=rgb("000000"),
    ),
    Voice(
        _PLAIN,
        ("the", "two", "three", "five"),
        ("at the office", "lost at sea", "in the wild", "by night", "on ice", "at the end of the day"),
        (
            "{count} {colour} {noun} {place}!",
            "{series}! {count} {colour} {noun} {place}",
            "{format}: {colour} {noun} {place}",
            "attack of {count} {colour} {noun}",
        ),
        {"whale": "giant whale"},
        {"POW": ("a big fight", "clash"), "?!": ("a mystery", "who did it"), "": ("a hero", "to the rescue")},
    ),
)
_PASTEL = InventedChannel(
    PictureStyle(
        "pastel",
        _paints("f28b82 fbbc8a fff0a3 b5dfa5 a7e0d8 a9c8f5 cdb4ec fbc4dd"),
        Pen(rgb("7a6f86"), rgb("ffffff"), outline=2.0, shadow=3.0, shadow_colour=rgb("d9cfe0")),
        rgb("fdf1f6"),
        0.6,
        "stripes",
        "centre",
        "row",
        178,
        plate=True,
        word_box=rgb("cdb4ec"),
        word_colour=rgb("ffffff"),
        badges=_badges(Study_Break=("circle", "a7e0d8"), Cosy_Corner=("hexagon", "fbc4dd")),
        badge_at=(380.0, 232.0),
        word_place="top",
    ),
    Voice(
        ("cherry", "peachy", "vanilla", "minty", "seafoam", "baby blue", "grape", "bubblegum"),
        ("one", "two cute", "three cute", "five cute"),
        ("on my desk", "at the beach", "in the park", "late at night", "on a snow day", "at golden hour"),
        (
            "cute {colour} {noun} {place}",
            "{count} {colour} {noun} {place}",
            "{series} ~ {colour} {noun} {place}",
            "draw {count} {colour} {noun} with me ({format})",
        ),
        {"mug": "teacup", "mushroom": "toadstool"},
        {"aww": ("so cute", "adorable"), "DIY": ("do it yourself",), "": ("lofi", "relaxing")},
        0.25,
    ),
)

TRAINING_CHANNELS: tuple[InventedChannel, ...] = (
    _POSTER,
    _WATERCOLOUR,
    _CUTOUT,
    _NEON,
    _CHALK,
    _STORYBOOK,
    _BLUEPRINT,
    _SUNPRINT,
    _COMIC,
    _PASTEL,
)
"""The channels that the encoder was trained on."""
