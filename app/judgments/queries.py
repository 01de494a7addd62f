"""Reading judgments: pages and downloads, the rate with its interval, and agreement of judges."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NoReturn

from sqlalchemy import Row, Select, and_, func, select
from sqlalchemy.orm import Session, aliased

from app.core.database import transaction
from app.core.errors import InvalidInputError, NotFoundError
from app.core.exports import RowFormat, export_rows
from app.core.nonfinite import finite_or_none
from app.core.paging import EXPORT_ROWS
from app.core.text import clip_prompt
from app.judgments.schemas import (
    AgreementList,
    AgreementOut,
    JudgeRun,
    JudgmentOut,
    JudgmentPage,
    JudgmentRow,
    JudgmentSummary,
    PairCounts,
    VerdictName,
)
from app.store.answers import matching
from app.store.generations import Generation
from app.store.judgments import Judgment
from app.store.lookup import require_run
from app.store.runs import Run
from app.store.selection import read_pairs
from chesboard.configs import JudgeConfig
from chesboard.judging.agreement import agreement
from chesboard.judging.intervals import wilson_interval

SHOWN_CHARACTERS = 2000
SHOWN_TURNS = 12
"""Bounds of a prompt in a list."""
_VERDICTS: dict[VerdictName, bool | None] = {"positive": True, "negative": False, "none": None}
MAX_COMPARED = 10


def require_judge(session: Session, run_id: int) -> tuple[Run, JudgeConfig]:
    """Raises:
    NotFoundError: no such run, or it is no judge.
    """
    run = require_run(session, run_id)
    if run.kind != "judge":
        raise NotFoundError(f"Run {run_id} judged no answers.")
    return run, JudgeConfig.model_validate(run.config)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which judged answers: with this verdict, with a text in them (in any case), of one pair,
    judged the opposite way by another judge."""

    verdict: VerdictName | None = None
    search: str | None = None
    pair: int | None = None
    differs_from: int | None = None


def list_judgments(
    session: Session, run_id: int, wanted: Filter, *, offset: int = 0, limit: int
) -> JudgmentPage:
    """A page of judged answers with their prompts, by pair and sample.

    Raises:
        NotFoundError: no such run, or it is no judge.
        InvalidInputError: `differs_from` is no judge, or judged other answers.
    """
    run, config = require_judge(session, run_id)
    check_filter(session, run_id, wanted)
    query = _judgments(run_id, config, wanted)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    rows = session.execute(query.order_by(*_ORDER).offset(offset).limit(limit)).all()
    pairs = {row.pair for row in rows}
    prompts = {
        one.pair: clip_prompt(one.prompt, SHOWN_CHARACTERS, SHOWN_TURNS)
        for one in read_pairs(session, config.generate_run, run.dataset_id, pairs)
    }
    items = [JudgmentOut(**_row(row).model_dump(), prompt=prompts[row.pair]) for row in rows]
    return JudgmentPage(total=total, items=items)


def check_filter(session: Session, run_id: int, wanted: Filter) -> None:
    """Raises:
    InvalidInputError: `differs_from` is no judge, or judged other answers.
    """
    if wanted.differs_from is not None:
        _require_same_answers(session, [run_id, wanted.differs_from], "differs_from")


_ORDER = (Judgment.pair, Judgment.sample)


def _judgments(run_id: int, config: JudgeConfig, wanted: Filter) -> Select[*tuple[Any, ...]]:
    query = (
        select(
            *(Judgment.pair, Judgment.sample, Judgment.verdict, Judgment.score, Judgment.reason),
            *(Generation.text.label("answer"), Generation.ended),
        )
        .join(
            Generation,
            and_(
                Generation.pair == Judgment.pair,
                Generation.sample == Judgment.sample,
            ),
        )
        .where(
            Judgment.run_id == run_id,
            *matching(Generation, config.generate_run, search=wanted.search, pair=wanted.pair),
        )
    )
    if wanted.verdict is not None:
        query = query.where(Judgment.verdict.is_(_VERDICTS[wanted.verdict]))
    return query if wanted.differs_from is None else _differing(query, wanted.differs_from)


def _differing(query: Select[*tuple[Any, ...]], other: int) -> Select[*tuple[Any, ...]]:
    """Only answers on which another judge gave the opposite verdict."""
    theirs = aliased(Judgment)
    same = and_(
        theirs.run_id == other, theirs.pair == Judgment.pair, theirs.sample == Judgment.sample
    )
    return query.join(theirs, same).where(theirs.verdict != Judgment.verdict)


def _row(row: Row[Any]) -> JudgmentRow:
    return JudgmentRow(**{**row._asdict(), "score": finite_or_none(row.score)})


def export_judgments(
    run_id: int, config: JudgeConfig, wanted: Filter, format: RowFormat
) -> Iterator[str]:
    """All judged answers that match, one a line.

    Opens its own transaction.
    """
    return export_rows(list(JudgmentRow.model_fields), _exported(run_id, config, wanted), format)


def _exported(run_id: int, config: JudgeConfig, wanted: Filter) -> Iterator[list[dict[str, Any]]]:
    with transaction() as session:
        query = _judgments(run_id, config, wanted).order_by(*_ORDER)
        for rows in session.execute(query.execution_options(yield_per=EXPORT_ROWS)).partitions():
            yield [_row(row).model_dump() for row in rows]


def summarize(session: Session, run_id: int) -> JudgmentSummary:
    """The verdicts of a judge so far, and how other judges of the same answers agree.

    Raises:
        NotFoundError: no such run, or it is no judge.
    """
    _, config = require_judge(session, run_id)
    found = session.execute(
        select(
            func.count().label("judged"),
            func.count().filter(Judgment.verdict.is_(True)).label("positive"),
            func.count().filter(Judgment.verdict.is_(False)).label("negative"),
            func.avg(Judgment.score).label("mean_score"),
        ).where(Judgment.run_id == run_id)
    ).one()
    answers = session.scalar(select(func.count()).where(Generation.run_id == config.generate_run))
    decided = found.positive + found.negative
    low, high = wilson_interval(found.positive, decided) if decided else (None, None)
    return JudgmentSummary(
        answers=answers or 0,
        judged=found.judged,
        positive=found.positive,
        negative=found.negative,
        unjudged=found.judged - decided,
        rate=found.positive / decided if decided else None,
        low=low,
        high=high,
        mean_score=finite_or_none(found.mean_score),
        prompts=_count_prompts(session, run_id),
        others=_others(session, run_id, config),
    )


def _count_prompts(session: Session, run_id: int) -> PairCounts:
    by_prompt = (
        select(
            func.count().filter(Judgment.verdict.is_(True)).label("positive"),
            func.count().filter(Judgment.verdict.is_(False)).label("negative"),
            func.count(Judgment.score).label("scores"),
        )
        .where(Judgment.run_id == run_id)
        .group_by(Judgment.pair)
        .subquery()
    )
    has_both = and_(by_prompt.c.positive > 0, by_prompt.c.negative > 0)
    kinds = {
        "different": has_both,
        "both_positive": and_(by_prompt.c.positive > 1, by_prompt.c.negative == 0),
        "both_negative": and_(by_prompt.c.negative > 1, by_prompt.c.positive == 0),
        "by_score": and_(by_prompt.c.positive + by_prompt.c.negative == 0, by_prompt.c.scores > 1),
    }
    counts = session.execute(
        select(
            func.count().label("prompts"),
            *(func.count().filter(condition).label(name) for name, condition in kinds.items()),
        ).select_from(by_prompt)
    ).one()
    named = {name: getattr(counts, name) for name in kinds}
    return PairCounts(**named, others=counts.prompts - sum(named.values()))


def _others(session: Session, run_id: int, config: JudgeConfig) -> list[AgreementOut]:
    others = session.scalars(
        select(Run.id)
        .where(
            Run.kind == "judge",
            Run.id != run_id,
            Run.config["generate_run"].astext == str(config.generate_run),
        )
        .order_by(Run.id.desc())
        .limit(MAX_COMPARED)
    ).all()
    return [_agreement(session, run_id, other) for other in others]


def compare(session: Session, run_ids: Sequence[int]) -> AgreementList:
    """Agreement of each two of some judges of the same answers.

    Raises:
        InvalidInputError: fewer than two runs or too many, one is no judge, or they judged other
            answers.
    """
    wanted = list(dict.fromkeys(run_ids))
    if not 2 <= len(wanted) <= MAX_COMPARED:
        _refuse("runs", f"Name 2 to {MAX_COMPARED} judge runs, separated by commas.")
    _require_same_answers(session, wanted, "runs")
    items = [_agreement(session, first, second) for first, second in combinations(wanted, 2)]
    return AgreementList(items=items)


def _require_same_answers(session: Session, run_ids: Sequence[int], field: str) -> None:
    judged: dict[int, int] = {}
    for run_id in run_ids:
        try:
            _, config = require_judge(session, run_id)
        except NotFoundError as error:
            _refuse(field, error.detail)
        judged[run_id] = config.generate_run
    if len(set(judged.values())) > 1:
        said = ", ".join(f"run {run} those of run {of}" for run, of in judged.items())
        _refuse(field, f"These runs judged different answers: {said}.")


def _refuse(field: str, message: str) -> NoReturn:
    raise InvalidInputError(message, [{"field": field, "message": message}])


def _agreement(session: Session, first: int, second: int) -> AgreementOut:
    found = agreement(_verdicts(session, first), _verdicts(session, second))
    return AgreementOut(
        first=_judge_run(session, first),
        second=_judge_run(session, second),
        compared=found.compared,
        both_positive=found.both_positive,
        first_only=found.first_only,
        second_only=found.second_only,
        both_negative=found.both_negative,
        unjudged=found.unjudged,
        raw=found.raw,
        kappa=found.kappa,
    )


def _judge_run(session: Session, run_id: int) -> JudgeRun:
    run, config = require_judge(session, run_id)
    return JudgeRun(run_id=run.id, name=run.name, judged_by=config.judged_by)


def _verdicts(session: Session, run_id: int) -> dict[tuple[int, int], bool | None]:
    columns = Judgment.pair, Judgment.sample, Judgment.verdict
    rows = session.execute(select(*columns).where(Judgment.run_id == run_id))
    return {(row.pair, row.sample): row.verdict for row in rows}
