"""What forms offer to choose from."""

from typing import Any

from sqlalchemy.orm import Session

from app.core.paging import PAGE_SIZE
from app.core.settings import get_settings
from app.models.folder import within_time
from app.runs import queries as runs
from app.runs.schemas import RunPage
from chesboard.judging.classifier_files import REWARD_LABELS, ClassifierFiles, list_classifiers


def named(page: RunPage) -> list[dict[str, Any]]:
    return [{"id": run.id, "name": run.name} for run in page.items]


def finished_score_runs(session: Session, dataset_id: int | None = None) -> RunPage:
    """The newest finished ones, of a dataset or of all."""
    return runs.list_runs(
        session, kind="score", status="succeeded", dataset_id=dataset_id, limit=PAGE_SIZE
    )


def reward_models() -> list[ClassifierFiles]:
    found = within_time(lambda: list_classifiers(get_settings().models_path))
    return [one for one in found if len(one.labels) <= REWARD_LABELS]
