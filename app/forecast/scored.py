"""Reading what a forecast needs of a run's scores."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, fields

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.packed import Floats, Integers, read_columns
from app.store.lookup import dataset_of
from app.store.offsets import read_offsets
from app.store.runs import Run
from app.store.scores import Score, is_finite
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import ScoredPairs, needed
from chesboard.measures.registry import MeasureName

_FORECASTABLE = [
    is_finite(name)
    for name in (
        *("preferred_logprob", "dispreferred_logprob", "head_cosine"),
        *("preferred_grad_norm", "dispreferred_grad_norm"),
    )
]
"""A pair's measures are all there and finite. A cosine implies that neither gradient is zero."""


def read_scored(
    session: Session, run: Run, config: ObjectiveConfig, beside: Sequence[MeasureName] = ()
) -> tuple[Integers, ScoredPairs, list[Floats]]:
    """The run's pairs of which a forecast can be made: their ordinals, what the forecast of the
    configuration needs of their scores, and other measures of them, NaN where there is none."""
    names = needed(config)
    columns = [getattr(Score, name) for name in (*names, *beside)]
    query = select(Score.pair, *columns).where(Score.run_id == run.id, *_FORECASTABLE)
    ordinals, found = read_columns(session, query)
    known = dict(zip(names, found, strict=False))
    unread = {one.name: math.nan for one in fields(ScoredPairs) if one.default is MISSING}
    offset = _offsets(session, run, config, ordinals)
    return ordinals, ScoredPairs(**unread | known, offset=offset), found[len(names) :]


def _offsets(
    session: Session, run: Run, config: ObjectiveConfig, ordinals: Integers
) -> Floats | float:
    """odpo's, 0 where a pair has none; 0 for other objectives."""
    if config.objective != "odpo":
        return 0.0
    found = read_offsets(session, dataset_of(run), config.odpo_offset, ordinals.tolist())
    return np.nan_to_num(found.values, nan=0.0)
