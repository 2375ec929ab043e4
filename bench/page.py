"""Milliseconds of a text search and of a match on the page, for a large channel and a loaded model.

    python -m bench.page [--videos 20000] [--titles 10] [--queries 20] [--model FOLDER | vit-b-32]

Syncs a channel of that many videos, with distinct thumbnails and titles, and serves the page on it. The model is the
demo encoder, or `--model`; `vit-b-32` has the real size and random weights. Nothing is trained. In each query, the text
or one of the titles is new, as while a user edits a title. The time is from a request on loopback to the end of the
page.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import aiohttp

from bench.channels import sync
from bench.memory import large_channel
from bench.results import Result, Target, add_json_option, say, show
from collector.http import Listen
from thumbtune.standin.server import StandIn
from thumbtune.ui.server import serve_page
from thumbtune.ui.settings import PageSettings

MOST_MS = {"search": 100.0, "match": 150.0}


async def ask(session: aiohttp.ClientSession, path: str, query: list[tuple[str, str]]) -> float:
    """Return the milliseconds of the request with the answer. Earlier requests that show progress are not counted."""
    while True:
        started = time.perf_counter()
        async with session.get(path, params=query) as answer:
            text = await answer.text()
            spent = time.perf_counter() - started
            if "Refresh" in answer.headers:
                continue
            assert answer.status == 200, text
            assert "<meter" in text, text
            return spent * 1000


async def measure(store: str, model: str | None, titles: int, queries: int) -> dict[str, list[float]]:
    """Return the milliseconds of each query. The first query of each kind, which loads the model, is not counted."""
    settings = PageSettings(store, Listen("127.0.0.1", 0), model=model)
    spent: dict[str, list[float]] = {"search": [], "match": []}
    async with serve_page(settings) as address, aiohttp.ClientSession(f"http://{address}") as session:
        async with session.get("/") as answer:
            video = (await answer.text()).split('href="/video/')[1].split('"')[0]
        for number in range(queries + 1):
            search = await ask(session, "/", [("q", f"a red bicycle in the rain, number {number}")])
            ideas = [("t", f"idea {other}") for other in range(titles - 1)]
            match = await ask(session, "/match", [("v", video), *ideas, ("t", f"another idea, number {number}")])
            if number:
                spent["search"].append(search)
                spent["match"].append(match)
            else:
                say(f"warm after {search / 1000:.1f} s and {match / 1000:.1f} s")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--titles", type=int, default=10)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--model", help="a folder, or a size of bench.models; the demo's encoder by default")
    add_json_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'thumbtune.db'}"
        catalogue = large_channel(arguments.videos)
        with StandIn(catalogue) as server:
            sync(catalogue, server, store)
        # The model libraries take seconds to import, and only this needs them here.
        from bench.models import SIZES, model_folder  # noqa: PLC0415

        is_size = arguments.model in SIZES
        model = str(model_folder(arguments.model, Path(folder))) if is_size else arguments.model
        spent = asyncio.run(measure(store, model, arguments.titles, arguments.queries))
    named = "the demo's encoder" if arguments.model is None else Path(arguments.model).name
    what = {
        "search": f"the page: search of {arguments.videos:,} thumbnails by text, {named}",
        "match": f"the page: match of {arguments.titles} titles among {arguments.videos:,}, {named}",
    }
    show(
        [
            Result(
                what=what[kind],
                recipe=None,
                thumbtune=median(values),
                unit="ms",
                target=Target("<=", MOST_MS[kind], of="thumbtune") if arguments.model is None else None,
                how=f"`python -m bench.page`: median of {arguments.queries} requests over loopback, model warm",
                raw={"ms": values},
            )
            for kind, values in spent.items()
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
