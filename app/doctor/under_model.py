"""What the runs of a dataset found under a model, for the data doctor."""

from sqlalchemy.orm import Session

from app.doctor.schemas import UnderModel
from app.findings.queries import newest_findings


def under_model(session: Session, dataset_id: int, model: str) -> UnderModel:
    """The findings of the newest run that looked at all pairs of the dataset under the model."""
    return UnderModel(model=model, checked=newest_findings(session, dataset_id, model))
