"""The distribution of each measure over a run's pairs, as pages show it."""

from sqlalchemy.orm import Session

from app.scores import schemas
from app.scores.queries import require_scores
from app.store.score_summaries import summarize_scores


def summarize(session: Session, run_id: int) -> schemas.ScoreSummary:
    """Statistics and a histogram of every measure, over its finite values.

    Raises:
        NotFoundError: no such run, or it is a training run.
    """
    found = summarize_scores(session, require_scores(session, run_id))
    return schemas.ScoreSummary(run_id=run_id, total=found.total, measures=found.measures)
