"""The training data of the demo's encoder: drawn thumbnails of invented channels, their titles, and a vocabulary.

The demo's own channel is not used; see `tools/training_styles.py`.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from training_styles import InventedChannel
from transformers import CLIPTokenizer

from thumbtune.demo.drawing_scene import COLOURS, COUNTS, SETTINGS, Scene, draw_scene
from thumbtune.demo.drawing_subjects import SUBJECTS
from thumbtune.demo.titles import Voice

IMAGE_SIZE = 96
"""Height and width in pixels of the encoder's input."""
MAX_TOKENS = 40
"""Maximum number of tokens of a title, including the start and end tokens; longer titles are truncated."""
WORD_DIMENSIONS = 64
"""Length of a word's vector in the auxiliary task of the text tower."""

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
SHAPES = ("", "circle", "square", "triangle", "star", "hexagon", "diamond")

# Common title words, so that the vocabulary and the auxiliary task cover more than the words of these channels.
_COMMON = """
about after again all always another anything art ask best better big book box build built cheap city class clean
colour course day design different easy ends every fast feel find first five fix food free from full game good great
guide hand happy hard here home hour house how idea inside island just kind kit last late learn lesson life light
line list little live long look loud love machine made make map market matter maybe mind mini minute more morning
most mountain music my need never new next nice night no note notes nothing now of off old one only open order
other out over own page part people perfect place plan play please point post pot quick quiet ready real really right
river road room round rule same save school secret series set sheet shelf shop short show simple single sitting slow
small some something soon sound spring square start still stop story street strong studio style summer table take
talk tea ten test that them then thing things think this three tide time tiny tip today tool tools top town train
travel trick true try turn two under until update upon used video view wait walk want warm watch water way week
weekend what when where which while white who why wild wind window winter with without wood word work world wrong
year you young your zero episode season tutorial review ultimate mistakes beginners explained everything
"""
# Beginnings, middles and ends of invented syllables.
_SYLLABLES = (
    "b br c ch cl d dr f fl g gl gr h j k l m n p pl pr qu r s sh sk sl sp st t th tr v w y z",
    "a ai e ea ee i ie o oa oo ou u",
    "b ck d ft g l ld ll m mp n nd ng nk nt p r rd rn rt s sh ss st t th x",
)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Drawn thumbnails of one invented channel, with labels.

    `pixels` are uint8 of shape (n, IMAGE_SIZE, IMAGE_SIZE, 3) in RGB. `labels` are int64 of shape (n, 6): subject,
    colour, count, setting, badge shape and drawn words, each the index in its list. `badges` are float32 (n, 3), the
    badge's RGB in 0 to 1, or 0 without one.
    """

    voice: Voice
    scenes: tuple[Scene, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    badges: NDArray[np.float32]


def random_scene(channel: InventedChannel, rng: random.Random) -> Scene:
    """Return a random scene of the channel."""
    words = tuple(channel.voice.formats) or ("",)
    return Scene(
        subject=rng.choice(tuple(SUBJECTS)),
        colour=rng.choice(COLOURS),
        count=rng.choices(COUNTS, (5, 3, 2, 2))[0],
        setting=rng.choice(SETTINGS),
        series=rng.choice(tuple(channel.picture.badges)) if rng.random() < 0.6 else "",
        words=rng.choice(words),
    )


def seen(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a picture as the encoder's image processor sees it, before normalisation.

    Shape (IMAGE_SIZE, IMAGE_SIZE, 3), RGB.
    """
    return np.asarray(picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def draw_pairs(
    channel: InventedChannel, others: Sequence[InventedChannel], count: int, seed: int, words: Sequence[str]
) -> Pairs:
    """Draw `count` thumbnails of one channel.

    Half have the channel's style, and half use the pen and paper, and the composition, of two of `others`, so that the
    encoder learns to separate content from style.
    """
    rng = random.Random(f"{seed}:{channel.picture.name}")
    scenes, pixels, labels, badges = [], [], [], []
    for _ in range(count):
        scene, style = random_scene(channel, rng), channel.picture
        if others and rng.random() < 0.5:
            pen, frame = rng.choice(others).picture, rng.choice(others).picture
            style = replace(
                style,
                **{name: getattr(pen, name) for name in ("palette", "pen", "tint", "tint_amount", "texture")},
                **{
                    name: getattr(frame, name)
                    for name in ("layout", "gathering", "size", "plate", "badge_at", "word_place")
                },
            )
        pixels.append(seen(draw_scene(scene, style, rng, scale=1)))
        badge = style.badges.get(scene.series)
        badges.append([part / 255 for part in badge.colour] if badge else [0.0, 0.0, 0.0])
        labels.append(
            (
                tuple(SUBJECTS).index(scene.subject),
                COLOURS.index(scene.colour),
                COUNTS.index(scene.count),
                SETTINGS.index(scene.setting),
                SHAPES.index(badge.shape if badge else ""),
                words.index(scene.words),
            )
        )
        scenes.append(scene)
    return Pairs(
        channel.voice, tuple(scenes), np.stack(pixels), np.array(labels, np.int64), np.array(badges, np.float32)
    )


def drawn_words(channels: Iterable[InventedChannel]) -> tuple[str, ...]:
    """Return every text that the channels draw on a thumbnail, "" first."""
    return ("", *sorted({text for channel in channels for text in channel.voice.formats if text}))


def babble(rng: random.Random, lexicon: Sequence[str]) -> str:
    """Return three to eight known and invented words in random order."""
    return " ".join(rng.choice(lexicon) if rng.random() < 0.6 else _made_up(rng) for _ in range(rng.randint(3, 8)))


def _made_up(rng: random.Random) -> str:
    onsets, vowels, codas = (part.split() for part in _SYLLABLES)
    syllables = (rng.choice(onsets) + rng.choice(vowels) for _ in range(rng.randint(1, 2)))
    return "".join(syllables) + rng.choice(codas)


def word_sum(title: str) -> NDArray[np.float32]:
    """Return the sum of a title's word vectors: float32 of shape (WORD_DIMENSIONS,), about unit variance.

    Each word has a fixed random direction, so the sum identifies the words, but not their order.
    """
    words = ["".join(c for c in word if c.isalnum()) for word in title.lower().split()]
    vectors = [_direction(word) for word in words if word]
    return (
        (np.sum(vectors, axis=0) / np.sqrt(4.0)).astype(np.float32)
        if vectors
        else np.zeros(WORD_DIMENSIONS, np.float32)
    )


def _direction(word: str) -> NDArray[np.float64]:
    found = _DIRECTIONS.get(word)
    if found is None:
        found = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(WORD_DIMENSIONS)
        _DIRECTIONS[word] = found
    return found


_DIRECTIONS: dict[str, NDArray[np.float64]] = {}


def sample_titles(channels: Iterable[InventedChannel], count: int, seed: int) -> list[str]:
    """Return `count` titles of each channel."""
    rng = random.Random(f"{seed}:titles")
    return [
        channel.voice.phrase(random_scene(channel, rng), rng, rng.randint(1, 99))
        for channel in channels
        for _ in range(count)
    ]


def known_words(titles: Iterable[str]) -> list[str]:
    """Return the words of the titles and the common words, sorted."""
    return sorted(
        {*_COMMON.split(), *(word.strip("!?:,|()[]~/-").lower() for title in titles for word in title.split())} - {""}
    )


def build_tokenizer(titles: Sequence[str], size: int, seed: int) -> CLIPTokenizer:
    """Train a byte-level BPE tokenizer like CLIP's with `size` entries.

    It contains all 256 bytes, inside and at the end of a word, so that no title has unknown tokens.
    """
    lexicon = known_words(titles)
    rng = random.Random(f"{seed}:vocabulary")
    texts = [
        *titles,
        *(" ".join(rng.sample(lexicon, 8)) for _ in range(400)),
        *(babble(rng, lexicon) for _ in range(400)),
    ]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size - 2, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
        ),
    )
    model = _learnt_merges(learner)
    entries = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges = model[: size - len(entries) - 2]
    entries += [first + second for first, second in merges]
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys((*entries, BEGIN, END)))}
    # The library's annotation says list[str], but the BPE model expects a list of pairs.
    pairs: list[str] = list(merges)  # type: ignore[arg-type]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=MAX_TOKENS)


def _learnt_merges(learner: Tokenizer) -> list[tuple[str, str]]:
    return [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]
