"""The forecast of a score run: which preferred responses fall at the first step of an objective."""

import numpy as np
from sqlalchemy.orm import Session

from app.core.downsampling import smallest_of
from app.core.packed import Floats, Integers
from app.core.text import clip_text
from app.forecast.curves import remedy_curve
from app.forecast.schemas import FallingPair, Forecast, RemedyCurve
from app.forecast.scored import read_scored
from app.scores.queries import count_scores
from app.store.runs import Run
from app.store.selection import read_pairs
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import (
    REMEDIES,
    WITHOUT,
    Remedy,
    ScoredPairs,
    applies,
    first_push,
    preferred_shift,
    rises,
    smallest_remedy,
)

WORST = 10
SHOWN_CHARACTERS = 300


def forecast(session: Session, run: Run, config: ObjectiveConfig) -> Forecast:
    """run: one whose kind scores pairs."""
    ordinals, pairs, _ = read_scored(session, run, config)
    push = first_push(config, pairs)
    shifts = np.asarray(preferred_shift(push, pairs))
    missing = count_scores(session, run.id) - len(ordinals)
    return Forecast(
        run_id=run.id,
        objective=config.objective,
        config=config,
        pairs=len(ordinals),
        missing=missing,
        message=None if len(ordinals) or not missing else why_missing(run),
        falling=np.count_nonzero(shifts < 0),
        rising_dispreferred=np.count_nonzero(rises(push, pairs)),
        remedies=[_curve(remedy, config, pairs) for remedy in REMEDIES if applies(remedy, config)],
        worst=_worst(session, run, ordinals, shifts, pairs),
    )


def _curve(remedy: Remedy, config: ObjectiveConfig, pairs: ScoredPairs) -> RemedyCurve:
    smallest = np.asarray(smallest_remedy(remedy, config, pairs))
    fallen = smallest[smallest != WITHOUT[remedy]]
    return remedy_curve(remedy, config, fallen, len(smallest))


def why_missing(run: Run) -> str:
    """Why no pair of a run has the measures that a forecast needs."""
    if run.kind == "evaluate":
        return "An evaluation records log-probabilities only. Score the dataset by CHES first."
    return (
        "This run has no measures at the output head: it was scored by an earlier version, or its "
        "model changes its logits after the head (the run's messages say so). Score again with "
        "this version."
    )


def _worst(
    session: Session, run: Run, ordinals: Integers, shifts: Floats, pairs: ScoredPairs
) -> list[FallingPair]:
    """The pairs that fall most, with their texts; of equal ones those that come first."""
    fallen = np.flatnonzero(shifts < 0)
    places = fallen[smallest_of(shifts[fallen], WORST)]
    columns = (ordinals, shifts, np.asarray(pairs.required_ratio), np.asarray(pairs.head_cosine))
    found = list(zip(*(column[places].tolist() for column in columns), strict=True))
    worst = [ordinal for ordinal, *_ in found]
    texts = {text.pair: text for text in read_pairs(session, run.id, run.dataset_id, worst)}
    return [
        FallingPair(
            pair=ordinal,
            shift=shift,
            required_ratio=ratio,
            head_cosine=cosine,
            preferred=clip_text(texts[ordinal].preferred, SHOWN_CHARACTERS),
            dispreferred=clip_text(texts[ordinal].dispreferred, SHOWN_CHARACTERS),
        )
        for ordinal, shift, ratio, cosine in found
    ]
