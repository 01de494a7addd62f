"""Reading what pre-flights recorded, beside what training then did."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.csv import csv_line
from app.core.errors import NotFoundError
from app.core.text import clip_prompt, clip_text
from app.preflight.measured import Change, chosen_run, list_train_runs, measured_changes
from app.preflight.schemas import (
    Influence,
    InterferenceOut,
    PreflightItem,
    PreflightList,
    PreflightPairOut,
    PreflightRow,
)
from app.store.lookup import require_run
from app.store.preflight import PreflightPair
from app.store.runs import Run, RunSelection
from app.store.selection import read_pairs
from chesboard.pairs import Pair
from chesboard.preflight.order import clustered_order
from chesboard.probing.ranks import spearman_of

SHOWN_CHARACTERS = 300
SHOWN_TURNS = 6
"""Bounds of the texts of a list's item."""
SHOWN_GAINERS = 3
"""Tokens that a list names for each pair."""


def get_preflight(session: Session, run_id: int, train_run: int | None = None) -> PreflightList:
    """The finished pairs of a pre-flight, those that fall furthest first.

    train_run: what predictions are set beside; default: the newest that fits.

    Raises:
        NotFoundError: no such run, or it is no pre-flight.
        InvalidInputError: train_run did not train on these pairs from the same model.
    """
    run = require_preflight(session, run_id)
    rows = session.scalars(
        select(PreflightPair)
        .where(PreflightPair.run_id == run_id)
        .order_by(PreflightPair.preferred_change, PreflightPair.pair)
    ).all()
    record = session.get(RunSelection, run_id)
    given = list(record.pairs) if record else []
    pairs = [row.pair for row in rows]
    train_runs = list_train_runs(session, run, pairs)
    chosen = chosen_run(train_runs, train_run)
    measured = measured_changes(session, chosen, pairs)
    texts = {text.pair: text for text in read_pairs(session, run_id, run.dataset_id, pairs)}
    influence = _influence(rows)
    items = [_item(row, influence, measured, texts[row.pair]) for row in rows]
    return PreflightList(
        total=len(given),
        finished=len(rows),
        falling=sum(item.falls for item in items),
        items=items,
        influence=influence,
        train_run=chosen,
        train_runs=train_runs,
        **_agreement(items),
    )


def require_preflight(session: Session, run_id: int) -> Run:
    """Raises:
    NotFoundError: no such run, or it is no pre-flight.
    """
    run = require_run(session, run_id)
    if run.kind != "preflight":
        raise NotFoundError(f"Run {run_id} is not a pre-flight.")
    return run


def get_preflight_pair(
    session: Session, run_id: int, pair: int, train_run: int | None = None
) -> PreflightPairOut:
    """Everything about one pair of a pre-flight.

    Raises:
        NotFoundError: no such run, it is no pre-flight, or the pair is not finished.
    """
    run = require_preflight(session, run_id)
    rows = session.scalars(select(PreflightPair).where(PreflightPair.run_id == run_id)).all()
    row = next((one for one in rows if one.pair == pair), None)
    if row is None:
        raise NotFoundError(f"The pre-flight {run_id} has no finished pair {pair}.")
    train_runs = list_train_runs(session, run, [pair])
    measured = measured_changes(session, chosen_run(train_runs, train_run), [pair])
    (text,) = read_pairs(session, run_id, run.dataset_id, [pair])
    return PreflightPairOut(
        **_row(row, _influence(rows), measured).model_dump(),
        prompt=text.prompt,
        preferred=text.preferred,
        dispreferred=text.dispreferred,
        gainers=row.gainers,
        losers=row.losers,
        rest_change=row.rest_change,
        fork_position=row.fork_position,
        preferred_tokens=row.preferred_tokens,
        dispreferred_tokens=row.dispreferred_tokens,
        preferred_count=row.preferred_count,
        dispreferred_count=row.dispreferred_count,
        interference=_interference(row),
    )


def _interference(row: PreflightPair) -> InterferenceOut | None:
    if row.interference is None or row.pulls is None:
        return None
    width = len(row.dispreferred_tokens)
    flat = row.interference
    return InterferenceOut(
        map=[flat[start : start + width] for start in range(0, len(flat), width)],
        pulls=row.pulls,
        is_clipped=(row.preferred_count, row.dispreferred_count)
        != (len(row.preferred_tokens), len(row.dispreferred_tokens)),
    )


def _influence(rows: Sequence[PreflightPair]) -> Influence:
    by_pair = {row.pair: row for row in sorted(rows, key=lambda row: row.pair)}
    columns = list(rows[0].pairs) if rows else []
    done = [pair for pair in columns if pair in by_pair]
    at = [columns.index(pair) for pair in done]
    square = [[by_pair[pair].influence_preferred[k] for k in at] for pair in done]
    order = [done[k] for k in clustered_order(square)]
    return Influence(
        rows=done,
        columns=columns,
        preferred=[by_pair[pair].influence_preferred for pair in done],
        dispreferred=[by_pair[pair].influence_dispreferred for pair in done],
        order=[*order, *(pair for pair in columns if pair not in by_pair)],
    )


def _row(row: PreflightPair, influence: Influence, measured: Mapping[int, Change]) -> PreflightRow:
    column = influence.columns.index(row.pair)
    others = [
        (changes[column], pair)
        for pair, changes in zip(influence.rows, influence.preferred, strict=True)
        if pair != row.pair
    ]
    most, least = max(others, default=(0.0, None)), min(others, default=(0.0, None))
    preferred, dispreferred = measured.get(row.pair, (None, None))
    return PreflightRow(
        pair=row.pair,
        preferred_change=row.preferred_change,
        dispreferred_change=row.dispreferred_change,
        falls=row.preferred_change < 0,
        preferred_logprob=row.preferred_logprob,
        dispreferred_logprob=row.dispreferred_logprob,
        raised_by=most[1] if most[0] > 0 else None,
        lowered_by=least[1] if least[0] < 0 else None,
        head_own=row.own,
        head_pull=row.pull,
        measured_preferred_change=preferred,
        measured_dispreferred_change=dispreferred,
    )


def _item(
    row: PreflightPair, influence: Influence, measured: Mapping[int, Change], text: Pair
) -> PreflightItem:
    return PreflightItem(
        **_row(row, influence, measured).model_dump(),
        prompt=clip_prompt(text.prompt, SHOWN_CHARACTERS, SHOWN_TURNS),
        preferred=clip_text(text.preferred, SHOWN_CHARACTERS),
        dispreferred=clip_text(text.dispreferred, SHOWN_CHARACTERS),
        gainers=row.gainers[:SHOWN_GAINERS],
    )


def _agreement(items: Sequence[PreflightItem]) -> dict[str, Any]:
    both = [
        (item.preferred_change, item.measured_preferred_change)
        for item in items
        if item.measured_preferred_change is not None
    ]
    return {
        "spearman": spearman_of([one for one, _ in both], [other for _, other in both])[0],
        "same_sign": sum((one < 0) == (other < 0) for one, other in both),
        "compared": len(both),
    }


def export_preflight(found: PreflightList) -> Iterator[str]:
    """Lines of CSV, header first: each finished pair, and what its step does to every pair."""
    names = list(PreflightRow.model_fields)
    columns = found.influence.columns
    yield csv_line([*names, *(f"influence_on_{pair}" for pair in columns)])
    rows = dict(zip(found.influence.rows, found.influence.preferred, strict=True))
    for item in found.items:
        yield csv_line([*(getattr(item, name) for name in names), *rows[item.pair]])
