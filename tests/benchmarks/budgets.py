"""The same scores whatever the token budget: `python -m tests.benchmarks.budgets [COUNT]`.

Scores the public dialogues with budgets of 512 and of 8,192 tokens and prints the largest
difference of each measure, relative to the value and relative to the median of all values: a CHES
near zero is what is left of two large inner products, so float32 gives it fewer digits. All 1,000
pairs take some minutes a budget on two CPU cores.
"""

import statistics
import sys
import time

import torch

from app.runs.configs import ScoreConfig
from app.runs.records import ScoreRecord
from tests.benchmarks.case import Ledger
from tests.benchmarks.measuring import largest_relative_difference
from tests.benchmarks.starter import starter_model
from tests.benchmarks.workloads import dialogues
from worker.loaded import LoadedModel
from worker.scoring import score_pairs
from worker.tokenising import TokenisedPair, tokenise_pairs

BUDGETS = (512, 8192)
MEASURES = (
    "ches",
    "ln_ches",
    "last_hidden_inner_product",
    "normalized_edit_distance",
    "preferred_logprob",
    "dispreferred_logprob",
)


def scored(loaded: LoadedModel, pairs: list[TokenisedPair], budget: int) -> list[ScoreRecord]:
    sink = Ledger()
    score_pairs(loaded, pairs, ScoreConfig(batch_tokens=budget), sink, sink)
    return sorted(sink.score_records, key=lambda record: record.pair)


def main(count: int) -> None:
    loaded = starter_model()
    pairs = tokenise_pairs(loaded.tokenizer, dialogues(count), 4096, 4096)
    runs = []
    for budget in BUDGETS:
        started = time.perf_counter()
        runs.append(scored(loaded, pairs, budget))
        seconds = time.perf_counter() - started
        print(f"{len(pairs)} pairs, {budget} tokens a batch: {seconds:.0f} s", flush=True)
    few, many = runs
    assert [record.pair for record in few] == [record.pair for record in many]
    for measure in MEASURES:
        a, b = ([getattr(record, measure) for record in records] for records in runs)
        typical = statistics.median(map(abs, a))
        apart = max(abs(x - y) for x, y in zip(a, b, strict=True))
        print(
            f"{measure}: {largest_relative_difference(a, b):.1e} of the value, "
            f"{apart / typical if typical else apart:.1e} of the median"
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
