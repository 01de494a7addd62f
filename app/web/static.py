"""Static files: scripts, styles and images, all served locally, since the network may be closed."""

import gzip
import importlib.metadata
from functools import lru_cache
from importlib import resources

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

from app.core.resources import folder

PLOTLY_URL = f"/static/vendor/plotly.min.js?v={importlib.metadata.version('plotly')}"
"""URL of Plotly. It contains the version, so the response is cached as immutable."""

router = APIRouter(include_in_schema=False)


class RevalidatedFiles(StaticFiles):
    """Files that a browser caches but revalidates (by ETag) before each use."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


def static_files() -> RevalidatedFiles:
    return RevalidatedFiles(directory=folder("static"))


@router.get("/static/vendor/plotly.min.js")
def plotly(request: Request) -> Response:
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(_plotly_gzipped(), headers=headers, media_type="text/javascript")
    return Response(_plotly(), headers=headers, media_type="text/javascript")


def _plotly() -> bytes:
    return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()


@lru_cache
def _plotly_gzipped() -> bytes:
    """Compressed once per process: five megabytes take longer than the rest of a page."""
    return gzip.compress(_plotly(), 6)
