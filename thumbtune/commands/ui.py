"""`thumbtune ui`: serve the page on the store."""

from __future__ import annotations

import asyncio
import os
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from collector.errors import BadSetting
from thumbtune.cli import App
from thumbtune.stopping import run_until_stopped

if TYPE_CHECKING:
    from collector.http import Listen
    from thumbtune.ui.settings import PageSettings

__all__ = ["LISTEN", "page_settings", "run_page", "ui"]

LISTEN = "127.0.0.1:8460"
PATIENCE_S = 5.0
"""Seconds that open requests may take after a signal."""
SHORTEST_TOKEN = 16
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


@click.command()
@click.option(
    "--listen",
    default=LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    help="Where to serve the page; port 0 takes a free port.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Answer requests for this name too, as behind a proxy (repeatable).",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Ask visitors for the token in FILE; required for an address that other machines can reach.",
)
@click.option(
    "--read-only", is_flag=True, help="Do not change the store: promotions are refused, and no vectors are cached."
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.pass_obj
def ui(
    app: App, listen: str, allowed_hosts: tuple[str, ...], token_file: Path | None, read_only: bool, no_browser: bool
) -> int:
    """Serve a web page to look at the store, search it, match titles, compare runs and promote one.

    Only this machine can reach the page, unless --listen names another address; docs/ui.md explains how to serve it to
    others. Ctrl-C ends it.
    """
    return run_page(app, page_settings(app, listen, allowed_hosts, token_file, read_only=read_only), not no_browser)


def page_settings(
    app: App,
    listen: str,
    allowed_hosts: Sequence[str] = (),
    token_file: Path | None = None,
    *,
    read_only: bool = False,
) -> PageSettings:
    """Return the page's settings from the options.

    Raises:
        BadSetting: the address or an allowed name is invalid.
        CantServe: the token file can't be read, or its token is too short.
    """
    from collector.http import parse_listen  # noqa: PLC0415 (aiohttp is slow to import)
    from thumbtune.ui.settings import PageSettings  # noqa: PLC0415

    token = None if token_file is None else _token(token_file)
    names = frozenset(_allowed(name.strip()) for name in allowed_hosts if name.strip())
    return PageSettings(app.db_url, parse_listen(listen), names, token, read_only)


def _allowed(name: str) -> str:
    """Return a name of `--allow-host` as it is compared with requests; IPv6 addresses with or without brackets."""
    from thumbtune.ui.settings import host_name  # noqa: PLC0415

    found = host_name(name.rstrip(".")) or host_name(f"[{name}]")
    if found is None:
        raise BadSetting(f"--allow-host {name!r} is not a host name; write only the name, such as thumbs.example.org")
    return found


def _token(file: Path) -> str:
    from thumbtune.ui.settings import CantServe  # noqa: PLC0415

    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CantServe(f"--token-file {file} can't be read ({reason}); name a text file") from error
    if len(token) < SHORTEST_TOKEN:
        raise CantServe(
            f"the token in {file} has fewer than {SHORTEST_TOKEN} characters; "
            "make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def run_page(app: App, settings: PageSettings, browser: bool) -> int:
    """Serve the page until a signal; print its address.

    Raises:
        CantListen: the address is not available.
        CantServe: other machines can reach the address, and there is no token.
    """
    from thumbtune.ui.server import serve_page  # noqa: PLC0415 (aiohttp and Jinja are slow to import)

    async def serve(stop: asyncio.Event) -> None:
        async with serve_page(settings) as address:
            app.console.say(f"the page: http://{address}/ (Ctrl-C ends it)")
            app.console.out.flush()
            if browser:
                await asyncio.to_thread(_open_browser, address)
            await stop.wait()

    run_until_stopped(serve, patience_s=PATIENCE_S)
    return 0


def _open_browser(address: Listen) -> None:
    """Open the page on a desktop. Elsewhere, Python might start a browser in the terminal."""
    if os.name != "posix" or os.uname().sysname == "Darwin" or any(os.environ.get(name) for name in DISPLAYS):
        webbrowser.open(f"http://{address}/")
