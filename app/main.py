"""The web application: its routes, and the middleware that every request passes through."""

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from app.audit import routes as audit
from app.audit.recording import AuditTrail
from app.auth import login
from app.auth.authentication import Authenticator
from app.core import logging as logs
from app.core.settings import get_settings
from app.datasets import routes as datasets
from app.displacement import routes as displacement
from app.models import routes as models
from app.ops import health, status
from app.ops import prometheus as metrics
from app.pages import routes as pages
from app.probes import routes as probes
from app.reviews import routes as reviews
from app.runs import routes as runs
from app.runs.sweeper import Sweeper
from app.scores import routes as scores
from app.streaming import routes as streaming
from app.web import docs_page, openapi, problems, static
from app.web.body_limit import BodyLimit
from app.web.guard import Guard
from app.web.headers import SecurityHeaders
from app.web.request_context import RequestContext
from app.web.response_cache import ResponseCache

API = "/api/v1"


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    sweeper = Sweeper()
    sweeper.start()
    yield
    sweeper.stop()


def serve() -> FastAPI:
    """The application of a server process, with the process's logging configured."""
    logs.configure(get_settings(), "web")
    return create_app()


def create_app() -> FastAPI:
    """The application, configured by the process's settings."""
    settings = get_settings()
    app = FastAPI(
        title="Chesboard",
        lifespan=_lifespan,
        version=importlib.metadata.version("chesboard"),
        openapi_url=f"{API}/openapi.json",
        # FastAPI's own pages load scripts from a CDN; app/web/docs_page.py does not.
        docs_url=None,
        redoc_url=None,
    )
    app.state.templates = pages.templates
    app.state.authenticator = Authenticator(settings)
    app.state.registry = metrics.make_registry()
    # The last one added is the outermost: a request is refused before its body is read.
    problems.install(app)
    app.add_middleware(AuditTrail)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(ResponseCache)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Guard, settings=settings, authenticator=app.state.authenticator)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestContext)
    app.add_middleware(metrics.Requests, registry=app.state.registry)
    for room in (
        datasets,
        models,
        runs,
        scores,
        probes,
        displacement,
        reviews,
        streaming,
        audit,
        status,
    ):
        app.include_router(room.router, prefix=API)
    for page in (pages, health, metrics, login, docs_page, static):
        app.include_router(page.router)
    openapi.install(app)
    app.mount("/static", static.static_files(), name="static")
    return app
