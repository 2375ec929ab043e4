"""Hostile model folders: each is refused in one line, runs no code, and causes no request to the hub."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.reliability_lab import Row, Shell, error_line, sqlite_url
from store.db import open_database
from tests.hostile.model_folders import HOSTILE, install_evil
from tests.trainer.tiny import build_clip, fill

__all__ = ["models"]

QUICK = ("module of another package", "pickle beside a decoy", "adapter")


def models(folder: Path, *, quick: bool) -> list[Row]:
    """Give each hostile folder to `evaluate`, on a store with a few pairs."""
    store = sqlite_url(folder, "store")
    Shell(store, os.environ).run("db", "upgrade")
    database = open_database(store)
    fill(database, 12)
    database.close()
    good = _good(folder)
    site, mark = folder / "site", folder / "ran"
    site.mkdir()
    install_evil(site, mark)
    kinds = QUICK if quick else tuple(HOSTILE)
    wrong = []
    with _hub() as (url, asked):
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        hub = {"HF_ENDPOINT": url, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "0", "PYTHONPATH": path}
        shell = Shell(store, {**os.environ, **hub})
        for number, kind in enumerate(kinds):
            copy = shutil.copytree(good, folder / f"model-{number}")
            HOSTILE[kind](copy)
            done = shell.run("evaluate", str(copy), "--device", "cpu")
            if done.code != 1 or not error_line(done) or mark.exists() or asked:
                wrong.append(f"{kind}: exit {done.code}, ran: {mark.exists()}, asked: {asked}, {done.err}")
            asked.clear()
            mark.unlink(missing_ok=True)
    return [
        Row(
            "a model's folder runs no code, and leads nowhere else",
            f"{', '.join(kinds)}; each with evaluate",
            len(kinds),
            wrong[0] if wrong else "exit 1, one line, nothing run, nothing asked of the hub",
            not wrong,
        )
    ]


def _good(folder: Path) -> Path:
    """Save a tiny CLIP with a dense layer after it."""
    from sentence_transformers.sentence_transformer.modules import Dense  # noqa: PLC0415 (slow; only this part needs it)

    from trainer.models.encoder import load_clip  # noqa: PLC0415

    model = load_clip(str(build_clip(folder / "clip")), "cpu")
    model.append(Dense(16, 16))
    model.save_pretrained(str(folder / "good"))
    return folder / "good"


@contextmanager
def _hub() -> Iterator[tuple[str, list[str]]]:
    """Serve an empty hub; yield its URL and the requested paths."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
