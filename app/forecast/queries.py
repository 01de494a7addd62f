"""The forecast of a score run: which preferred responses fall at the first step of an objective."""

import heapq
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.core.text import clip_text
from app.forecast.curves import remedy_curve
from app.forecast.schemas import FallingPair, Forecast
from app.forecast.scored import read_scored, with_offsets
from app.scores.queries import count_scores
from app.store.lookup import dataset_of
from app.store.runs import Run
from app.store.selection import read_pairs
from chesboard.configs import ObjectiveConfig
from chesboard.forecast import (
    REMEDIES,
    WITHOUT,
    Remedy,
    ScoredPair,
    applies,
    first_push,
    preferred_shift,
    rises,
    smallest_remedies,
)

WORST = 10
SHOWN_CHARACTERS = 300


class Tally:
    """Sums up the forecasts of pairs that come in parts; keeps numbers of those that fall."""

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config = config
        self.pairs = self.falling = self.rising = 0
        self.smallest: dict[Remedy, list[float]] = {
            remedy: [] for remedy in REMEDIES if applies(remedy, config)
        }
        self.worst: list[tuple[float, int, ScoredPair]] = []

    def add(self, part: Sequence[tuple[int, ScoredPair]]) -> None:
        fallen = []
        for ordinal, pair in part:
            push = first_push(self.config, pair)
            shift = preferred_shift(push, pair)
            if shift < 0:
                fallen.append((shift, ordinal, pair))
            self.rising += rises(push, pair)
        self.pairs += len(part)
        self.falling += len(fallen)
        self.worst = heapq.nsmallest(WORST, [*self.worst, *fallen], key=lambda one: one[:2])
        pairs = [pair for _, pair in part]
        for remedy, found in smallest_remedies(self.smallest, self.config, pairs).items():
            self.smallest[remedy] += [value for value in found if value != WITHOUT[remedy]]


def forecast(session: Session, run: Run, config: ObjectiveConfig) -> Forecast:
    """run: one whose kind scores pairs."""
    tally = Tally(config)
    for part in read_scored(session, run.id):
        tally.add(with_offsets(session, dataset_of(run), config, part))
    missing = count_scores(session, run.id) - tally.pairs
    return Forecast(
        run_id=run.id,
        objective=config.objective,
        config=config,
        pairs=tally.pairs,
        missing=missing,
        message=None if tally.pairs or not missing else why_missing(run),
        falling=tally.falling,
        rising_dispreferred=tally.rising,
        remedies=[
            remedy_curve(remedy, config, smallest, tally.pairs)
            for remedy, smallest in tally.smallest.items()
        ],
        worst=_with_texts(session, run, tally.worst),
    )


def why_missing(run: Run) -> str:
    """Why no pair of a run has the measures that a forecast needs."""
    if run.kind == "evaluate":
        return "An evaluation records log-probabilities only. Score the dataset by CHES first."
    return (
        "This run has no measures at the output head: it was scored by an earlier version, or its "
        "model changes its logits after the head (the run's messages say so). Score again with "
        "this version."
    )


def _with_texts(
    session: Session, run: Run, worst: Sequence[tuple[float, int, ScoredPair]]
) -> list[FallingPair]:
    ordinals = [ordinal for _, ordinal, _ in worst]
    texts = {text.pair: text for text in read_pairs(session, run.id, run.dataset_id, ordinals)}
    return [
        FallingPair(
            pair=ordinal,
            shift=shift,
            required_ratio=pair.required_ratio,
            head_cosine=pair.head_cosine,
            preferred=clip_text(texts[ordinal].preferred, SHOWN_CHARACTERS),
            dispreferred=clip_text(texts[ordinal].dispreferred, SHOWN_CHARACTERS),
        )
        for shift, ordinal, pair in worst
    ]
