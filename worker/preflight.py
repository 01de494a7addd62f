"""Pre-flight runs: looks at the pairs that the store has no record of yet."""

from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import leases
from app.store.offsets import training_offsets
from app.store.preflight import PreflightPair
from chesboard.configs import PreflightConfig
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.preflight.run import preflight_pairs
from chesboard.reporting import Control, Reporter
from worker.retry import run_with_retry


def preflight(
    claim: leases.Claim,
    config: PreflightConfig,
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    reporter: Reporter,
    control: Control,
) -> dict[str, Any]:
    """Look at the pairs of a run and return its summary. See `preflight_pairs` for what it
    raises."""
    already = run_with_retry(f"run {claim.run_id}", partial(_stored_changes, claim.run_id))
    offsets, unscored = run_with_retry(
        f"run {claim.run_id}",
        lambda session: training_offsets(
            session, claim.dataset_id, config, [pair.pair for pair in pairs]
        ),
    )
    if unscored:
        reporter.message(unscored)
    return preflight_pairs(loaded, pairs, config, reporter, control, already, offsets)


def _stored_changes(run_id: int, session: Session) -> dict[int, float]:
    """pair → its change of log p(y+), of the pairs that an earlier attempt at the run finished."""
    columns = PreflightPair.pair, PreflightPair.preferred_change
    rows = session.execute(select(*columns).where(PreflightPair.run_id == run_id))
    return {row.pair: row.preferred_change for row in rows}
