"""The same scores whatever the token budget: `python -m tests.benchmarks.budgets [COUNT]`.

All 1,000 dialogues take some minutes a budget on two CPU cores.
"""

import statistics
import sys
from collections.abc import Iterator

from chesboard.configs import ScoreConfig
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import ScoreRecord
from chesboard.scoring import score_pairs
from chesboard.tokenization import tokenize_pairs
from tests.benchmarks.case import Ledger
from tests.benchmarks.measuring import largest_relative_difference
from tests.benchmarks.starter import starter_model
from tests.benchmarks.workloads import dialogues

BUDGETS = (512, 8192)
COUNT = 100
COLUMNS = ("measure", "pairs", "largest difference of the value", "of the median value")
ABOUT = f"""The same scores whatever the token budget: public dialogues with {BUDGETS[0]:,} and with
{BUDGETS[1]:,} tokens a batch, in float32. A CHES near zero is what is left of two large inner
products, so it has fewer digits than the others."""
MEASURES = (
    "ches",
    "ln_ches",
    "last_hidden_inner_product",
    "normalized_edit_distance",
    "preferred_logprob",
    "dispreferred_logprob",
)


def scored(loaded: LoadedModel, pairs: list[TokenizedPair], budget: int) -> list[ScoreRecord]:
    reporter = Ledger()
    score_pairs(loaded, pairs, ScoreConfig(batch_tokens=budget), reporter, reporter)
    return sorted(reporter.score_records, key=lambda record: record.pair)


def rows(count: int = COUNT) -> Iterator[tuple[str, ...]]:
    loaded = starter_model()
    pairs = tokenize_pairs(loaded.tokenizer, dialogues(count), 4096, 4096)
    few, many = (scored(loaded, pairs, budget) for budget in BUDGETS)
    assert [record.pair for record in few] == [record.pair for record in many]
    for measure in MEASURES:
        a, b = ([getattr(record, measure) for record in records] for records in (few, many))
        typical = statistics.median(map(abs, a))
        apart = max(abs(x - y) for x, y in zip(a, b, strict=True))
        of_median = apart / typical if typical else apart
        of_value = largest_relative_difference(a, b)
        yield measure, f"{len(pairs):,}", f"{of_value:.1e}", f"{of_median:.1e}"


if __name__ == "__main__":
    print(*rows(int(sys.argv[1]) if sys.argv[1:] else COUNT), sep="\n")
