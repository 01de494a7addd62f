"""Score and evaluate runs: measures the pairs of a shard that the store has no scores of yet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.store.scores import Score, summarize_measure
from app.store.shards.recording import texts_of
from chesboard.configs import ModelConfig
from chesboard.measures.registry import MEASURE_NAMES
from chesboard.model import LoadedModel
from chesboard.pair_counts import PairCounts, same_tokens_message, truncation_messages
from chesboard.pairs import TokenizedPair
from chesboard.reporting import Control, Reporter
from chesboard.scoring import NOT_RANKED, quantile_names, score_pairs
from chesboard.tallies import Tallies


class Scoring:
    """What is done to the shards of a score or an evaluate run (`worker.shards.Work`)."""

    unit = "pairs"

    def __init__(self, config: ModelConfig, measures: bool) -> None:
        self._config = config
        self._measures = measures

    def stored(self, session: Session, run_id: int, pairs: Sequence[int]) -> set[int]:
        """The pairs that an earlier attempt scored."""
        is_one = Score.pair == func.any(cast(pairs, ARRAY(Integer)))
        return set(session.scalars(select(Score.pair).where(Score.run_id == run_id, is_one)))

    def count(self, pairs: Sequence[TokenizedPair]) -> tuple[dict[str, int], int]:
        return asdict(PairCounts.of(pairs)), len(pairs)

    def messages(self, counts: Mapping[str, int], found: Tallies) -> Iterator[str]:
        counted = counts_in(counts)
        yield from truncation_messages(counted)
        if same := found.kinds.get("same_tokens"):
            yield same_tokens_message(counted, same.first, NOT_RANKED)

    def work(
        self,
        loaded: LoadedModel,
        pairs: Sequence[TokenizedPair],
        reporter: Reporter,
        control: Control,
        already: set[int],
    ) -> dict[str, Any]:
        return score_pairs(
            loaded, pairs, self._config, reporter, control, already, measures=self._measures
        )

    def summarize(self, session: Session, run_id: int, counts: Mapping[str, Any]) -> dict[str, Any]:
        counted = counts_in(counts)
        return {
            "pairs": counted.pairs,
            "tokens": counted.tokens,
            "cut_tokens": counted.cut_tokens,
            "cut_pairs": counted.cut_pairs,
            "same_token_pairs": counted.same_token_pairs,
            "retokenised_pairs": counted.retokenised_pairs,
            "measures": {name: _statistics(session, run_id, name) for name in MEASURE_NAMES},
            "forward": " and ".join(texts_of(session, run_id, "forward")),
            "seconds": counts["seconds"],
            "tokens_per_second": counts["scored_tokens"] / counts["seconds"],
        }


def counts_in(counts: Mapping[str, int]) -> PairCounts:
    """Those that were added up over the shards."""
    return PairCounts(**{one.name: counts.get(one.name, 0) for one in fields(PairCounts)})


def _statistics(session: Session, run_id: int, measure: Any) -> dict[str, float] | None:
    """As `chesboard.scoring.statistics`, of the stored values; None where none is finite."""
    names = quantile_names()
    found = summarize_measure(session, run_id, measure, list(names.values()))
    if found.mean is None or found.minimum is None or found.maximum is None:
        return None
    quantiles = dict(zip(names, found.quantiles, strict=True))
    return {
        "mean": found.mean,
        "median": quantiles["q50"],
        "minimum": found.minimum,
        "maximum": found.maximum,
        "not_finite": float(found.stored - found.finite),
        **quantiles,
    }
