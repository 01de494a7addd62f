"""Cutting a run into shards, in SQL and once: when it is first claimed, or a training run comes to
its reference pass.

The longest pairs come first, and every shard is about as much work. Batches are made within a
shard, so what is computed does not depend on how many workers there are.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.store.datasets import Pair
from app.store.runs import Run, RunSelection
from app.store.selection import record_selection
from app.store.shards.tables import RunShard
from chesboard.configs import CONFIGS, GenerateConfig, Selection

CHARACTERS_A_SHARD = 1_000_000
PAIRS_A_SHARD = 2000
"""About a minute's work on a GPU, for a model of a few billion parameters."""
CHARACTERS_A_TOKEN = 4
"""Of an answer that is to be generated, whose length nobody knows yet."""


def plan(session: Session, run: Run) -> None:
    """Cut a run into shards if that was not done yet. The caller holds the run's row.

    A run whose selection leaves no pair has one shard, without pairs.
    """
    if session.scalar(select(RunShard.shard).where(RunShard.run_id == run.id).limit(1)) is not None:
        return
    config = CONFIGS[run.kind].model_validate(run.config)
    if not _has_pairs(session, run, getattr(config, "selection", Selection())):
        session.add(RunShard(run_id=run.id, shard=0, pairs=[], characters=0, total=0))
        session.flush()
        return
    given = _given(run)
    placed = _by_prompt(given, config) if isinstance(config, GenerateConfig) else _by_pair(given)
    _cut(session, run, placed)


def plan_reference(session: Session, run: Run, pairs: Collection[int]) -> int:
    """Cut the pairs that a run trains on into the shards of its reference pass, and return how many
    there are; 0 where they are no more than one worker's. The caller holds the run's row.

    Shards of an earlier attempt stay if they are of the same pairs.
    """
    planned = session.scalars(select(func.unnest(RunShard.pairs)).where(RunShard.run_id == run.id))
    if sorted(planned) != sorted(pairs):
        drop(session, run.id)
        _cut(session, run, _by_pair(_given(run, pairs)))
    count = select(func.count()).select_from(RunShard).where(RunShard.run_id == run.id)
    shards = session.scalar(count) or 0
    if shards > 1:
        return shards
    drop(session, run.id)
    return 0


def drop(session: Session, run_id: int) -> None:
    """Remove a run's shards. Whoever has one loses it."""
    session.execute(delete(RunShard).where(RunShard.run_id == run_id))


def _cut(session: Session, run: Run, placed: Select[Any]) -> None:
    found = placed.subquery("placed")
    session.execute(
        insert(RunShard).from_select(
            ["run_id", "shard", "pairs", "characters", "total"],
            select(
                literal(run.id, BigInteger),
                # Without gaps, which a pair of more than a shard's characters leaves.
                cast(func.row_number().over(order_by=found.c.place) - 1, Integer),
                func.array_agg(aggregate_order_by(found.c.pair, found.c.pair.asc())),
                cast(func.sum(found.c.characters), BigInteger),
                cast(func.sum(found.c.wanted), Integer),
            ).group_by(found.c.place),
        )
    )


def _has_pairs(session: Session, run: Run, selection: Selection) -> bool:
    """Whether a run was given any pairs; one without a record of them is given its pairs now."""
    query = select(func.cardinality(RunSelection.pairs)).where(RunSelection.run_id == run.id)
    count: int | None = session.scalar(query)
    if count is not None:
        return count > 0
    assert run.dataset_id is not None  # only an external run has none
    return record_selection(session, run.id, run.dataset_id, selection) is not None


def _given(run: Run, only: Collection[int] | None = None) -> Any:
    """A run's pairs, with the characters of their texts. only: leaves out all but these."""
    pair = func.unnest(RunSelection.pairs).label("pair")
    chosen = select(pair).where(RunSelection.run_id == run.id).subquery("chosen")
    prompt = cast(Pair.prompt, Text)
    length = func.length(prompt)
    query = (
        select(
            Pair.pair,
            length.label("prompt_characters"),
            func.md5(prompt).label("prompt"),
            (length + func.length(Pair.preferred) + func.length(Pair.dispreferred)).label(
                "characters"
            ),
        )
        .join(chosen, chosen.c.pair == Pair.pair)
        .where(Pair.dataset_id == run.dataset_id)
    )
    if only is not None:
        query = query.where(among(Pair.pair, only))
    return query.subquery("given")


def _shard_at(before: ColumnElement[int]) -> ColumnElement[int]:
    return cast(before, BigInteger) // CHARACTERS_A_SHARD


def _by_pair(given: Any) -> Select[Any]:
    """Of each pair its `place`, which orders the shards, and how many results are `wanted`."""
    # A short pair counts as if it had the characters that PAIRS_A_SHARD of them may have.
    work = func.greatest(given.c.characters, CHARACTERS_A_SHARD // PAIRS_A_SHARD)
    until = func.sum(work).over(order_by=(given.c.characters.desc(), given.c.pair))
    return select(
        given.c.pair,
        given.c.characters,
        literal(1).label("wanted"),
        _shard_at(until - work).label("place"),
    )


def _by_prompt(given: Any, config: GenerateConfig) -> Select[Any]:
    """The same of pairs whose prompts are answered: those with the same prompt are kept together,
    since it is answered once."""
    is_first = func.row_number().over(partition_by=given.c.prompt, order_by=given.c.pair) == 1
    answers = config.samples * config.answer_tokens * CHARACTERS_A_TOKEN
    marked = select(given, is_first.label("is_first")).subquery("marked")
    work = func.greatest(
        marked.c.prompt_characters + answers, CHARACTERS_A_SHARD // PAIRS_A_SHARD
    ) * cast(marked.c.is_first, Integer)
    until = func.sum(work).over(
        order_by=(marked.c.prompt_characters.desc(), marked.c.prompt, marked.c.pair)
    )
    summed = select(
        marked.c.pair,
        marked.c.prompt,
        marked.c.characters,
        (config.samples * cast(marked.c.is_first, Integer)).label("wanted"),
        _shard_at(until - work).label("at"),
    ).subquery("summed")
    return select(
        summed.c.pair,
        summed.c.characters,
        summed.c.wanted,
        func.min(summed.c.at).over(partition_by=summed.c.prompt).label("place"),
    )
