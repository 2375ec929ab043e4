"""Draw the screenshots of docs/ui.md: the page on a new demo's store, in a browser.

    python tools/draw_page.py [--store URL]

Needs the dependency group `browser` and a chromium; see tests_browser/. The pictures go to docs/images/.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZE: ViewportSize = {"width": 1200, "height": 750}
DRAWN_WIDTH = 900
PAGES = {
    "page-library": "/",
    "page-search": "/?q=lagoon+cats+for+the+last+ferry",
    "page-video": "/video/{video}",
    "page-match": "/match?v={video}&v={other}&t=Lagoon+cats+for+the+last+ferry&t=Mousers+in+lagoon"
    "&t=Pears+after+closing+time",
    "page-runs": "/runs",
    "page-run": "/runs/2#mistakes",
    "page-compare": "/runs/compare?a=2:base&b=2",
    "page-syncs": "/syncs",
}


def main() -> None:
    """Draw all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a store that a demo has left; a new demo's by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(arguments.store or demo(Path(folder) / "demo"))


def demo(folder: Path) -> str:
    """Run the demo; return its store's URL."""
    command = [sys.executable, "-m", "thumbtune", "-q", "demo", "--dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return f"sqlite:///{folder / 'thumbtune.db'}"


def draw(store: str) -> None:
    """Draw each page of a store."""
    command = [sys.executable, "-m", "thumbtune", "--db", store, "ui", "--no-browser", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        found = re.search(r"http://[\d.:]+", server.stdout.readline())
        assert found is not None
        chromium = os.environ.get("THUMBTUNE_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        page = browser.new_page(
            base_url=found[0], viewport={"width": SIZE["width"], "height": SIZE["height"]}, color_scheme="light"
        )
        page.goto("/")
        videos = page.locator(".card h3 a").evaluate_all("links => links.map(link => link.pathname.split('/').pop())")
        for name, path in PAGES.items():
            shoot(page, path.format(video=videos[0], other=videos[5]), IMAGES / f"{name}.webp")
        browser.close()
        server.terminate()


def shoot(page: Page, path: str, file: Path) -> None:
    """Open a path, wait for the model, and save a screenshot."""
    page.goto(path)
    expect(page.locator("[data-wait]")).to_have_count(0, timeout=120_000)
    page.wait_for_load_state("networkidle")
    with Image.open(io.BytesIO(page.screenshot())) as drawn:
        small = drawn.convert("RGB").resize((DRAWN_WIDTH, DRAWN_WIDTH * drawn.height // drawn.width))
        small.save(file, "WEBP", quality=78, method=6)
    print(f"{file.name}: {file.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
