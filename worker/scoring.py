"""Score and evaluate runs: measures the pairs of a shard that the store has no scores of yet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.arrays import among
from app.store.score_summaries import Distribution, keep_summary
from app.store.scores import Score
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
        query = select(Score.pair).where(Score.run_id == run_id, among(Score.pair, pairs))
        return set(session.scalars(query))

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
        kept = keep_summary(session, run_id)
        return {
            "pairs": counted.pairs,
            "tokens": counted.tokens,
            "cut_tokens": counted.cut_tokens,
            "cut_pairs": counted.cut_pairs,
            "same_token_pairs": counted.same_token_pairs,
            "retokenised_pairs": counted.retokenised_pairs,
            "measures": {name: _statistics(kept.measures[name]) for name in MEASURE_NAMES},
            "forward": " and ".join(texts_of(session, run_id, "forward")),
            "seconds": counts["seconds"],
            "tokens_per_second": counts["scored_tokens"] / counts["seconds"],
        }


def counts_in(counts: Mapping[str, int]) -> PairCounts:
    """Those that were added up over the shards."""
    return PairCounts(**{one.name: counts.get(one.name, 0) for one in fields(PairCounts)})


def _statistics(found: Distribution) -> dict[str, float] | None:
    """As `chesboard.scoring.statistics`, of the stored values; None where none is finite."""
    if found["mean"] is None or found["minimum"] is None or found["maximum"] is None:
        return None
    names = quantile_names()
    quantiles = {name: found["quantiles"][f"{100 * part:g}"] for name, part in names.items()}
    return {
        "mean": found["mean"],
        "median": quantiles["q50"],
        "minimum": found["minimum"],
        "maximum": found["maximum"],
        "not_finite": float(found["nonfinite"]),
        **quantiles,
    }
