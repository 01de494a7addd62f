"""The forecast of a training run's first step, held against the changes that the run measured."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from statistics import fmean
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from app.forecast.fitting import score_run_of
from app.forecast.queries import why_missing
from app.forecast.schemas import ForecastBin, ForecastCheck, ForecastPoint, Rank
from app.forecast.scored import CHUNK, NEEDED, is_forecastable, with_offsets
from app.store.lookup import dataset_of
from app.store.runs import ReferenceLogprob, Run, RunSelection
from app.store.scores import Score, finite
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import ScoredPair, first_push, preferred_shift, why_inexact
from chesboard.measures.registry import MeasureName
from chesboard.probing.ranks import spearman_of_each
from chesboard.records import STILL_NATS

BINS = 10
MAX_POINTS = 5000
COMPARED: tuple[MeasureName, ...] = (
    "ches",
    "ln_ches",
    "head_shift",
    "implicit_gap",
    "length_gap",
)
"""Measures whose order stands beside that of the forecast."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A pair's forecast and its measured change of log p(y+), with measures of before."""

    pair: int
    forecast: float
    change: float
    measures: tuple[float | None, ...]

    @property
    def foretold(self) -> bool:
        return self.forecast < 0

    @property
    def fell(self) -> bool:
        return self.change < -STILL_NATS


def check_forecast(session: Session, run: Run, score_run: int | None = None) -> ForecastCheck:
    """run: a training run. score_run: default: as app.forecast.fitting.score_run_of says.

    Raises:
        InvalidInputError: score_run cannot foretell this run.
    """
    # Runs of earlier versions lack fields that were added since.
    known = ObjectiveConfig.model_fields.keys() & run.config.keys()
    config = ObjectiveConfig(**{name: run.config[name] for name in known})
    scored = score_run_of(session, run, score_run)
    measured = _count_measured(session, run.id)
    refusal = why_inexact(config) or _why_another_step(run)
    found: list[Outcome] = []
    if scored and measured and not refusal:
        found = list(_outcomes(session, run, scored, config))
    fell = sum(one.fell for one in found)
    hits = sum(one.fell and one.foretold for one in found)
    foretold = sum(one.foretold for one in found)
    quiet = len(found) - fell - foretold + hits
    return ForecastCheck(
        run_id=run.id,
        score_run=scored.id if scored else None,
        score_run_name=scored.name if scored else None,
        is_own=scored is not None and scored.id == run.config.get("forecast_run"),
        objective=config.objective,
        config=config,
        message=None if found else refusal or _why_nothing(run, scored, measured),
        pairs=len(found),
        left_out=measured - len(found),
        forecast_fall_fell=hits,
        forecast_fall_not=foretold - hits,
        not_forecast_fell=fell - hits,
        not_forecast_not=quiet,
        hit_rate=(hits + quiet) / len(found) if found else None,
        base_rate=max(fell, len(found) - fell) / len(found) if found else None,
        ranks=_ranks(found),
        bins=_bins(found),
        points=_points(found),
    )


# --- forecasts and measured changes ----------------------------------------------------------


def _count_measured(session: Session, run_id: int) -> int:
    query = select(func.count()).where(
        ReferenceLogprob.run_id == run_id, ReferenceLogprob.final_preferred.is_not(None)
    )
    return session.scalar(query) or 0


def _outcomes(
    session: Session, run: Run, scored: Run, config: ObjectiveConfig
) -> Iterator[Outcome]:
    """By ordinal; without pairs whose text was edited between the two runs."""
    edited = _edited(session, run.id, scored.id)
    change = ReferenceLogprob.final_preferred - ReferenceLogprob.preferred
    columns: list[Any] = [ReferenceLogprob.pair, change, *map(finite, COMPARED), *NEEDED]
    query = (
        select(*columns)
        .join(Score, and_(Score.run_id == scored.id, Score.pair == ReferenceLogprob.pair))
        .where(
            ReferenceLogprob.run_id == run.id,
            ReferenceLogprob.final_preferred.is_not(None),
            is_forecastable(),
        )
        .order_by(ReferenceLogprob.pair)
    )
    first = 2 + len(COMPARED)
    found = session.execute(query.execution_options(yield_per=CHUNK))
    for rows in found.partitions():
        usable = [row for row in rows if row[0] not in edited and math.isfinite(row[1])]
        part = [(row[0], ScoredPair(*row[first:])) for row in usable]
        pairs = with_offsets(session, dataset_of(run), config, part)
        for row, (ordinal, pair) in zip(usable, pairs, strict=True):
            shift = preferred_shift(first_push(config, pair), pair)
            yield Outcome(ordinal, shift, row[1], tuple(row[2:first]))


def _edited(session: Session, run_id: int, scored: int) -> set[int]:
    """Pairs that the two runs were given in different versions."""
    versions = []
    for one in (run_id, scored):
        record = session.get(RunSelection, one)
        versions.append(dict(zip(record.pairs, record.versions, strict=True)) if record else {})
    given, before = versions
    return {pair for pair, version in given.items() if before.get(pair, version) != version}


def _why_another_step(run: Run) -> str | None:
    """Why the scores say nothing of the first step that the run took."""
    if run.config.get("extend_sft_epochs"):
        return (
            "The objective of this run began from the model that its first phase "
            "(extend_sft_epochs) made, and scores are about the model before it: there is no "
            "forecast."
        )
    if run.config.get("reward_calibration"):
        return (
            "This run rescaled what its objective pushes (reward_calibration), so that neither "
            "response is dragged along at the head: there is no fall to forecast."
        )
    return None


def _why_nothing(run: Run, scored: Run | None, measured: int) -> str:
    if not measured:
        return (
            "Nothing was measured: displacement is measured after the last step of a run that has "
            "measure_displacement on."
        )
    if scored is None:
        return (
            "No score run over this dataset has the same model and limits: score it by CHES under "
            f"{run.config['model']} to hold a forecast against this run."
        )
    return why_missing(scored)


# --- what they come to -----------------------------------------------------------------------


def _ranks(found: Sequence[Outcome]) -> list[Rank]:
    columns: dict[str, list[float | None]] = {"forecast": [one.forecast for one in found]}
    for index, name in enumerate(COMPARED):
        columns[name] = [one.measures[index] for one in found]
    agreements = spearman_of_each(columns.values(), [one.change for one in found])
    return [
        Rank(name=name, spearman=agreement)
        for name, (agreement, _) in zip(columns, agreements, strict=True)
    ]


def _bins(found: Sequence[Outcome]) -> list[ForecastBin]:
    ascending = sorted(found, key=attrgetter("forecast"))  # found is by pair, so equals stay so
    edges = [round(len(found) * index / BINS) for index in range(BINS + 1)]
    parts = [ascending[start:end] for start, end in pairwise(edges)]
    return [
        ForecastBin(
            pairs=len(part),
            forecast=fmean(one.forecast for one in part),
            change=fmean(one.change for one in part),
            fell=sum(one.fell for one in part),
        )
        for part in parts
        if part
    ]


def _points(found: Sequence[Outcome]) -> list[ForecastPoint]:
    stride = max(1, -(-len(found) // MAX_POINTS))
    return [
        ForecastPoint(pair=one.pair, forecast=one.forecast, change=one.change)
        for one in found[::stride]
    ]
