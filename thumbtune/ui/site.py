"""Objects that all views share: the store, the model, uploads, templates, and error pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from store.errors import NotAStore, NotFound, StoreError, StoreTooNew, StoreTooOld
from store.wording import counted
from thumbtune.ui.model_process import ModelError, ModelProcess, Progressed
from thumbtune.ui.settings import PageSettings
from thumbtune.ui.showing import base_name, command_in, moment, number, plain_title, secrets_hidden, video_link
from thumbtune.ui.store_access import StoreAccess
from thumbtune.ui.uploads import Uploads
from thumbtune.ui.waiting import Questions

__all__ = ["SITE", "Modelled", "Site", "show_errors"]

HERE = Path(__file__).parent
RELOAD_S = 1
"""The number of seconds after which a page that waits for the model reloads."""


@dataclass(frozen=True)
class Modelled:
    """The outcome of a question to the model; exactly one field is set.

    Args:
        answer: the answer.
        progress: what the model is doing; the page reloads itself.
        problem: why there is no answer, and what to do.
    """

    answer: dict[str, Any] | None = None
    progress: Progressed | None = None
    problem: str | None = None


@dataclass
class Site:
    """The state of one running page."""

    settings: PageSettings
    store: StoreAccess
    model: ModelProcess
    questions: Questions
    uploads: Uploads
    templates: Environment = field(default_factory=lambda: _templates())  # noqa: PLW0108 (defined below)

    @classmethod
    def of(cls, settings: PageSettings) -> Site:
        """Create the parts; nothing is opened or started yet."""
        model = ModelProcess(settings)
        return cls(settings, StoreAccess(settings.db_url), model, Questions(model), Uploads())

    def page(
        self, request: web.Request, template: str, *, status: int = 200, reload: bool = False, **values: Any
    ) -> web.Response:
        """Render a page; with `reload` the browser requests it again after a second, even without scripts."""
        text = self.templates.get_template(template).render(
            path=request.path, read_only=self.settings.read_only, reload=reload, **values
        )
        headers = {"Refresh": str(RELOAD_S)} if reload and request.method == "GET" else {}
        return web.Response(text=text, content_type="text/html", status=status, headers=headers)

    async def ask(self, question: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> Modelled:
        """Ask the model; errors become text for the page."""
        try:
            found = await self.questions.ask(question, blobs)
        except ModelError as error:
            return Modelled(problem=self.hidden(str(error)))
        return Modelled(progress=found) if isinstance(found, Progressed) else Modelled(found)

    def hidden(self, text: str) -> str:
        """Return a message without paths, store URLs and keys."""
        folder = self.store.folder
        return secrets_hidden(text, [] if folder is None else [folder])

    async def close(self) -> None:
        """End the model's process and close the store."""
        await self.questions.close()
        await self.model.stop()
        self.store.close()


SITE: web.AppKey[Site] = web.AppKey("site", Site)


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        plain=plain_title,
        moment=moment,
        number=number,
        counted=counted,
        base_name=base_name,
        hidden=secrets_hidden,
        youtube=video_link,
        command_in=command_in,
    )
    return environment


_REMEDIES: tuple[tuple[type[StoreError], str, str], ...] = (
    (StoreTooNew, "The store is newer than this thumbtune", "pip install --upgrade thumbtune"),
    (StoreTooOld, "The store must be upgraded first", "thumbtune db upgrade"),
    (NotAStore, "This store can't be read", "thumbtune db check"),
)
_NO_STORE = ("There is no store yet", "thumbtune sync @yourchannel")
_LOCKED = ("The store can't be read now", "thumbtune db check")


@web.middleware
async def show_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show an error as a page that says what to do, without a traceback."""
    site = request.app[SITE]
    try:
        return await handler(request)
    except NotFound as error:
        title, command, status, text = "Not found", "", 404, str(error)
    except StoreError as error:
        site.store.forget()
        status, text = 503, str(error)
        title, command = next(
            ((title, command) for kind, title, command in _REMEDIES if isinstance(error, kind)),
            _NO_STORE if "there is no store" in text else _LOCKED,
        )
    except web.HTTPNotFound:
        title, command, status, text = "Not found", "", 404, "there is no such page; start from the library"
    except web.HTTPException as error:
        if error.status < 400 or not error.text:
            raise
        title, command, status, text = "This can't be done", "", error.status, error.text.strip()
    except asyncio.CancelledError:
        raise
    except Exception:
        request.app.logger.exception("%s %s failed", request.method, request.path)
        title, command, status = "Something went wrong", "", 500
        text = "this is a bug; please report it with the details in the log"
    return site.page(
        request, "problem.html", status=status, title=title, text=site.hidden(text), command=command, active=""
    )
