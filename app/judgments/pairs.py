"""Datasets from judged answers: preference pairs, stored on the way that uploads take."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast, get_args

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from app.core.errors import ConflictError
from app.core.paging import EXPORT_ROWS
from app.core.settings import get_settings
from app.datasets.storing import store_dataset
from app.judgments.queries import require_judge
from app.judgments.schemas import PairsMade, PairsRequest
from app.store.generations import Generation
from app.store.judgments import Judgment
from app.store.runs import Run
from app.store.selection import read_pairs
from chesboard.configs import JudgeConfig
from chesboard.judging.pairing import AnswerPair, Judged, PairKind, Unpaired, pair_answers
from chesboard.pairs import Prompt

IN_MEMORY_BYTES = 8 << 20
"""Size of the file up to which it is held in memory."""
COLUMNS = {"prompt": "prompt", "preferred": "chosen", "dispreferred": "rejected"}

_REASONS = {
    "single": "{} prompts have a single answer (sample at least two of each)",
    "unjudged": "{} have fewer than two judged answers (scores alone need ties: score)",
    "same_text": "{} have the same answer twice",
    "tied": "{} have equal scores or none",
    "skipped": "{} have answers with the same verdict",
}


def make_pairs(session: Session, run_id: int, wanted: PairsRequest) -> PairsMade:
    """Store a dataset of one pair a prompt from the answers that a finished run judged.

    Everything happens in the caller's transaction: if anything fails, nothing is stored.

    Raises:
        NotFoundError: no such run, or it is no judge.
        ConflictError: the run has not succeeded, or no two answers make a pair.
        TooLargeError: the dataset would be larger than an upload may be.
    """
    run, config = require_judge(session, run_id)
    if run.status != "succeeded":
        raise ConflictError(
            f"Run {run_id} is {run.status}; pairs are made when all answers are judged."
        )
    kinds: Counter[PairKind] = Counter()
    left_out: Counter[Unpaired] = Counter()
    with SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
        for pair, prompt, answers in _prompts(session, run, config):
            made = pair_answers(
                pair, answers, ties=wanted.ties, prefer=wanted.prefer, seed=wanted.seed
            )
            if isinstance(made, AnswerPair):
                kinds[made.kind] += 1
                file.write(_line(run_id, config, pair, prompt, made))
            else:
                left_out[made] += 1
        if not kinds:
            raise ConflictError(f"No two answers make a pair: {_why(left_out)}.")
        file.seek(0)
        dataset = store_dataset(
            session,
            cast(BinaryIO, file),
            f"judged-run-{run_id}.jsonl",
            max_bytes=get_settings().max_upload_bytes,
            name=wanted.name or f"Pairs of {run.name}"[:200],
            mapping=json.dumps(COLUMNS),
        )
    return PairsMade(
        dataset_id=dataset.id,
        name=dataset.name,
        pairs=dataset.pairs,
        rejected=dataset.rejected,
        prompts=kinds.total() + left_out.total(),
        **{kind: kinds[kind] for kind in get_args(PairKind)},
        left_out=dict(left_out),
    )


def _prompts(
    session: Session, run: Run, config: JudgeConfig
) -> Iterator[tuple[int, Prompt, list[Judged]]]:
    """Each answered prompt with its judged answers, by pair."""
    rows = session.execute(
        select(
            *(Judgment.pair, Judgment.sample, Judgment.verdict, Judgment.score),
            Generation.text,
        )
        .join(
            Generation,
            and_(
                Generation.run_id == config.generate_run,
                Generation.pair == Judgment.pair,
                Generation.sample == Judgment.sample,
            ),
        )
        .where(Judgment.run_id == run.id)
        .order_by(Judgment.pair, Judgment.sample)
        .execution_options(yield_per=EXPORT_ROWS)
    )
    prompts = _all_prompts(session, run, config)
    for pair, group in groupby(rows, key=lambda row: row.pair):
        answers = [Judged(row.sample, row.text, row.verdict, row.score) for row in group]
        yield pair, prompts[pair], answers


def _all_prompts(session: Session, run: Run, config: JudgeConfig) -> dict[int, Prompt]:
    answered = session.scalars(
        select(Generation.pair).where(Generation.run_id == config.generate_run).distinct()
    ).all()
    texts = read_pairs(session, config.generate_run, run.dataset_id, answered)
    return {one.pair: one.prompt for one in texts}


def _line(run_id: int, config: JudgeConfig, pair: int, prompt: Prompt, made: AnswerPair) -> bytes:
    """A row of the dataset: texts, and which answers they are."""
    row: dict[str, Any] = {
        COLUMNS["prompt"]: prompt,
        COLUMNS["preferred"]: made.preferred.text,
        COLUMNS["dispreferred"]: made.dispreferred.text,
        "judge_run": run_id,
        "generate_run": config.generate_run,
        "answered_pair": pair,
        "kind": made.kind,
        "chosen_sample": made.preferred.sample,
        "rejected_sample": made.dispreferred.sample,
        "chosen_judged": made.preferred.verdict,
        "rejected_judged": made.dispreferred.verdict,
        "chosen_judge_score": made.preferred.score,
        "rejected_judge_score": made.dispreferred.score,
    }
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _why(left_out: Counter[Unpaired]) -> str:
    return ", ".join(_REASONS[reason].format(count) for reason, count in left_out.items())
