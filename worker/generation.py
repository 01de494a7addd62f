"""Generation runs: generates the answers of a shard that the store does not have yet."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.store.generations import Generation
from app.store.recording import add_messages
from chesboard.configs import GenerateConfig
from chesboard.generation.run import generate_answers, requests_of
from chesboard.model import LoadedModel
from chesboard.pair_counts import PairCounts
from chesboard.pairs import TokenizedPair
from chesboard.reporting import Control, Reporter
from chesboard.tallies import Tallies
from worker.scoring import counts_in


class Generating:
    """What is done to the shards of a generate run (`worker.shards.Work`)."""

    unit = "answers"

    def __init__(self, config: GenerateConfig) -> None:
        self._config = config

    def stored(self, session: Session, run_id: int, pairs: Sequence[int]) -> set[tuple[int, int]]:
        """(pair, sample) of the answers that an earlier attempt finished."""
        table = Generation
        is_one = table.pair == func.any(cast(pairs, ARRAY(Integer)))
        query = select(table.pair, table.sample).where(table.run_id == run_id, is_one)
        return {(row.pair, row.sample) for row in session.execute(query)}

    def count(self, pairs: Sequence[TokenizedPair]) -> tuple[dict[str, int], int]:
        wanted = requests_of(pairs, self._config.samples)
        prompts = len({one.pair for one in wanted})
        counts = {"prompts": prompts, "requests": len(wanted)}
        return asdict(PairCounts.of(pairs)) | counts, len(wanted)

    def messages(self, counts: Mapping[str, int], found: Tallies) -> Iterator[str]:
        counted, prompts = counts_in(counts), counts["prompts"]
        if counted.prompt_cut_pairs:
            yield (
                f"The prompts of {counted.prompt_cut_pairs} of {counted.pairs} pairs were too "
                f"long: {counted.prompt_cut_tokens} tokens were cut from the left. Raise "
                "max_prompt_tokens to keep them."
            )
        if prompts < counted.pairs:
            yield (
                f"The {counted.pairs} pairs have {prompts} distinct prompts. Each is answered "
                "once, under the first of its pairs."
            )

    def work(
        self,
        loaded: LoadedModel,
        pairs: Sequence[TokenizedPair],
        reporter: Reporter,
        control: Control,
        already: set[tuple[int, int]],
    ) -> dict[str, Any]:
        wanted = requests_of(pairs, self._config.samples)
        return generate_answers(loaded, wanted, self._config, reporter, control, already)

    def summarize(self, session: Session, run_id: int, counts: Mapping[str, Any]) -> dict[str, Any]:
        """Raises:
        ValueError: no prompt could be answered.
        """
        table = Generation
        is_finite = table.logprob.between(-sys.float_info.max, sys.float_info.max)
        row = session.execute(
            select(
                func.count().label("answers"),
                func.sum(cast(table.ended, Integer)).label("ended"),
                func.sum(table.tokens).label("tokens"),
                func.count().filter(~is_finite).label("undefined"),
            ).where(table.run_id == run_id)
        ).one()
        if not row.answers:
            raise ValueError(
                "No prompt could be answered: see the run's messages. Lower answer_tokens or "
                "max_prompt_tokens, or use a smaller model."
            )
        if row.undefined:
            undefined = (
                f"The model's logits are not finite: {row.undefined} of {row.answers} answers were "
                "not sampled from any distribution."
            )
            add_messages(session, run_id, [undefined])
        return {
            "pairs": counts["pairs"],
            "prompts": counts["prompts"],
            "answers": row.answers,
            "unanswered": counts["requests"] - row.answers,
            "ended": row.ended,
            "tokens": row.tokens,
            "mean_tokens": row.tokens / row.answers,
            "seconds": counts["seconds"],
            "tokens_per_second": counts["new_tokens"] / counts["seconds"],
        }
