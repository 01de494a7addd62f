"""Which pairs of a dataset a study trains on and watches."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import InvalidInputError
from app.runs.validation import check_selection
from app.store.datasets import Dataset, Pair
from app.store.offsets import read_offsets
from app.store.selection import selected
from chesboard.configs import ObjectiveConfig, Selection

MAX_PAIRS = 50_000


def select_pairs(session: Session, dataset: Dataset, selection: Selection) -> list[int]:
    """What a selection of a plan matches.

    Raises:
        InvalidInputError: nothing, or more than a study takes.
    """
    check_selection(session, dataset, selection, "selection")
    pairs = list(session.scalars(selected(dataset.id, selection)))
    if not pairs:
        message = "The selection leaves no pair of the dataset."
    elif len(pairs) > MAX_PAIRS:
        message = f"The selection has {len(pairs):,} pairs; a study takes {MAX_PAIRS:,} at most."
    else:
        return pairs
    raise InvalidInputError(message, [{"field": "selection", "message": message}])


def check_scores(
    session: Session, dataset: Dataset, pairs: Sequence[int], config: ObjectiveConfig
) -> None:
    """Raises:
    InvalidInputError: no pair has the two scores that odpo needs.
    """
    offsets = read_offsets(session, dataset.id, config.odpo_offset, pairs)
    if np.isnan(offsets.values).all():
        message = "odpo needs scores of the responses, and no pair here has two: leave the arm out."
        raise InvalidInputError(message, [{"field": "arms", "message": message}])


def other_pairs(session: Session, dataset: Dataset, pairs: Sequence[int], count: int) -> list[int]:
    """At most `count` pairs of the dataset that are none of these, in the order of a hash."""
    order = (func.md5(func.concat("0:", Pair.pair)), Pair.pair)
    rows = session.scalars(
        select(Pair.pair)
        .where(Pair.dataset_id == dataset.id, Pair.pair.not_in(pairs))
        .order_by(*order)
        .limit(count)
    )
    return sorted(rows)


def distinct_prompts(
    session: Session, dataset: Dataset, pairs: Sequence[int], seed: int
) -> list[int]:
    """Of each prompt of these pairs the first pair, in the order of a hash of the seed."""
    first = func.min(Pair.pair)
    order = (func.md5(func.concat(f"{seed}:", first)), first)
    query = select(first).where(Pair.dataset_id == dataset.id, among(Pair.pair, pairs))
    return list(session.scalars(query.group_by(Pair.prompt).order_by(*order)))


def answered_pairs(session: Session, dataset_id: int) -> dict[int, str]:
    """Of a dataset that judged answers made: the pair whose prompt was answered → the kind of the
    pair of answers (chesboard.judging.pairing.PairKind)."""
    answered = Pair.meta["answered_pair"].as_integer()
    rows = session.execute(
        select(answered, Pair.meta["kind"].as_string())
        .where(Pair.dataset_id == dataset_id)
        .order_by(Pair.pair)
    )
    return {row[0]: row[1] for row in rows}


def spaced(pairs: Sequence[int], count: int) -> list[int]:
    """At most `count` of the pairs, evenly spaced."""
    if len(pairs) <= count:
        return list(pairs)
    if count == 1:
        return [pairs[0]]
    return [pairs[round(i * (len(pairs) - 1) / (count - 1))] for i in range(count)]
