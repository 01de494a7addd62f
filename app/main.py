"""The web application: its routes, and the middleware that every request passes through."""

import importlib.metadata
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.gzip import GZipMiddleware

from app.alarms import routes as alarms
from app.alarms.checking import check_all
from app.alarms.webhooks import Messenger
from app.audit import routes as audit
from app.audit.recording import AuditTrail
from app.auth import login
from app.auth import routes as recorder_tokens
from app.auth.authentication import Authenticator
from app.core import logging as logs
from app.core.settings import get_settings
from app.core.slots import Slots
from app.datasets import routes as datasets
from app.displacement import routes as displacement
from app.doctor import routes as doctor
from app.filtering import routes as filtering
from app.findings import routes as findings
from app.forecast import routes as forecast
from app.generations import routes as generations
from app.judgments import routes as judgments
from app.models import routes as models
from app.ops import health, status
from app.ops import prometheus as metrics
from app.pages import routes as pages
from app.pages.templating import templates
from app.preflight import routes as preflight
from app.probes import routes as probes
from app.reviews import routes as reviews
from app.runs import routes as runs
from app.runs.external.access import check_recorder
from app.runs.sweeper import Sweeper
from app.scores import routes as scores
from app.streaming import routes as streaming
from app.studies import routes as studies
from app.studies.engine import advance_all
from app.web import docs_page, openapi, problems, static
from app.web.body_limit import BodyLimit
from app.web.guard import Guard
from app.web.headers import SecurityHeaders
from app.web.pieces import Pieces
from app.web.request_context import RequestContext
from app.web.response_cache import ResponseCache

API = "/api/v1"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    sweeper, messenger = Sweeper(after=_after_sweep), Messenger()
    sweeper.start()
    messenger.start()
    # Routes that are shared by applications do not bring their router's lifespan along.
    async with _rooms().lifespan_context(app):
        yield
    sweeper.stop()
    messenger.stop()


def _after_sweep() -> None:
    advance_all()
    check_all()


@cache
def _rooms() -> APIRouter:
    """The routes and lifespans of every room, the same for each application of a process.

    FastAPI derives parameters and models of an included router once per inclusion, at its first
    request. Shared, that is once per process, which the tests, with an application each, live on.
    """
    router = APIRouter()
    for room in (
        datasets,
        doctor,
        models,
        runs,
        scores,
        probes,
        displacement,
        forecast,
        findings,
        preflight,
        filtering,
        generations,
        judgments,
        reviews,
        studies,
        streaming,
        audit,
        recorder_tokens,
        alarms,
        status,
    ):
        router.include_router(room.router, prefix=API, dependencies=[Depends(check_recorder)])
    for page in (pages, health, metrics, login, docs_page, static):
        router.include_router(page.router)
    return router


SWITCH_SECONDS = 0.0005
"""A request goes through several threads, and waits for its turn each time while others compute,
such as those that make exports. With Python's 5 ms these waits were most of what it took."""


def serve() -> FastAPI:
    """The application of a server process, with the process's logging configured."""
    logs.configure(get_settings(), "web")
    sys.setswitchinterval(SWITCH_SECONDS)
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
    app.state.templates = templates
    app.state.authenticator = Authenticator(settings)
    app.state.registry = metrics.make_registry()
    app.state.downloads = Slots(settings.max_downloads, "downloads")
    app.state.streams = Slots(settings.max_streams, "live pages")
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
    app.add_middleware(Pieces)
    app.router.routes.extend(_rooms().routes)
    openapi.install(app)
    app.mount("/static", static.static_files(), name="static")
    return app
