"""The forecast of a training run's first step, held against the changes that the run measured."""

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.packed import Floats, Integers, read_arrays, read_columns
from app.forecast.fitting import score_run_of
from app.forecast.queries import why_missing
from app.forecast.schemas import ForecastBin, ForecastCheck, ForecastPoint, Rank
from app.forecast.scored import read_scored
from app.store.runs import ReferenceLogprob, Run, RunSelection
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import first_push, preferred_shift, why_inexact
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
class Outcomes:
    """Pairs' forecasts and their measured changes of log p(y+), with measures of before (NaN where
    there is none), as arrays by ascending ordinal."""

    pairs: Integers
    forecasts: Floats
    changes: Floats
    measures: list[Floats]

    @property
    def foretold(self) -> NDArray[np.bool_]:
        return self.forecasts < 0

    @property
    def fell(self) -> NDArray[np.bool_]:
        return self.changes < -STILL_NATS


_NOTHING = Outcomes(np.empty(0, np.int64), np.empty(0), np.empty(0), [np.empty(0)] * len(COMPARED))


def check_forecast(session: Session, run: Run, score_run: int | None = None) -> ForecastCheck:
    """run: a training run. score_run: default: as app.forecast.fitting.score_run_of says.

    Raises:
        InvalidInputError: score_run cannot foretell this run.
    """
    # Runs of earlier versions lack fields that were added since.
    known = ObjectiveConfig.model_fields.keys() & run.config.keys()
    config = ObjectiveConfig(**{name: run.config[name] for name in known})
    scored = score_run_of(session, run, score_run)
    measured = _measured(session, run.id)
    count = len(measured[0])
    refusal = why_inexact(config) or _why_another_step(run)
    found = _NOTHING
    if scored and count and not refusal:
        found = _outcomes(session, run, scored, config, measured)
    pairs = len(found.pairs)
    fell, foretold = np.count_nonzero(found.fell), np.count_nonzero(found.foretold)
    hits = np.count_nonzero(found.fell & found.foretold)
    quiet = pairs - fell - foretold + hits
    return ForecastCheck(
        run_id=run.id,
        score_run=scored.id if scored else None,
        score_run_name=scored.name if scored else None,
        is_own=scored is not None and scored.id == run.config.get("forecast_run"),
        objective=config.objective,
        config=config,
        message=None if pairs else refusal or _why_nothing(run, scored, count),
        pairs=pairs,
        left_out=count - pairs,
        forecast_fall_fell=hits,
        forecast_fall_not=foretold - hits,
        not_forecast_fell=fell - hits,
        not_forecast_not=quiet,
        hit_rate=(hits + quiet) / pairs if pairs else None,
        base_rate=max(fell, pairs - fell) / pairs if pairs else None,
        ranks=_ranks(found),
        bins=_bins(found),
        points=_points(found),
    )


# --- forecasts and measured changes ----------------------------------------------------------


def _measured(session: Session, run_id: int) -> tuple[Integers, Floats]:
    """The measured pairs' ordinals, and the changes of log p(y+)."""
    change = ReferenceLogprob.final_preferred - ReferenceLogprob.preferred
    query = select(ReferenceLogprob.pair, change).where(
        ReferenceLogprob.run_id == run_id, ReferenceLogprob.final_preferred.is_not(None)
    )
    ordinals, (changes,) = read_columns(session, query)
    return ordinals, changes


def _outcomes(
    session: Session,
    run: Run,
    scored: Run,
    config: ObjectiveConfig,
    measured: tuple[Integers, Floats],
) -> Outcomes:
    """Without pairs whose text was edited between the two runs."""
    before, pairs, measures = read_scored(session, scored, config, COMPARED)
    shifts = np.asarray(preferred_shift(first_push(config, pairs), pairs))
    after, changes = measured
    usable = np.isfinite(changes) & ~np.isin(after, _edited(session, run.id, scored.id))
    both, of_before, of_after = np.intersect1d(before, after[usable], True, return_indices=True)
    return Outcomes(
        both,
        shifts[of_before],
        changes[usable][of_after],
        [measure[of_before] for measure in measures],
    )


def _edited(session: Session, run_id: int, scored: int) -> Integers:
    """Pairs that the two runs were given in different versions."""
    given, before = (
        read_arrays(
            session,
            select(RunSelection.pairs, RunSelection.versions).where(RunSelection.run_id == one),
        )
        for one in (run_id, scored)
    )
    if given is None or before is None:
        return np.empty(0, np.int64)
    both, of_given, of_before = np.intersect1d(given[0], before[0], True, return_indices=True)
    edited: Integers = both[given[1][of_given] != before[1][of_before]]
    return edited


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


def _ranks(found: Outcomes) -> list[Rank]:
    agreements = spearman_of_each([found.forecasts, *found.measures], found.changes)
    return [
        Rank(name=name, spearman=agreement)
        for name, (agreement, _) in zip(("forecast", *COMPARED), agreements, strict=True)
    ]


def _bins(found: Outcomes) -> list[ForecastBin]:
    ascending = np.argsort(found.forecasts, kind="stable")  # equals stay by ordinal
    edges = [round(len(ascending) * index / BINS) for index in range(BINS + 1)]
    parts = [ascending[start:end] for start, end in pairwise(edges)]
    return [
        ForecastBin(
            pairs=len(part),
            forecast=fmean(found.forecasts[part].tolist()),
            change=fmean(found.changes[part].tolist()),
            fell=np.count_nonzero(found.fell[part]),
        )
        for part in parts
        if len(part)
    ]


def _points(found: Outcomes) -> list[ForecastPoint]:
    stride = max(1, -(-len(found.pairs) // MAX_POINTS))
    columns = (found.pairs, found.forecasts, found.changes)
    return [
        ForecastPoint(pair=pair, forecast=forecast, change=change)
        for pair, forecast, change in zip(
            *(column[::stride].tolist() for column in columns), strict=True
        )
    ]
