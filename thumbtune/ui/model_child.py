"""The model process: answers questions from standard input one at a time, and keeps the model loaded between them.

It ends when the server ends. Run it as `python -m thumbtune.ui.model_child`, with the store's URL in THUMBTUNE_DB.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from thumbtune.ui.messages import decoded, encoded

if TYPE_CHECKING:
    from store.db import Database
    from thumbtune.answers.modelled import Answerer
    from trainer.library import QueryPicture

__all__ = ["main"]

_SEND_EVERY_S = 0.2


class _SentProgress:
    """Sends progress to the server. Satisfies `trainer.progress.Progress`."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send

    @contextmanager
    def phase(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        done, sent_at = 0, 0.0

        def count(n: int) -> None:
            nonlocal done, sent_at
            done += n
            if time.monotonic() - sent_at > _SEND_EVERY_S:
                sent_at = time.monotonic()
                self._send({"progress": description, "done": done, "total": total})

        count(0)
        yield count

    def warn(self, text: str) -> None:
        """Do nothing, because no user reads warnings here."""


class _Child:
    def __init__(self, url: str, model: str | None, *, read_only: bool, send: Callable[[dict[str, Any]], None]) -> None:
        self._url = url
        self._model = model
        self._read_only = read_only
        self._progress = _SentProgress(send)
        self._answerer: Answerer | None = None
        self._database: Database | None = None

    @property
    def database(self) -> Database:
        if self._database is None:
            from store.db import open_database  # noqa: PLC0415

            opened = open_database(self._url, create=False, read_only=self._read_only)
            # The feature cache is then not written, as with a store that is not writable.
            self._database = replace(opened, unwritable="the page is read-only") if self._read_only else opened
        return self._database

    @property
    def answerer(self) -> Answerer:
        if self._answerer is None:
            with self._progress.phase("Starting"):
                from thumbtune.answers.modelled import Answerer  # noqa: PLC0415 (loads torch)
                from thumbtune.demo.session import ENCODER  # noqa: PLC0415

            self._answerer = Answerer(self.database, self._model, progress=self._progress, untrained=str(ENCODER))
        return self._answerer

    def answer(self, question: dict[str, Any], blobs: list[bytes]) -> dict[str, Any]:
        """Answer one question: its `ask` is the name of a method below."""
        ask: Callable[[dict[str, Any], list[bytes]], dict[str, Any]] = getattr(self, f"ask_{question['ask']}")
        return ask(question, blobs)

    def ask_search(self, question: dict[str, Any], blobs: list[bytes]) -> dict[str, Any]:
        from thumbtune.answers.documents import search_document  # noqa: PLC0415

        query = question["text"] if question["text"] is not None else self._picture(question["picture"], blobs)
        only = None if question["only"] is None else frozenset(question["only"])
        found = self.answerer.search(query, question["k"], question["channels"], only)
        return search_document(found, question["text"], None)

    def ask_match(self, question: dict[str, Any], blobs: list[bytes]) -> dict[str, Any]:
        from thumbtune.answers.documents import thumbnail_document  # noqa: PLC0415

        pictures = [self._picture(named, blobs) for named in question["pictures"]]
        found = self.answerer.match(pictures, question["titles"], question["channels"])
        columns = [thumbnail_document(matched) for matched in found.thumbnails]
        return {"model": found.model, "run_id": found.run_id, "columns": columns}

    def ask_nearest(self, question: dict[str, Any], blobs: list[bytes]) -> dict[str, Any]:
        from thumbtune.answers.documents import found_document, thumbnail_document  # noqa: PLC0415

        found = self.answerer.nearest(self._picture(question["picture"], blobs), question["k"])
        return {
            "model": found.used.name,
            "run_id": found.used.run_id,
            "thumbnails": found_document(found.thumbnails),
            "titles": found_document(found.titles),
            "own": thumbnail_document(found.own),
        }

    def ask_compare(self, question: dict[str, Any], _blobs: list[bytes]) -> dict[str, Any]:
        from trainer.scoring import compare  # noqa: PLC0415

        found = compare(self.database, question["a"], question["b"], question["split"])
        # Only what the page shows: a split of a million thumbnails may have as many changes.
        flipped = [change for change in found.changes if change.flipped]
        shown = [asdict(change) for change in flipped[: question["most"]]]
        return {**asdict(replace(found, changes=[])), "changes": shown, "flipped": len(flipped)}

    def ask_promote(self, question: dict[str, Any], _blobs: list[bytes]) -> dict[str, Any]:
        from trainer.runs import promote_run  # noqa: PLC0415

        return asdict(promote_run(self.database, question["run_id"], question["reason"]))

    def _picture(self, named: dict[str, Any], blobs: list[bytes]) -> QueryPicture:
        """Open a video's thumbnail, or an upload. Names are never opened as files here."""
        from trainer.errors import BadSetting  # noqa: PLC0415
        from trainer.library import read_picture, stored_picture  # noqa: PLC0415

        if named["video"] is None:
            return read_picture(blobs[named["blob"]], "the picture")
        found = stored_picture(self.database, named["video"])
        if found is None:
            raise BadSetting(f"the store has no video {named['video']}; check the id")
        return found


def main() -> None:
    """Answer until standard input ends."""
    # Output that libraries print goes to stderr, because stdout is only for answers.
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = sys.stdin.buffer

    def send(message: dict[str, Any]) -> None:
        answers.write(encoded(message))
        answers.flush()

    child = _Child(
        os.environ["THUMBTUNE_DB"],
        os.environ.get("THUMBTUNE_UI_MODEL"),
        read_only=bool(os.environ.get("THUMBTUNE_UI_READ_ONLY")),
        send=send,
    )
    while line := questions.readline():
        question, sizes = decoded(line)
        blobs = [questions.read(size) for size in sizes]
        try:
            answer = child.answer(question, blobs)
        except ModuleNotFoundError as error:
            send({"error": f"{error.name} is not installed; run pip install 'thumbtune[train]'"})
        except Exception as error:
            known = getattr(error, "exit_code", None) is not None
            text = str(error) if known else f"{type(error).__name__}: {error}; this is a bug, please report it"
            send({"error": text})
        else:
            send({"answer": answer})


if __name__ == "__main__":
    main()
