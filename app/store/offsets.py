"""odpo's offsets of a dataset's pairs, from the scores that its rows give."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.store.datasets import Dataset, Pair
from chesboard.configs.objective import ObjectiveConfig
from chesboard.offsets import Offset, OffsetKind, offset_of, scores_of, why_without

CHUNK = 5_000
"""Rows that are in memory at a time."""


class UnscoredPairsError(ValueError):
    """Pairs have no offset, and the configuration refuses such pairs."""


def read_offsets(
    session: Session, dataset_id: int, kind: OffsetKind, among: ColumnElement[bool] | None = None
) -> Iterator[tuple[int, Offset]]:
    """(ordinal, offset) of the dataset's pairs, ascending. among: a condition on `Pair`."""
    columns = session.get_one(Dataset, dataset_id).columns
    query = (
        select(Pair.pair, Pair.meta, Pair.source)
        .where(Pair.dataset_id == dataset_id)
        .order_by(Pair.pair)
    )
    if among is not None:
        query = query.where(among)
    for row in session.execute(query.execution_options(yield_per=CHUNK)):
        yield row.pair, offset_of(scores_of(row.meta, columns, row.source), kind)


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
    offsets: dict[int, float] = {}
    reasons: Counter[str] = Counter()
    for pair, found in read_offsets(session, dataset_id, config.odpo_offset, one_of(pairs)):
        if found.reason is not None:
            reasons[found.reason] += 1
        offsets[pair] = found.value or 0.0
    if not reasons:
        return offsets, None
    if config.odpo_unscored == "refuse":
        raise UnscoredPairsError(refusal(reasons, len(offsets)))
    return offsets, f"{why_without(reasons, len(offsets))} They train with offset 0, as in dpo."


def refusal(reasons: Mapping[str, int], pairs: int) -> str:
    """What to say where pairs without an offset are refused."""
    return (
        f"{why_without(reasons, pairs)} Choose odpo_unscored: zero to train them as dpo does, or "
        "leave them out of the selection."
    )


def one_of(pairs: Collection[int]) -> ColumnElement[bool]:
    """Condition on `Pair`: one of these ordinals, as one parameter."""
    return among(Pair.pair, pairs)
