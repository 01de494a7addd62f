"""The API of models."""

from fastapi import APIRouter

from app.core.database import SessionDep
from app.models import queries
from app.models.schemas import ModelList

router = APIRouter(tags=["models"])


@router.get("/models")
def list_models(session: SessionDep) -> ModelList:
    """The models that a run's config.model can name."""
    items = queries.list_models(session)
    return ModelList(total=len(items), items=items)
