"""The page, served in this or another process, with a client over real HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPConnection
from typing import Any, NamedTuple

import aiohttp

from collector.http import Limits, Listen
from thumbtune.ui.server import serve_page
from thumbtune.ui.settings import PageSettings

TOKEN = "a token of more than sixteen characters"


class Answer(NamedTuple):
    status: int
    text: str
    headers: Any
    url: str


@dataclass
class Client:
    """A client of the page that keeps cookies."""

    session: aiohttp.ClientSession
    address: Listen

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.url(path), **options) as answer:
            body = await answer.read()
            return Answer(answer.status, body.decode("utf-8", "replace"), answer.headers, str(answer.url))


@asynccontextmanager
async def serving(url: str, limits: Limits | None = None, **options: Any) -> AsyncIterator[Client]:
    """The page on a store, in this process."""
    settings = PageSettings(url, options.pop("address", Listen("127.0.0.1", 0)), **options)
    async with serve_page(settings, limits) as address:
        reached = Listen("127.0.0.1", address.port)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            yield Client(session, reached)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Page(NamedTuple):
    """A page's tags in order, and its text."""

    tags: list[tuple[str, dict[str, str | None]]]
    text: str

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [have for name, have in self.tags if name == tag and attributes.items() <= have.items()]

    def links(self, start: str) -> list[str]:
        """The distinct targets of links with this prefix, in order."""
        targets = [str(have.get("href")) for have in self.all("a")]
        return list(dict.fromkeys(target for target in targets if target.startswith(start)))


def parsed(text: str) -> Page:
    reader = _Page()
    reader.feed(text)
    return Page(reader.tags, " ".join(" ".join(reader.texts).split()))


@contextmanager
def page_process(url: str, *options: str) -> Iterator[tuple[str, int]]:
    """`thumbtune ui` as users start it: its address, and the process's number."""
    environment = {**os.environ, "THUMBTUNE_DB": url, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "thumbtune", "ui", "--no-browser", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://([\d.:]+)/", process.stdout.readline())
            assert found is not None
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait(30)


def fetch(address: str, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, str, Any]:
    """One request to a page in another process: status, text, headers."""
    connection = HTTPConnection(address, timeout=120)
    try:
        connection.request(
            method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace"), answer.headers
    finally:
        connection.close()


def answered(address: str, path: str) -> str:
    """Return the page after the model has answered; reloads like a browser without scripts."""
    while True:
        status, text, headers = fetch(address, path)
        assert status == 200, text
        if headers.get("Refresh") is None:
            return text
