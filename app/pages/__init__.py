"""The pages that people see. A page and its API call share one query; a page adds its template."""

from app.pages.routes import router

__all__ = ["router"]
