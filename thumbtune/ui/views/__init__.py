"""The pages, one file each: the queries of a page and the values for its template."""

from aiohttp import web

from thumbtune.ui.views import compare, library, login, match, pictures, run, runs, static, syncs, video

__all__ = ["add_routes"]


def add_routes(application: web.Application) -> None:
    """Add every page to an application."""
    get, post = application.router.add_get, application.router.add_post
    get("/", library.show)
    post("/search", library.upload)
    get("/video/{id}", video.show)
    get("/match", match.show)
    post("/match", match.rank)
    get("/runs", runs.show)
    get("/runs/compare", compare.show)
    get(r"/runs/{id:\d{1,18}}", run.show)
    get(r"/runs/{id:\d{1,18}}/promote", run.ask_to_promote)
    post(r"/runs/{id:\d{1,18}}/promote", run.promote)
    get("/syncs", syncs.show)
    get("/picture/{sha256}", pictures.stored)
    get("/upload/{name}", pictures.uploaded)
    get("/static/{name}", static.show)
    get("/login", login.show)
    post("/login", login.log_in)
