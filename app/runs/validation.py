"""Checks of what a new run asks for: its configuration, and the pairs and runs it refers to.

All raise InvalidInputError, which names the field of the request.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import ErrorItem, InvalidInputError, field_errors
from app.core.text import storable
from app.store.datasets import Dataset, Pair
from app.store.lookup import MAX_ID, MAX_ORDINAL, find_run, there_is_no
from chesboard.configs import CONFIGS, MeasureRule, ModelConfig, Rules, Selection
from chesboard.measures.registry import SIMILARITY_MEASURES

MAX_NAMED = 10
"""How many ids an error message lists."""


def check_config(kind: str, config: dict[str, Any]) -> ModelConfig:
    """The configuration with its defaults filled in.

    Raises:
        InvalidInputError: a setting is unknown, out of bounds, or cannot be stored as JSONB.
    """
    try:
        checked = CONFIGS[kind].model_validate(config)
    except ValidationError as error:
        raise _invalid(field_errors(error, prefix="config")) from None
    for name, value in checked.model_dump(mode="json").items():
        _check_storable(f"config.{name}", value)
    return checked


def _check_storable(field: str, value: Any) -> None:
    """JSONB holds neither NaN nor infinity nor U+0000."""
    try:
        for leaf in _leaves(value):
            if isinstance(leaf, str):
                storable(leaf)
            elif isinstance(leaf, float) and not math.isfinite(leaf):
                raise ValueError("must be a finite number")
    except ValueError as error:
        raise _invalid_field(field, str(error)) from None


def _leaves(value: Any) -> Iterator[Any]:
    match value:
        case dict():
            for name, part in value.items():
                yield name
                yield from _leaves(part)
        case list():
            for part in value:
                yield from _leaves(part)
        case _:
            yield value


def lock_dataset(session: Session, dataset_id: int) -> Dataset:
    """The dataset, locked against deletion (FOR KEY SHARE) until the transaction ends.

    Raises:
        InvalidInputError: no such dataset.
    """
    dataset = None
    if 0 < dataset_id <= MAX_ID:
        lock = {"read": True, "key_share": True}
        dataset = session.get(Dataset, dataset_id, with_for_update=lock)
    if dataset is None:
        raise _invalid_field("dataset_id", there_is_no("dataset", dataset_id))
    return dataset


def check_pairs(
    session: Session, dataset: Dataset, pairs: Collection[int] | None, field: str
) -> None:
    """Raises:
    InvalidInputError: the dataset lacks one of the pairs.
    """
    if not pairs:
        return
    wanted = set(pairs)
    storable_ordinals = [pair for pair in wanted if pair <= MAX_ORDINAL]
    found = session.scalars(
        select(Pair.pair).where(Pair.dataset_id == dataset.id, Pair.pair.in_(storable_ordinals))
    )
    if missing := sorted(wanted - set(found)):
        raise _invalid_field(
            field,
            f"The dataset has no {listed('pair', missing)}; it has {dataset.pairs}, counted "
            "from 0.",
        )


def check_selection(session: Session, dataset: Dataset, rules: Rules, field: str) -> None:
    """Check that the pairs and score runs of a selection belong to the dataset.

    field: path of the selection in the request, for example "config.selection"; may be empty.

    Raises:
        InvalidInputError: names the field below that path.
    """
    check_pairs(session, dataset, rules.pairs, _join(field, "pairs"))
    for number, rule in enumerate(rules.measures):
        if message := _score_run_error(session, dataset, rule):
            raise _invalid_field(_join(field, f"measures.{number}.score_run"), message)
    if isinstance(rules, Selection) and rules.random and rules.random.same_size_as:
        nested = _join(field, "random.same_size_as")
        check_selection(session, dataset, rules.random.same_size_as, nested)


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _score_run_error(session: Session, dataset: Dataset, rule: MeasureRule) -> str | None:
    run = find_run(session, rule.score_run)
    if run is None:
        return there_is_no("run", rule.score_run)
    if run.kind == "train":
        return f"Run {run.id} is a training run; it has no scores."
    if run.dataset_id != dataset.id:
        return f"Run {run.id} scored dataset {run.dataset_id}, not {dataset.id}."
    if run.status != "succeeded":
        return f"Run {run.id} is {run.status}; wait until all of its pairs are scored."
    if run.kind == "evaluate" and rule.measure in SIMILARITY_MEASURES:
        return f"Run {run.id} is an evaluation; it has log-probabilities only."
    return None


def listed(noun: str, ids: Collection[int]) -> str:
    """For example ("pair", [1, 2]) → "pairs 1, 2"."""
    shown = ", ".join(map(str, list(ids)[:MAX_NAMED]))
    more = len(ids) - MAX_NAMED
    return f"{noun}{'s' if len(ids) > 1 else ''} {shown}" + (f" and {more} more" * (more > 0))


def _invalid_field(field: str, message: str) -> InvalidInputError:
    return _invalid([{"field": field, "message": message}])


def _invalid(errors: list[ErrorItem]) -> InvalidInputError:
    if len(errors) == 1:
        return InvalidInputError(f"{errors[0].get('field')}: {errors[0]['message']}", errors)
    return InvalidInputError(f"{len(errors)} settings of the run are invalid.", errors)
