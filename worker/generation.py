"""Generation runs: generates the answers that the store does not have yet."""

from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import leases
from app.store.generations import Generation
from chesboard.configs import GenerateConfig
from chesboard.generation.run import Answered, generate_answers
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.reporting import Control, Reporter
from worker.retry import run_with_retry


def generate(
    claim: leases.Claim,
    config: GenerateConfig,
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    reporter: Reporter,
    control: Control,
) -> dict[str, Any]:
    """Answer the prompts of a run and return its summary. See `generate_answers` for what it
    raises."""
    already = run_with_retry(f"run {claim.run_id}", partial(_stored_answers, claim.run_id))
    return generate_answers(loaded, pairs, config, reporter, control, already)


def _stored_answers(run_id: int, session: Session) -> dict[tuple[int, int], Answered]:
    """(pair, sample) → the answer, of those that an earlier attempt at the run finished."""
    table = Generation
    rows = session.execute(
        select(table.pair, table.sample, table.tokens, table.ended, table.logprob).where(
            table.run_id == run_id
        )
    )
    return {(row.pair, row.sample): Answered(*row[2:]) for row in rows}
