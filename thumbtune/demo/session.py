"""The demo: runs the real commands in order against a stand-in server whose channel changes between them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collector.sync import DEFAULT_MIN_DURATION_S
from store.types import PICTURE_FORMATS
from store.urls import sqlite_url
from store.wording import counted
from thumbtune.standin.catalogue import Catalogue, StandInVideo
from thumbtune.standin.server import StandIn

__all__ = [
    "ENCODER",
    "DemoError",
    "Session",
    "hold_back",
    "new_folder",
    "retitle_and_repaint",
    "tell",
    "training_options",
]

ENCODER = Path(__file__).parent / "encoder"
"""The folder of the small model that ships with thumbtune."""

DRAWN = ("--model", str(ENCODER))
"""Options of `train` for the drawn channel."""

SHOWN = (*DRAWN, "--with-reader")
"""Options of `train` for real thumbnails: their words say more than the small encoder recognises."""

HELD_BACK = 0.1


def training_options(channel_dir: Path | None) -> tuple[str, ...]:
    """Return the options of `train`. For a channel folder, the words on thumbnails are read if OCR is installed.

    Args:
        channel_dir: the folder of a channel; None for the drawn channel.
    """
    if channel_dir is None:
        return DRAWN
    return SHOWN if importlib.util.find_spec("rapidocr_onnxruntime") is not None else DRAWN


class DemoError(Exception):
    """A step of the demo failed; the message names it."""

    exit_code = 1


@dataclass
class Session:
    """A run of the demo.

    Attributes:
        folder: the folder for the store and the models.
        server: a started stand-in server.
        show: called with each line of output.
        as_json: run every command with `--json` and collect its output in `results` instead of showing it.
        training: options of `train`.
        results: the commands and their JSON output.
    """

    folder: Path
    server: StandIn
    show: Callable[[str], None]
    as_json: bool = False
    training: Sequence[str] = DRAWN
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def store_url(self) -> str:
        """The URL of the demo's store."""
        return sqlite_url(self.folder / "thumbtune.db")

    def run(self, *arguments: str) -> None:
        """Run a thumbtune command in a separate process.

        Raises:
            DemoError: the exit code is not 0.
        """
        command = [*arguments, "--json"] if self.as_json else list(arguments)
        self.show("")
        self.show(f"$ thumbtune {' '.join(_quoted(argument) for argument in arguments)}")
        before = self.server.units
        process = subprocess.run(  # noqa: S603 (our own command)
            [sys.executable, "-m", "thumbtune", "-q", *command],
            env={
                **os.environ,
                **self.server.environment(),
                "THUMBTUNE_DB": self.store_url,
                "THUMBTUNE_PICTURES": "database",
            },
            stdout=subprocess.PIPE if self.as_json else None,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            raise DemoError(
                f"'thumbtune {' '.join(arguments)}' ended with code {process.returncode}; see its output above"
            )
        if self.as_json:
            self.results.append({"command": list(arguments), "result": json.loads(process.stdout)})
        spent = self.server.units - before
        if arguments[0] in ("sync", "retrain"):
            self.show(f"(the server counted {counted(spent, 'quota unit')})")


def tell(session: Session, catalogue: Catalogue, newest: Sequence[StandInVideo]) -> None:
    """Run the demo: sync, train, change the channel, retrain, show the history, and use the model.

    Args:
        session: the run of the demo.
        catalogue: the channel on the server, without `newest`.
        newest: the videos to publish between the commands.

    Raises:
        DemoError: a command failed.
    """
    session.run("sync", catalogue.handle)
    session.run("train", *session.training)

    session.show("")
    changed = retitle_and_repaint(catalogue)
    catalogue.publish(*newest)
    session.show(f"The channel publishes {len(newest)} videos, and gives {changed} a new title and thumbnail.")

    session.run("sync")
    session.run("sync", "--refresh")
    session.run("retrain", "--min-new", "1")
    session.run("runs")
    session.run("runs", "compare", "2:base", "2")
    _use(session, catalogue)
    session.show("")
    session.show(f"The store is {session.folder / 'thumbtune.db'}. To inspect it:")
    session.show(f"  sqlite3 {session.folder / 'thumbtune.db'} 'select * from run_history'")  # noqa: S608 (shown, not run)
    session.show(f"  thumbtune --db {session.store_url} runs show 2 --full")
    session.show("Look at it all in a browser: search, match titles, compare runs:")
    session.show(f"  {_how_to_call()} --db {session.store_url} ui")


def _how_to_call() -> str:
    """Return the shell command for this thumbtune: its path if its virtual environment is not active."""
    own = Path(sys.executable).with_name("thumbtune")
    found = shutil.which("thumbtune")
    if found is not None or not own.exists():
        return "thumbtune"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def _use(session: Session, catalogue: Catalogue) -> None:
    """Search the library by text, and rank three title ideas for the newest video's thumbnail."""
    pairs = [
        video
        for video in catalogue.listed()
        if video.privacy == "public"
        and video.id not in catalogue.deleted
        and (video.duration_s or 0) >= DEFAULT_MIN_DURATION_S
    ]
    newest, ideas = pairs[0], [video.title for video in pairs[:3]]
    session.run("search", newest.title, "-k", "3", "--out", str(session.folder / "found.png"))
    session.run("match", newest.id, *ideas)


def hold_back(catalogue: Catalogue) -> list[StandInVideo]:
    """Remove the newest tenth of a channel's videos and return them, oldest first, to publish them later."""
    listed = catalogue.listed()
    newest = listed[: max(1, int(len(listed) * HELD_BACK))]
    for video in newest:
        catalogue.remove(video.id)
    return list(newest[::-1])


def retitle_and_repaint(catalogue: Catalogue) -> str:
    """Change the oldest public video's title and thumbnail, and return its id."""
    oldest = next(
        video
        for video in reversed(catalogue.listed())
        if video.privacy == "public" and video.id not in catalogue.deleted
    )
    catalogue.change(oldest.id, title=f"{oldest.title} (revisited)", picture=lambda: _mirrored(oldest.picture()))
    return oldest.id


def _mirrored(content: bytes) -> bytes:
    """Return the mirrored image: different bytes with the same meaning."""
    import io  # noqa: PLC0415 (needed only when the image is served)

    from PIL import Image, ImageOps  # noqa: PLC0415

    swapped = io.BytesIO()
    with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as picture:
        ImageOps.mirror(picture).save(swapped, "JPEG", quality=90)
    return swapped.getvalue()


def new_folder(parent: Path) -> Path:
    """Create a new folder for a demo; existing folders are kept, so that no earlier result is lost.

    Raises:
        DemoError: the folder can't be created.
    """
    for number in range(1, 1000):
        folder = parent / ("thumbtune-demo" if number == 1 else f"thumbtune-demo-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise DemoError(
                f"the folder {folder} can't be created ({error.strerror}); give another folder with --dir"
            ) from error
        return folder
    raise DemoError(f"{parent} contains a thousand demos; remove some, or give a folder with --dir")


def _quoted(argument: str) -> str:
    return f'"{argument}"' if " " in argument else argument
