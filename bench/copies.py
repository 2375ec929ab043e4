"""Which copies of a channel's videos join the group of their original, so that they can't leak into another split.

    python -m bench.copies [--channel DIR ...] [--drawn] [--only WORD ...]

For each kind of copy, the channel is synced and its videos get their permanent splits. Then every video is published
again: with a changed thumbnail and an unrelated title, with a changed title and another video's thumbnail of a drawn
channel, or with both changed. A join is false if a group contains copies of two videos that were not in one group
before. No model is used, and no row is scored, so all videos take part.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import combinations, cycle
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

from bench.channels import sync
from bench.rows import add_channel_options, catalogues
from store.db import open_database
from store.training import ExampleRow
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.drawing import letterboxed
from thumbtune.standin.catalogue import Catalogue, StandInVideo
from thumbtune.standin.server import StandIn
from trainer.data import select_pairs, without_bars

_SIZE = (480, 270)
Picture = Callable[[Image.Image], Image.Image]
Title = Callable[[str], str]


@dataclass(frozen=True)
class Copy:
    """A kind of copy.

    Args:
        what: a description.
        picture: changes the 16:9 picture; None for an unrelated thumbnail.
        title: changes the title; None for an unrelated title.
        quality: of the copy's JPEG.
        alike: whether it counts as the same video.
    """

    what: str
    picture: Picture | None = None
    title: Title | None = None
    quality: int = 90
    alike: bool = True


def _cropped(share: float) -> Picture:
    def crop(image: Image.Image) -> Image.Image:
        across, down = round(image.width * share), round(image.height * share)
        return image.crop((across, down, image.width - across, image.height - down)).resize(_SIZE)

    return crop


def _resized(width: int, height: int) -> Picture:
    return lambda image: image.resize((width, height)).resize(_SIZE)


def _pillars(image: Image.Image) -> Image.Image:
    framed = Image.new("RGB", _SIZE)
    framed.paste(image.resize((360, 270)), (60, 0))
    return framed


def _thin_bars(image: Image.Image) -> Image.Image:
    framed = Image.new("RGB", _SIZE)
    framed.paste(image.resize((480, 206)), (0, 32))
    return framed


def _badge(image: Image.Image) -> Image.Image:
    marked = image.copy()
    ImageDraw.Draw(marked).rounded_rectangle((380, 10, 470, 50), 8, fill="red")
    return marked


def _same(image: Image.Image) -> Image.Image:
    return image


COPIES = (
    Copy("recompressed, JPEG quality 80", _same, quality=80),
    Copy("recompressed, JPEG quality 40", _same, quality=40),
    Copy("made from 320 x 180", _resized(320, 180), quality=80),
    Copy("made from 1280 x 720", _resized(1280, 720), quality=80),
    Copy("brightened by 5 %", lambda image: ImageEnhance.Brightness(image).enhance(1.05)),
    Copy("brightened by 20 %", lambda image: ImageEnhance.Brightness(image).enhance(1.2)),
    Copy("darkened by 20 %", lambda image: ImageEnhance.Brightness(image).enhance(0.8)),
    Copy("contrast raised by 20 %", lambda image: ImageEnhance.Contrast(image).enhance(1.2)),
    Copy("colours raised by 30 %", lambda image: ImageEnhance.Color(image).enhance(1.3)),
    Copy("1 % cropped from each edge", _cropped(0.01)),
    Copy("5 % cropped from each edge", _cropped(0.05)),
    Copy("bars added left and right", _pillars),
    Copy("bars added above and below", _thin_bars),
    Copy("badge added in a corner", _badge),
    Copy("title with (re-upload)", title=lambda title: f"{title} (re-upload)"),
    Copy("title with [REUPLOADED]", title=lambda title: f"{title} [REUPLOADED]"),
    Copy("title with part 2", title=lambda title: f"{title} part 2"),
    Copy("title with - HD", title=lambda title: f"{title} - HD"),
    Copy("title in capitals, with !", title=lambda title: f"{title.upper()}!"),
    Copy("longer title", title=lambda title: f"{title}, explained for beginners", alike=False),
    Copy("JPEG quality 80, longer title", _same, lambda title: f"{title}, explained for beginners", quality=80),
    Copy(
        "brightened by 20 %, (re-upload)",
        lambda image: ImageEnhance.Brightness(image).enhance(1.2),
        lambda title: f"{title} (re-upload)",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_channel_options(parser)
    parser.add_argument("--only", nargs="+", default=[""], help="measure only the kinds that contain one of these")
    arguments = parser.parse_args()
    begun, spent = time.perf_counter(), time.process_time()
    for name, catalogue in catalogues(arguments).items():
        print(f"\n## {name}\n")
        print("| copy | the same video | videos | joined | in another split | false joins |")
        print("|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "originals.db"
            channel = catalogue()
            with StandIn(channel) as server:
                sync(channel, server, f"sqlite:///{store}")
            with open_database(f"sqlite:///{store}") as database:
                before = {row.video_id: row for row in select_pairs(database).examples}
            for kind in COPIES:
                if any(word in kind.what for word in arguments.only):
                    cells = measure(catalogue(), kind, store, before)
                    print(f"| {kind.what} | {'yes' if kind.alike else 'no'} | {cells} |", flush=True)
    print(f"\n{time.perf_counter() - begun:.0f} s (processor {time.process_time() - spent:.0f} s, without syncs)")


def measure(catalogue: Catalogue, kind: Copy, store: Path, before: dict[str, ExampleRow]) -> str:
    """Publish a copy of each video, and count: the cells of the table.

    Args:
        catalogue: the originals.
        kind: the kind of copy.
        store: a store with the originals and their splits. It is copied.
        before: {video id: row} of the originals.
    """
    copied = store.with_name("copies.db")
    shutil.copy(store, copied)
    catalogue.publish(*copies_of(catalogue, kind, before))
    with StandIn(catalogue) as server:
        sync(catalogue, server, f"sqlite:///{copied}")
    with open_database(f"sqlite:///{copied}") as database:
        after = select_pairs(database).examples
    return counted(before, {row.video_id: row for row in after})


def copies_of(catalogue: Catalogue, kind: Copy, originals: Collection[str]) -> list[StandInVideo]:
    """Return a copy of each of these videos, published after all of them."""
    others = cycle(video for video in drawn_channel(len(originals) + 80, seed=11).public() if video.live == "none")
    latest = max(video.published_at for video in catalogue.videos.values())
    found = []
    for number, (video_id, other) in enumerate(zip(originals, others, strict=False)):
        video = catalogue.videos[video_id]
        picture = other.picture if kind.picture is None else partial(_changed, video, kind)
        title = _unrelated(video_id) if kind.title is None else kind.title(video.title)
        at = latest + timedelta(days=number + 1)
        found.append(replace(video, id=_id_of_copy(video_id), title=title, picture=picture, published_at=at))
    return found


def counted(before: dict[str, ExampleRow], after: dict[str, ExampleRow]) -> str:
    """Count joined copies, copies in another split than their original, and false joins."""
    pairs = [(after.get(video_id), after.get(_id_of_copy(video_id))) for video_id in before]
    there = [(one, other) for one, other in pairs if one is not None and other is not None]
    joined = sum(one.group_id == other.group_id for one, other in there)
    # A copy that is left out of snapshots, because it joined its original too late, is no leak.
    apart = sum(one.split != other.split for one, other in there)
    origin = {_id_of_copy(video_id): video_id for video_id in before}
    of_group: dict[str, set[str]] = {}
    for video_id, row in after.items():
        of_group.setdefault(row.group_id, set()).add(origin.get(video_id, video_id))
    false = sum(
        before[one].group_id != before[other].group_id
        for group in of_group.values()
        for one, other in combinations(sorted(group & before.keys()), 2)
    )
    return f"{len(there)} | {joined} | {apart} | {false}"


def _changed(video: StandInVideo, kind: Copy) -> bytes:
    assert kind.picture is not None
    with Image.open(io.BytesIO(video.picture())) as opened:
        picture = without_bars(opened.convert("RGB")).resize(_SIZE)
    file = io.BytesIO()
    letterboxed(kind.picture(picture)).save(file, "JPEG", quality=kind.quality)
    return file.getvalue()


def _id_of_copy(video_id: str) -> str:
    return hashlib.sha256(video_id.encode()).hexdigest()[:11]


def _unrelated(video_id: str) -> str:
    return " ".join(hashlib.sha256(f"title of {video_id}".encode()).hexdigest()[at : at + 8] for at in (0, 8, 16))


if __name__ == "__main__":
    main()
