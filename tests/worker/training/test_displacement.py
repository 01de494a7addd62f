import math

import pytest

from chesboard.forward.batching import TokenBudget
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.reporting import RunInterruptedError
from tests.chesboard import naive
from tests.tiny_models import GoOn, KeepingReporter, StopAfter, load, random_pairs
from worker.training.displacement import measure_displacement

PAIRS = random_pairs(9)


def measure(loaded, reference, control=None):
    reporter = KeepingReporter()
    found = measure_displacement(
        SharedPrefixForward(loaded),
        PAIRS,
        reference,
        TokenBudget(60, reporter.message),
        reporter,
        control or GoOn(),
    )
    return found, reporter


def naive_logprobs(loaded, pair):
    return tuple(
        math.fsum(naive.read(loaded, pair.prompt_ids, ids).logprobs)
        for ids in (pair.preferred_ids, pair.dispreferred_ids)
    )


def test_every_trained_pair_is_measured_once_beside_its_reference(llama):
    reference = {pair.pair: (-1.0 - pair.pair, -2.0) for pair in PAIRS}
    found, reporter = measure(llama, reference)
    assert sorted(record.pair for record in reporter.final_records) == [p.pair for p in PAIRS]
    for record in reporter.final_records:
        now = naive_logprobs(llama, PAIRS[record.pair])
        assert (record.preferred, record.dispreferred) == reference[record.pair]
        assert (record.final_preferred, record.final_dispreferred) == pytest.approx(now, rel=1e-4)
    assert found["measured"] == 9
    changes = [naive_logprobs(llama, pair)[0] - reference[pair.pair][0] for pair in PAIRS]
    assert found["preferred_change"] == pytest.approx(sum(changes) / 9, rel=1e-3)


def test_a_pair_is_displaced_where_it_lost_while_the_margin_grew():
    loaded = load()
    now = {pair.pair: naive_logprobs(loaded, pair) for pair in PAIRS}
    reference = {pair: (plus + 1, minus + 3) for pair, (plus, minus) in now.items()}
    reference[0] = (now[0][0] + 1, now[0][1] - 3)  # the margin shrank
    reference[1] = (now[1][0] - 1, now[1][1])  # it gained
    reference[2] = (now[2][0], now[2][1] + 3)  # it stayed
    found, _ = measure(loaded, reference)
    assert found["displaced_fraction"] == pytest.approx(6 / 9)


def test_it_can_be_stopped(llama):
    with pytest.raises(RunInterruptedError):
        measure(llama, {pair.pair: (0.0, 0.0) for pair in PAIRS}, StopAfter(1))
