"""The API of models."""

from fastapi import APIRouter

from app.models import queries
from app.models.schemas import ModelList
from app.web.session import SessionDep

router = APIRouter(tags=["models"])


@router.get("/models")
def list_models(session: SessionDep) -> ModelList:
    """The models that a run's config.model can name."""
    items = queries.list_models(session)
    return ModelList(total=len(items), items=items)
