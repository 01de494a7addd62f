"""Checks of what a new run asks for: its configuration, and the pairs and runs it refers to.

All raise InvalidInputError, which names the field of the request.
"""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.core.errors import ErrorItem, InvalidInputError, field_errors
from app.core.settings import get_settings
from app.core.text import storable
from app.forecast.fitting import ALIKE, why_unfit
from app.models.folder import within_time
from app.store.datasets import Dataset, Pair
from app.store.issues import require_checked
from app.store.lookup import MAX_ID, find_run, there_is_no
from app.store.offsets import UnscoredPairsError, training_offsets
from app.store.runs import WITHOUT_SCORES, Run
from app.store.selection import count_selected
from chesboard.configs import (
    CONFIGS,
    JudgeConfig,
    MeasureRule,
    ObjectiveConfig,
    PairWeights,
    Rules,
    RunConfig,
    Selection,
    TrainConfig,
)
from chesboard.judging.answers import JudgeError
from chesboard.judging.classifier_files import (
    ClassifierFiles,
    check_label,
    check_reward,
    find_classifier,
)
from chesboard.measures.registry import SIMILARITY_MEASURES

MAX_NAMED = 10
"""How many ids an error message lists."""


def check_config(kind: str, config: dict[str, Any]) -> RunConfig:
    """The configuration with its defaults filled in.

    Raises:
        InvalidInputError: a setting is unknown, out of bounds, or cannot be stored as JSONB.
    """
    try:
        checked = CONFIGS[kind].model_validate(config)
    except ValidationError as error:
        raise _invalid(field_errors(error, prefix="config")) from None
    for name, value in checked.model_dump(mode="json").items():
        check_storable(f"config.{name}", value)
    return checked


def check_storable(field: str, value: Any) -> None:
    """JSONB holds neither NaN nor infinity nor U+0000.

    Raises:
        InvalidInputError: the value has one of them, or is nested too deeply.
    """
    try:
        for leaf in _leaves(value):
            if isinstance(leaf, str):
                storable(leaf)
            elif isinstance(leaf, float) and not math.isfinite(leaf):
                raise ValueError("must be a finite number")
    except RecursionError:
        raise invalid_field(field, "is nested too deeply") from None
    except ValueError as error:
        raise invalid_field(field, str(error)) from None


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
        raise invalid_field("dataset_id", there_is_no("dataset", dataset_id))
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
    found = session.scalars(
        select(Pair.pair).where(Pair.dataset_id == dataset.id, among(Pair.pair, wanted))
    )
    if missing := sorted(wanted - set(found)):
        raise invalid_field(
            field,
            f"The dataset has no {listed('pair', missing)}; it has {dataset.pairs}, counted "
            "from 0.",
        )


def check_selection(session: Session, dataset: Dataset, rules: Rules, field: str) -> None:
    """Check that the pairs and score runs of a selection belong to the dataset, and that this was
    checked for the issues that it names.

    field: path of the selection in the request, for example "config.selection"; may be empty.

    Raises:
        InvalidInputError: names the field below that path.
    """
    check_pairs(session, dataset, rules.pairs, _join(field, "pairs"))
    require_checked(dataset, rules.exclude_issues, _join(field, "exclude_issues"))
    require_checked(dataset, rules.only_issues, _join(field, "only_issues"))
    for number, rule in enumerate(rules.measures):
        if message := _score_run_error(session, dataset, rule):
            raise invalid_field(_join(field, f"measures.{number}.score_run"), message)
    if isinstance(rules, Selection) and rules.random and rules.random.same_size_as:
        nested = _join(field, "random.same_size_as")
        check_selection(session, dataset, rules.random.same_size_as, nested)


def check_weights(session: Session, dataset: Dataset, weights: PairWeights | None) -> None:
    """Check that the weights of pairs come from a finished score run over the dataset.

    Raises:
        InvalidInputError: they do not.
    """
    if weights and (message := _score_run_error(session, dataset, weights)):
        raise invalid_field("config.pair_weights.score_run", message)


def check_count(
    session: Session, dataset: Dataset, selection: Selection, most: int, field: str
) -> None:
    """Check that a selection has no more pairs than a run of its kind takes.

    Raises:
        InvalidInputError: it has more.
    """
    count = count_selected(session, dataset.id, selection)
    if count > most:
        raise invalid_field(
            _join(field, "limit"),
            f"The selection has {count:,} pairs, and this kind of run takes {most} at most: name "
            "them, or set a limit.",
        )


def check_forecast_run(session: Session, dataset: Dataset, config: TrainConfig) -> None:
    """Raises:
    InvalidInputError: the configuration names a forecast that is not about what it trains.
    """
    if config.forecast_run is None:
        return
    settings = config.model_dump(include=set(ALIKE))
    if message := why_unfit(session, config.forecast_run, dataset.id, settings):
        raise invalid_field("config.forecast_run", f"{message} Leave this empty.")


def require_answers(session: Session, dataset: Dataset, config: JudgeConfig) -> Run:
    """The finished generate run that a judge run names, locked against deletion; checks that the
    judge is there.

    Raises:
        InvalidInputError: it is no such run of this dataset; or there is no such classifier, label
            or endpoint.
    """
    run = find_run(session, config.generate_run, lock=True)
    field = "config.generate_run"
    if run is None:
        raise invalid_field(field, there_is_no("run", config.generate_run))
    if run.kind != "generate":
        raise invalid_field(field, f"Run {run.id} generated no answers: it is a {run.kind} run.")
    if run.dataset_id != dataset.id:
        raise invalid_field(
            field, f"Run {run.id} answered dataset {run.dataset_id}, not {dataset.id}."
        )
    if run.status != "succeeded":
        raise invalid_field(
            field, f"Run {run.id} is {run.status}; wait until all of its answers are there."
        )
    check_judge(config, "config")
    return run


def check_judge(config: JudgeConfig, field: str) -> None:
    """Check that the judge is there: its endpoint is set up, its classifier in the models folder.

    field: path of the configuration in the request.

    Raises:
        InvalidInputError: names the field below that path.
    """
    if config.judge == "endpoint" and get_settings().judge_url is None:
        raise invalid_field(
            _join(field, "judge"),
            "No endpoint is set up: set CHESBOARD_JUDGE_URL (and CHESBOARD_JUDGE_KEY, if it wants "
            "a key) where the server and its workers are started.",
        )
    if config.judge == "classifier":
        _check_classifier(config, field)


def _check_classifier(config: JudgeConfig, field: str) -> None:
    assert config.classifier is not None
    with _told_at(_join(field, "classifier")):
        files = _find_classifier(config.classifier)
    with _told_at(_join(field, "label")):
        check_label(files, config.label)


def check_filter(config: TrainConfig) -> None:
    """Check that the models folder has the reward model of a run's filter.

    Raises:
        InvalidInputError: it has not, it cannot say which of two texts is better, or its label does
            not exist.
    """
    if (wanted := config.refresh_filter) is not None:
        fields = "config.refresh_filter.reward_model", "config.refresh_filter.label"
        check_reward_model(wanted.reward_model, wanted.label, fields)


def check_reward_model(name: str, label: str | None, fields: tuple[str, str]) -> None:
    """fields: paths of the name and of the label in the request.

    Raises:
        InvalidInputError: as `check_filter`.
    """
    with _told_at(fields[0]):
        files = _find_classifier(name)
        check_reward(files)
    with _told_at(fields[1]):
        check_label(files, label)


def _find_classifier(name: str) -> ClassifierFiles:
    return within_time(lambda: find_classifier(get_settings().models_path, name))


@contextmanager
def _told_at(field: str) -> Iterator[None]:
    """A judge that cannot be used is an error of this field."""
    try:
        yield
    except JudgeError as error:
        raise invalid_field(field, str(error)) from None


def check_offsets(
    session: Session, dataset: Dataset, config: ObjectiveConfig, pairs: Collection[int]
) -> None:
    """Check that every pair has an offset where the objective needs one.

    Raises:
        InvalidInputError: some have none, and the configuration refuses such pairs.
    """
    try:
        training_offsets(session, dataset.id, config, pairs)
    except UnscoredPairsError as error:
        raise invalid_field("config.odpo_unscored", str(error)) from None


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _score_run_error(
    session: Session, dataset: Dataset, rule: MeasureRule | PairWeights
) -> str | None:
    run = find_run(session, rule.score_run)
    if run is None:
        return there_is_no("run", rule.score_run)
    if run.kind in WITHOUT_SCORES:
        return f"Run {run.id} is a {WITHOUT_SCORES[run.kind]} run; it has no scores."
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


def invalid_field(field: str, message: str) -> InvalidInputError:
    return _invalid([{"field": field, "message": message}])


def _invalid(errors: list[ErrorItem]) -> InvalidInputError:
    if len(errors) == 1:
        return InvalidInputError(f"{errors[0].get('field')}: {errors[0]['message']}", errors)
    return InvalidInputError(f"{len(errors)} settings of the run are invalid.", errors)
