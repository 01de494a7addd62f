"""The web application: which routes there are, and what every request passes through."""

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from app import apidocs, errors, health, live, security, static
from app.datasets import routes as datasets
from app.models import routes as models
from app.pages import routes as pages
from app.probes import routes as probes
from app.reviews import routes as reviews
from app.runs import routes as runs
from app.runs.sweeper import Sweeper
from app.scores import routes as scores
from app.settings import get_settings

API = "/api/v1"


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    sweeper = Sweeper()
    sweeper.start()
    yield
    sweeper.stop()


def create_app() -> FastAPI:
    """The application, with the process's settings."""
    settings = get_settings()
    app = FastAPI(
        title="Chesboard",
        lifespan=_lifespan,
        version=importlib.metadata.version("chesboard"),
        openapi_url=f"{API}/openapi.json",
        # The framework's own pages load scripts from elsewhere; app/apidocs.py does not.
        docs_url=None,
        redoc_url=None,
    )
    app.state.templates = pages.templates
    # The last added is the outermost: what is refused is refused before anything is read.
    errors.install(app)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(security.BodyLimit, settings=settings)
    app.add_middleware(security.Guard, settings=settings)
    for noun in (datasets, models, runs, scores, probes, reviews, live):
        app.include_router(noun.router, prefix=API)
    for frame in (pages, health, security, apidocs, static):
        app.include_router(frame.router)
    app.mount("/static", static.static_files(), name="static")
    return app
