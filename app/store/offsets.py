"""odpo's offsets of a dataset's pairs, from the scores that its rows give."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.packed import Integers
from app.store.datasets import Dataset, Pair
from chesboard.configs.objective import ObjectiveConfig
from chesboard.offsets import (
    Floats,
    NoOffset,
    OffsetKind,
    PairScores,
    columns_with_scores,
    offsets_of,
    scores_of,
    why_without,
)

PAGE = 50_000
"""Pairs that one statement reads."""
MOST_OTHERS = 4
"""Pairs that a page may read for each that is wanted: a range is read much faster than a list."""
COLUMNS = 500
"""Columns that one statement reads; PostgreSQL's limit is 1,664."""


@dataclass(frozen=True, slots=True)
class DatasetOffsets:
    """Offsets of some of a dataset's pairs, by ascending ordinal; NaN where a pair has none."""

    pairs: Integers
    values: Floats
    reasons: Counter[NoOffset]
    """Why pairs have none, counted."""
    columns: Counter[tuple[str, str]]
    """Where how many pairs have their two scores."""


class UnscoredPairsError(ValueError):
    """Pairs have no offset, and the configuration refuses such pairs."""


def read_offsets(
    session: Session, dataset_id: int, kind: OffsetKind, pairs: Collection[int] | None = None
) -> DatasetOffsets:
    """The offsets of these of the dataset's pairs, by default of all."""
    roles = session.get_one(Dataset, dataset_id).columns
    ordinals, values = [np.empty(0, np.int64)], [np.empty(0)]
    reasons: Counter[NoOffset] = Counter()
    columns: Counter[tuple[str, str]] = Counter()
    for page, wanted in _pages(session, dataset_id, pairs):
        of_page, scores = _read_scores(session, page, wanted, roles)
        found = offsets_of(scores, kind)
        ordinals.append(of_page)
        values.append(found.values)
        reasons += found.reasons
        columns += scores.columns
    return DatasetOffsets(np.concatenate(ordinals), np.concatenate(values), reasons, columns)


def _pages(
    session: Session, dataset_id: int, pairs: Collection[int] | None
) -> Iterator[tuple[ColumnElement[bool], Integers | None]]:
    """Conditions on `Pair` that together hold for these pairs, by ascending ordinal; and of each,
    where it holds for others too, which are wanted."""
    of_dataset = Pair.dataset_id == dataset_id
    if pairs is None:
        last = session.scalar(select(func.max(Pair.pair)).where(of_dataset))
        for start in range(0, 0 if last is None else last + 1, PAGE):
            yield of_dataset & Pair.pair.between(start, start + PAGE - 1), None
        return
    ascending = np.sort(np.fromiter(pairs, np.int64, len(pairs)))
    for start in range(0, len(ascending), PAGE):
        wanted = ascending[start : start + PAGE]
        first, last = int(wanted[0]), int(wanted[-1])
        if last - first < MOST_OTHERS * len(wanted):
            yield of_dataset & Pair.pair.between(first, last), wanted
        else:
            yield of_dataset & among(Pair.pair, wanted.tolist()), None


def _read_scores(
    session: Session,
    page: ColumnElement[bool],
    wanted: Integers | None,
    roles: Mapping[str, object] | None,
) -> tuple[Integers, PairScores]:
    """The ordinals of a page's pairs, ascending, and their scores. wanted: of these alone."""
    names = session.scalars(select(func.jsonb_object_keys(Pair.meta)).where(page).distinct())
    # As PostgreSQL orders the columns of each row: the first that hold scores are taken.
    named = sorted(
        columns_with_scores(names, roles), key=lambda name: (len(name.encode()), name.encode())
    )
    read = (Pair.pair, Pair.source["layout"], *(Pair.meta[name] for name in named))
    lists = _read_lists(session, page, read)
    ordinals = np.array(lists[0], dtype=np.int64)
    if wanted is not None:
        is_wanted = np.isin(ordinals, wanted, assume_unique=True)
        if not is_wanted.all():
            ordinals, lists = ordinals[is_wanted], [list(compress(of, is_wanted)) for of in lists]
    _, layouts, *cells = lists
    scores = scores_of(dict(zip(named, cells, strict=True)), len(ordinals), roles, layouts)
    return ordinals, scores


def _read_lists(
    session: Session, page: ColumnElement[bool], columns: Sequence[Any]
) -> list[list[Any]]:
    """Each column of a page's pairs as a list, by ascending ordinal."""
    found: list[list[Any]] = []
    for start in range(0, len(columns), COLUMNS):
        lists = [
            func.json_agg(aggregate_order_by(column, Pair.pair))
            for column in columns[start : start + COLUMNS]
        ]
        found += [of or [] for of in session.execute(select(*lists).where(page)).one()]
    return found


def training_offsets(
    session: Session, dataset_id: int, config: ObjectiveConfig, pairs: Collection[int]
) -> tuple[dict[int, float], str | None]:
    """The offset of each pair, and a sentence on those that train with 0 for want of one; nothing
    where the objective has no offsets.

    Raises:
        UnscoredPairsError: there are such pairs, and the configuration refuses them.
    """
    if config.objective != "odpo":
        return {}, None
    found = read_offsets(session, dataset_id, config.odpo_offset, pairs)
    values = np.nan_to_num(found.values, nan=0.0).tolist()
    offsets = dict(zip(found.pairs.tolist(), values, strict=True))
    if not found.reasons:
        return offsets, None
    if config.odpo_unscored == "refuse":
        raise UnscoredPairsError(refusal(found.reasons, len(offsets)))
    lacking = why_without(found.reasons, len(offsets))
    return offsets, f"{lacking} They train with offset 0, as in dpo."


def refusal(reasons: Mapping[NoOffset, int], pairs: int) -> str:
    """What to say where pairs without an offset are refused."""
    return (
        f"{why_without(reasons, pairs)} Choose odpo_unscored: zero to train them as dpo does, or "
        "leave them out of the selection."
    )
