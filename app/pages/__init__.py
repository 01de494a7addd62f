"""The HTML pages: a page uses the queries of the API and adds its template."""

from app.pages.routes import router

__all__ = ["router"]
