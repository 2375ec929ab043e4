"""The page on the demo's store and a real channel's store, and a browser that checks the page's rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SHOTS = os.environ.get("THUMBTUNE_SHOTS")
"""The folder for a screenshot of each page, for people to look at; drawing them takes as long as all that is tested."""
expect.set_options(timeout=30_000)  # a model answers in this time, even on a slow machine
CHANNEL = ROOT.parent / "shared" / "channel"


def chromium() -> str:
    """Debian's chromium: THUMBTUNE_CHROMIUM, or the one on PATH."""
    found = os.environ.get("THUMBTUNE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("needs chromium: on PATH, or named in THUMBTUNE_CHROMIUM")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield started
        started.close()


def _demo(folder: Path, *options: str) -> str:
    subprocess.run(
        [sys.executable, "-m", "thumbtune", "-q", "demo", "--dir", str(folder), *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return f"sqlite:///{folder / 'thumbtune.db'}"


@pytest.fixture(scope="session", params=["drawn", "real"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the store that `thumbtune demo` leaves: two runs, the second one in use if it was better."""
    folder = tmp_path_factory.mktemp(request.param) / "demo"
    if request.param == "drawn":
        return _demo(folder)
    if not CHANNEL.is_dir():
        pytest.skip("../shared/channel is not here")
    return _demo(folder, "--channel", str(CHANNEL))


@contextmanager
def serving(store: str, *options: str) -> Iterator[str]:
    """Serve the page on a store; yields its address."""
    command = [sys.executable, "-m", "thumbtune", "--db", store, "ui", "--no-browser", "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert found is not None
        try:
            yield found[0]
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def address(store: str) -> Iterator[str]:
    """The page on that store."""
    with serving(store) as address:
        yield address


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens a page, like `browser.new_context(**options)`. At the end, checks that no request failed or went elsewhere."""
    contexts: list[BrowserContext] = []
    told: list[str] = []
    asked: list[str] = []

    def open_one(path: str = "/", **options: object) -> Page:
        context = browser.new_context(base_url=address, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: told.append(f"{page.url}: {error}"))
        page.on("request", lambda request: asked.append(_where(request)))
        go(page, path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert told == [], "the browser's console is empty; in particular, the policy is not violated"
    assert {place for place in asked if place != urlsplit(address).netloc} == set(), "no request leaves the server"


def _where(request: Request) -> str:
    return urlsplit(request.url).netloc


def go(page: Page, path: str) -> None:
    """Open a path, and wait until the model has answered and all is loaded."""
    page.goto(path)
    settled(page)


def settled(page: Page) -> None:
    """Wait until the model has answered: the page reloads itself until then."""
    expect(page.locator("[data-wait]")).to_have_count(0, timeout=120_000)
    page.wait_for_load_state("networkidle")


def first_video(page: Page) -> str:
    """The id of the newest video."""
    target = page.locator(".card h3 a").first.get_attribute("href")
    assert target is not None
    return target.removeprefix("/video/")
