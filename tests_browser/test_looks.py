"""The layout of every page: accessible in light and dark, not wider than the screen, without overlaps."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests_browser.conftest import SHOTS, Open, first_video, go, serving

WIDTHS = (360, 768, 1440)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
RULES_OF_COLOUR = ["color-contrast", "link-in-text-block"]
PAGES = {
    "library": "/",
    "filters": "/?split=test&from=2020-01-01",
    "search": "/?q=a+red+thing",
    "like": "/?like={video}",
    "video": "/video/{video}",
    "match-empty": "/match",
    "match": "/match?v={video}&v={other}&t=One+idea+for+this+video&t=A+longer+idea%2C+which+goes+on+for+a+while&t=%E2%80%AEspoofed",
    "runs": "/runs",
    "run": "/runs/2",
    "promote": "/runs/1/promote",
    "compare": "/runs/compare?a=2:base&b=2",
    "syncs": "/syncs",
}

OVERLAPS = """() => {
    const boxes = [...document.querySelectorAll("main a, main button, main input:not([type=hidden]), main select, main textarea, main summary")]
        .filter((element) => element.checkVisibility() && !element.closest("svg") && !element.closest(".hidden"))
        .map((element) => [element, element.getBoundingClientRect()])
        .filter(([, box]) => box.width > 1 && box.height > 1);
    const found = [];
    boxes.forEach(([one, a], at) => boxes.slice(at + 1).forEach(([other, b]) => {
        if (one.contains(other) || other.contains(one)) return;
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 2 && high > 2) found.push(`${one.outerHTML.slice(0, 90)} | ${other.outerHTML.slice(0, 90)}`);
    }));
    return found;
}"""


def paths(page: Page) -> dict[str, str]:
    video = first_video(page)
    other = str(page.locator(".card h3 a").nth(5).get_attribute("href")).removeprefix("/video/")
    return {name: path.format(video=video, other=other) for name, path in PAGES.items()}


def test_every_page_passes_the_accessibility_rules(open_page: Open) -> None:
    page = open_page("/", reduced_motion="reduce")  # no fading of colours when the scheme changes
    found: list[str] = []
    for name, path in paths(page).items():
        go(page, path)
        found += violations(page, name)
    assert found == [], "\n".join(found)


def violations(page: Page, name: str) -> list[str]:
    """The violations that axe finds on the page, in light and dark, which differ in colours only."""
    found: list[str] = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        rules = {"runOnly": {"type": "rule", "values": RULES_OF_COLOUR}} if scheme == "dark" else None
        for violation in Axe().run(page, options=rules).response["violations"]:
            nodes = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
            found.append(f"{name} {scheme} {violation['id']}: {violation['help']}: {nodes}")
    return found


def test_login_and_error_pages_are_accessible_and_fit(browser: Browser, tmp_path: Path) -> None:
    """The pages for a missing token, store, video or run."""
    token = tmp_path / "token"
    token.write_text("open sesame, please")
    token.chmod(0o600)
    found: list[str] = []

    def check(page: Page, name: str) -> None:
        found.extend(violations(page, name))
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found.append(f"{name} is too wide at {width}")
            found.extend(f"{name} at {width}: {overlap}" for overlap in page.evaluate(OVERLAPS))

    with serving(f"sqlite:///{tmp_path / 'new.db'}", "--token-file", str(token)) as address:
        page = browser.new_context(base_url=address, reduced_motion="reduce").new_page()
        page.goto("/runs")
        check(page, "login")
        page.get_by_label("Token").fill("open barley")
        page.keyboard.press("Enter")
        page.get_by_role("alert").wait_for()
        check(page, "wrong token")
        page.get_by_label("Token").fill("open sesame, please")
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs")
        for path in (
            "/",
            "/match",
            "/runs",
            "/syncs",
            "/video/dQw4w9WgXcQ",
            "/runs/7",
            "/nowhere",
            "/?q=" + "wide" * 99,
        ):
            page.goto(path)
            check(page, path)
        page.context.close()
    assert found == [], "\n".join(found)


def test_every_page_fits_every_viewport(open_page: Open, store: str) -> None:
    """Each page is loaded once, because only its style sheet depends on the width."""
    kind = "real" if "/real" in store else "drawn"
    found: list[str] = []
    page = open_page("/", reduced_motion="reduce")  # no fading of colours when the scheme changes
    for name, path in paths(page).items():
        go(page, path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_load_state("networkidle")
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found.append(f"{name} is {wide} wide at {width}")
            found += [f"{name} at {width}: {overlap}" for overlap in page.evaluate(OVERLAPS)]
            for scheme in SCHEMES if SHOTS else ():
                page.emulate_media(color_scheme=scheme)
                page.screenshot(
                    path=Path(SHOTS) / f"{kind}-{name}-{width}-{scheme}.png", full_page=name in ("match", "video")
                )
    assert found == []
