"""The templates of the pages, and what all of them are handed."""

from dataclasses import asdict
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from app.auth.authentication import page_context
from app.core.resources import folder
from app.pages import filters, labels
from app.pages.selection import KEPT_SHARES, MeasureRow
from app.web.static import PLOTLY_URL
from chesboard.hub.errors import page_address
from chesboard.measures.registry import MEASURES

templates = Jinja2Templates(folder("templates"), context_processors=[page_context])
templates.env.filters.update(filters.FILTERS)
templates.env.globals.update(
    KINDS=labels.KINDS,
    FORMATS=labels.FORMATS,
    ISSUES=labels.ISSUES,
    REASONS=labels.REASONS,
    PLOTLY_URL=PLOTLY_URL,
    hub_page=page_address,
    KEPT_SHARES=KEPT_SHARES,
    NEW_RULE=MeasureRow(),
    measures=[asdict(measure) for measure in MEASURES],
)


def render(request: Request, name: str, **context: Any) -> HTMLResponse:
    # no-store: the back button reloads the page, whose content may have changed.
    return templates.TemplateResponse(request, name, context, headers={"Cache-Control": "no-store"})
