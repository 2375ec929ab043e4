"""The demo's channel: "Inkwell Harbour", an invented printmaker who publishes every Friday. Drawn by this package.

Thumbnails and titles share their meaning: subject, colour, number, place, series and the kind of video (which the words
on the thumbnail indicate). The channel has its own style: paints, composition, and names for most things, such as
`ember` for red and `dinghy` for a boat. The shipped encoder was trained on other channels
(`tools/training_styles.py`), so fine-tuning improves it.
"""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from thumbtune.demo.drawing import Pen, jpeg, letterboxed, rgb, seeded
from thumbtune.demo.drawing_scene import COLOURS, COUNTS, SETTINGS, Badge, PictureStyle, Scene, draw_scene
from thumbtune.demo.drawing_subjects import SUBJECTS
from thumbtune.demo.titles import Voice
from thumbtune.standin.catalogue import Catalogue, StandInVideo

__all__ = ["CHANNEL_STYLE", "CHANNEL_VOICE", "DrawnPicture", "drawn_channel"]

CHANNEL_STYLE = PictureStyle(
    "inkwell harbour",
    dict(
        zip(
            COLOURS,
            map(rgb, ("e2543b", "ef8f35", "f4d35e", "7c9a4a", "2ba39b", "2c4a8a", "6d4482", "f09bb4")),
            strict=True,
        )
    ),
    Pen(rgb("22304f"), rgb("fffaf0"), outline=3.0, shadow=5.0, shadow_colour=rgb("f2b8a0")),
    rgb("f7eedd"),
    0.42,
    texture="halftone",
    layout="low",
    gathering="cluster",
    size=194,
    lean=7,
    horizon=0.75,
    word_place="top",
    word_box=rgb("22304f"),
    word_colour=rgb("fff3d6"),
    word_tilt=3,
    badges={
        "Harbour Hour": Badge("circle", rgb("2ba39b")),
        "Loose Ends": Badge("star", rgb("ef8f35")),
        "Postcard Club": Badge("square", rgb("f09bb4")),
        "One Sheet": Badge("triangle", rgb("fffaf0")),
        "Tide Table": Badge("hexagon", rgb("2c4a8a")),
        "Kettle On": Badge("diamond", rgb("e2543b")),
    },
    badge_at=(94.0, 40.0),
)
"""The drawing style of the demo's channel."""

CHANNEL_VOICE = Voice(
    colours=("ember", "marmalade", "custard", "mossy", "lagoon", "inkpot", "plum", "sorbet"),
    counts=("a", "a matching pair of", "a triptych of", "a whole shelf of"),
    places=(
        "at the workbench",
        "down at the quay",
        "up on the common",
        "after closing time",
        "with a hard frost",
        "for the last ferry",
    ),
    templates=(
        "{count} {colour} {noun}, pulled {place}",
        "{colour} {noun} {place} | {series} {episode}",
        "{series} {episode}: {colour} {noun} {place}",
        "{noun} in {colour}, {place}",
        "Inking {count} {colour} {noun} {place}",
        "{colour} {noun} {place}, {format}",
        "{count} {colour} {noun} {place}: {format}",
    ),
    nouns={
        "cat": "mouser",
        "boat": "dinghy",
        "house": "bothy",
        "mug": "brew",
        "umbrella": "brolly",
    },
    formats={
        "1 HOUR": ("in one sitting", "against the clock"),
        "WHY?": ("and why it works", "the thinking behind it"),
        "FIXED": ("rescued from the bin", "saved at last"),
        "TOOLS": ("every tool I used", "what lives on the bench"),
        "": ("start to finish", "from sketchbook to print"),
    },
    plain=0.05,
)
"""The wording of the demo's channel."""

_NAME = "Inkwell Harbour"
_FIRST = datetime(2017, 3, 3, 16, 0, tzinfo=UTC)
_WEEK = timedelta(days=7)
# As on real channels, some subjects are more frequent.
_SUBJECT_WEIGHTS = tuple(3 if index % 5 == 0 else 2 if index % 2 else 1.5 for index in range(len(SUBJECTS)))


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A thumbnail that is drawn on demand: a 480x360 JPEG, the same for the same scene and key."""

    scene: Scene
    key: str

    def __call__(self) -> bytes:
        """Draw the thumbnail; takes about 10 ms."""
        return jpeg(letterboxed(draw_scene(self.scene, CHANNEL_STYLE, seeded(self.key))))


def drawn_channel(count: int = 420, seed: int = 7) -> Catalogue:
    """Draw the channel: `count` weekly videos and some special videos that real channels also have.

    The special videos are six Shorts, a private and a deleted video, a re-upload with the original's thumbnail, two
    open-studio videos with the same title, and, as the newest entry, a premiere without a duration. The other newest
    entries are weekly videos. The same `count` and `seed` give the same catalogue and the same thumbnail bytes.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"a channel needs at least one video; got {count}")
    rng = seeded(f"{seed}:channel")
    catalogue = Catalogue(
        channel_id="UC" + _token(f"{seed}:channel", 16),
        handle="@inkwellharbour",
        title=_NAME,
        description="Small prints, big tea. A new picture every Friday from a shed by the sea.",
    )
    taken: set[str] = set()
    episodes: dict[str, int] = {}
    for week in range(count):
        catalogue.publish(_weekly(week, seed, rng, taken, episodes))
    ordinary = list(catalogue.videos.values())
    catalogue.publish(*_extras(ordinary, seed, rng))
    private, deleted = _extra_scene(rng), _extra_scene(rng)
    hidden = _video(f"{seed}:private", _between(ordinary, 0.4), "A quiet test print", private, 700)
    gone = _video(f"{seed}:deleted", _between(ordinary, 0.6), "Do not ink before lunch", deleted, 800)
    catalogue.publish(replace(hidden, privacy="private"), gone)
    catalogue.delete(gone.id)
    return catalogue


def _weekly(week: int, seed: int, rng: random.Random, taken: set[str], episodes: dict[str, int]) -> StandInVideo:
    scene = _any_scene(rng)
    if scene.series:
        episodes[scene.series] = episodes.get(scene.series, 0) + 1
    episode = episodes.get(scene.series, 0)
    title = CHANNEL_VOICE.phrase(scene, rng, episode)
    for _ in range(30):
        if title not in taken:
            break
        title = CHANNEL_VOICE.phrase(scene, rng, episode)
    else:
        title = f"{title}, take {week + 1}"
    taken.add(title)
    published = _FIRST + week * _WEEK + timedelta(minutes=rng.randint(0, 25), seconds=rng.randint(0, 59))
    duration = min(3600, max(200, round(rng.lognormvariate(6.6, 0.45))))
    return _video(f"{seed}:{week}", published, title, scene, duration)


def _any_scene(rng: random.Random) -> Scene:
    return Scene(
        subject=rng.choices(tuple(SUBJECTS), _SUBJECT_WEIGHTS)[0],
        colour=rng.choice(COLOURS),
        count=rng.choices(COUNTS, (5, 3, 2, 2))[0],
        setting=rng.choice(SETTINGS),
        series=rng.choice(tuple(CHANNEL_STYLE.badges)) if rng.random() < 0.6 else "",
        words=rng.choice(tuple(CHANNEL_VOICE.formats)),
    )


def _extra_scene(rng: random.Random) -> Scene:
    return replace(_any_scene(rng), series="", words="")


def _extras(ordinary: list[StandInVideo], seed: int, rng: random.Random) -> list[StandInVideo]:
    extras = []
    for index in range(6):
        scene = _extra_scene(rng)
        title = f"{CHANNEL_VOICE.phrase(scene, rng)} #shorts"
        when = _between(ordinary, (index + 0.5) / 6)
        short = _video(f"{seed}:short {index}", when, title, scene, rng.randint(18, 59))
        extras.append(replace(short, is_short=True))
    for index, place in enumerate((0.25, 0.7)):
        scene = replace(_any_scene(rng), series="Kettle On")
        extras.append(
            _video(f"{seed}:open {index}", _between(ordinary, place), "Open studio: ask me anything", scene, 3300)
        )
    original = ordinary[len(ordinary) // 3]
    again = _video(f"{seed}:again", original.published_at + timedelta(days=2), f"{original.title} (sound fixed)",
                   _extra_scene(rng), original.duration_s)  # fmt: skip
    extras.append(replace(again, picture=original.picture))
    newest = max(video.published_at for video in ordinary)
    scene = replace(_any_scene(rng), series="Tide Table")
    premiere = _video(
        f"{seed}:premiere", newest + timedelta(days=3), "Premiere: the harbour map, all nine blocks", scene, None
    )
    extras.append(replace(premiere, live="upcoming"))
    return extras


def _between(ordinary: list[StandInVideo], place: float) -> datetime:
    """Return a time some days after the ordinary video at the relative position `place` (0 oldest, 1 newest)."""
    return ordinary[min(len(ordinary) - 1, int(place * len(ordinary)))].published_at + timedelta(days=3, hours=2)


def _video(key: str, published: datetime, title: str, scene: Scene, duration: int | None) -> StandInVideo:
    noun = CHANNEL_VOICE.nouns.get(scene.subject, scene.subject)
    colour = CHANNEL_VOICE.colours[COLOURS.index(scene.colour)]
    series = f"This one belongs to {scene.series}; the whole series is in its playlist.\n" if scene.series else ""
    description = (
        f"{title}.\n\nThis week on {_NAME}: {noun} in {colour}, "
        f"{CHANNEL_VOICE.places[SETTINGS.index(scene.setting)]}.\n{series}\n"
        "0:00 Hello from the shed\n0:45 The sketch\n2:30 Cutting and inking\n\n"
        "New video every Friday. Prints are on the line until the wind takes them."
    )
    tags = tuple(dict.fromkeys(("printmaking", "inkwell harbour", noun, colour, scene.series.lower() or "one-off")))
    return StandInVideo(
        id=_token(key, 8),
        title=title,
        published_at=published,
        duration_s=duration,
        picture=DrawnPicture(scene, key),
        description=description,
        tags=tags,
    )


def _token(key: str, size: int) -> str:
    """Return `size` bytes in YouTube's base64url form: 11 characters for a video's 8, 22 for a channel's 16."""
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()[:size]).decode().rstrip("=")
