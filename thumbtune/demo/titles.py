"""Generates titles in the style of a channel: its words for the parts of a scene, and templates to combine them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from thumbtune.demo.drawing_scene import COLOURS, COUNTS, SETTINGS, Scene

_IRREGULAR = {"fish": "fish"}


@dataclass(frozen=True, slots=True)
class Voice:
    """The words of a channel.

    Attributes:
        templates: title templates with the slots colour, noun, count, place, series, format and episode. A template is
            used only for scenes that fill all its slots.
        nouns: the channel's names of subjects.
        formats: maps the words on a thumbnail to phrases for the title; "" is a thumbnail without words.
        plain: the probability of the plain name of a colour or subject instead of the channel's.
    """

    colours: tuple[str, ...]
    counts: tuple[str, ...]
    places: tuple[str, ...]
    templates: tuple[str, ...]
    nouns: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plain: float = 0.0

    def phrase(self, scene: Scene, rng: random.Random, episode: int = 0) -> str:
        """Return a title for the scene, the same for the same state of `rng`."""
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
    """Return the plural of an English noun or noun phrase."""
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
