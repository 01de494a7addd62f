"""The addresses of the pages."""

from fastapi import APIRouter

from app.pages import datasets, new_run, runs, site, studies

router = APIRouter()
for area in (site, datasets, new_run, runs, studies):
    router.include_router(area.router)
