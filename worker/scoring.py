"""Score and evaluate runs: measures the pairs that the store has no scores of yet."""

from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import leases
from app.store.scores import Score
from chesboard.configs import ModelConfig
from chesboard.measures.registry import MEASURE_NAMES
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.reporting import Control, Reporter
from chesboard.scoring import score_pairs
from worker.retry import run_with_retry


def score(
    claim: leases.Claim,
    config: ModelConfig,
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    reporter: Reporter,
    control: Control,
) -> dict[str, Any]:
    """Score the pairs of a run and return its summary. See `score_pairs` for what it raises."""
    already = run_with_retry(f"run {claim.run_id}", partial(_stored_scores, claim.run_id))
    return score_pairs(
        loaded, pairs, config, reporter, control, already, measures=claim.kind == "score"
    )


def _stored_scores(run_id: int, session: Session) -> dict[int, dict[str, float | None]]:
    """pair → its measures, of the pairs that an earlier attempt at the run scored."""
    columns = [getattr(Score, name) for name in MEASURE_NAMES]
    rows = session.execute(select(Score.pair, *columns).where(Score.run_id == run_id))
    return {row.pair: dict(zip(MEASURE_NAMES, row[1:], strict=True)) for row in rows}
