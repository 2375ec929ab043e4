"""How a channel writes titles: its words for what a scene shows, and the templates that combine them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from thumbtune.demo.drawing_scene import COLOURS, COUNTS, SETTINGS, Scene

_IRREGULAR = {"fish": "fish"}


@dataclass(frozen=True, slots=True)
class Voice:
    """One channel's words. `templates` have the slots colour, noun, count, place, series, format and episode.

    `formats` maps the words drawn on a thumbnail to what the title says instead; "" is a thumbnail without words. A
    template is only used for scenes that fill all its slots.
    """

    colours: tuple[str, ...]
    counts: tuple[str, ...]
    places: tuple[str, ...]
    templates: tuple[str, ...]
    nouns: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plain: float = 0.0

    def phrase(self, scene: Scene, rng: random.Random, episode: int = 0) -> str:
        """Return a title for the scene, the same for the same state of `rng`.

        With the probability `plain`, a colour or a subject gets its plain name instead of the channel's own.
        """
        colour = self.colours[COLOURS.index(scene.colour)]
        noun = self.nouns.get(scene.subject, scene.subject)
        noun = scene.subject if rng.random() < self.plain else noun
        slots = {
            "colour": scene.colour if rng.random() < self.plain else colour,
            "noun": noun if scene.count == 1 else plural(noun),
            "count": self.counts[COUNTS.index(scene.count)],
            "place": self.places[SETTINGS.index(scene.setting)],
            "series": scene.series,
            "format": rng.choice(self.formats.get(scene.words, ("",))),
            "episode": str(episode) if episode else "",
        }
        fitting = [one for one in self.templates if all(slots[name] for name in re.findall(r"{(\w+)}", one))]
        return _tidied(rng.choice(fitting).format(**slots))


def plural(noun: str) -> str:
    """Return the plural of an English noun or noun phrase that a channel uses."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _tidied(title: str) -> str:
    title = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", title)
    title = re.sub(r"\s+", " ", title).strip()
    return title[:1].upper() + title[1:]
