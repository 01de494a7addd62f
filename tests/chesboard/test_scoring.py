import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chesboard import cpu
from chesboard.configs import ScoreConfig
from chesboard.measures.registry import MEASURE_NAMES
from chesboard.pair_counts import PairCounts
from chesboard.reporting import RunInterruptedError
from chesboard.scoring import (
    NOT_RANKED,
    report_same_tokens,
    report_truncation,
    score_pairs,
    statistics,
)
from chesboard.tokenization import tokenize_pairs
from tests.benchmarks.workloads import SHARED, dialogues
from tests.chesboard import naive
from tests.tiny_models import BUILDERS, GoOn, KeepingReporter, StopAfter, load, random_pairs

PAIRS = random_pairs(12)


def load_to_score():
    """As the worker loads a model for a score run."""
    loaded = load()
    cpu.install(loaded.model)
    return loaded


def score(loaded, pairs, batch_tokens=4096, **arguments):
    reporter = KeepingReporter()
    with cpu.installed(loaded.model):  # as the worker does for a score run
        how = score_pairs(
            loaded, pairs, ScoreConfig(batch_tokens=batch_tokens), reporter, GoOn(), **arguments
        )
    return {record.pair: record for record in reporter.score_records}, how, reporter


# Mamba computes in float32 inside, in float64 too.
@pytest.mark.parametrize("kind", [kind for kind in BUILDERS if kind != "mamba"])
def test_scores_equal_the_naive_ones(kind):
    loaded = load(kind)
    records, _, _ = score(loaded, PAIRS, batch_tokens=64)
    for pair in PAIRS:
        record = records[pair.pair]
        naive.assert_scored(loaded, pair, record)
        assert record.preferred_tokens == len(pair.preferred_ids)
        assert record.prompt_tokens == len(pair.prompt_ids)


ONE_BY_ONE, _, _ = score(load(), PAIRS, batch_tokens=16)
SCALES = {pair.pair: naive.score(load(), pair).scales for pair in PAIRS}
LOADED = load()


@settings(deadline=None, max_examples=25)
@given(st.permutations(PAIRS), st.integers(16, 600), st.integers(1, len(PAIRS)))
def test_order_padding_and_budget_never_change_a_score(pairs, batch_tokens, count):
    records, _, _ = score(LOADED, pairs[:count], batch_tokens=batch_tokens)
    assert len(records) == count
    for number, record in records.items():
        for name in MEASURE_NAMES:
            expected = getattr(ONE_BY_ONE[number], name)
            assert getattr(record, name) == naive.near(expected, SCALES[number][name])


ALIKE = [
    dataclasses.replace(pair, prompt_ids=[*range(100, 140), *pair.prompt_ids]) for pair in PAIRS
]
"""As with a system prompt: all begin with the same 40 tokens."""
ALIKE_ONE_BY_ONE, _, _ = score(LOADED, ALIKE, batch_tokens=16)
ALIKE_SCALES = {pair.pair: naive.score(LOADED, pair).scales for pair in ALIKE}


@settings(deadline=None, max_examples=15)
@given(st.permutations(ALIKE), st.integers(16, 1500), st.integers(1, len(ALIKE)))
def test_what_prompts_have_in_common_never_changes_a_score(pairs, batch_tokens, count):
    records, _, _ = score(LOADED, pairs[:count], batch_tokens=batch_tokens)
    for number, record in records.items():
        for name in MEASURE_NAMES:
            expected = getattr(ALIKE_ONE_BY_ONE[number], name)
            assert getattr(record, name) == naive.near(expected, ALIKE_SCALES[number][name])


def test_a_large_batch_of_prompts_that_begin_alike_computes_the_beginning_once():
    """Or the test above would prove nothing."""
    widths = []
    loaded = load()
    loaded.model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: widths.append(tuple(inputs[0].shape))
    )
    score(loaded, ALIKE, batch_tokens=1500)
    assert (1, 40) in widths


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public dialogues are not part of the project")
def test_dialogues_have_the_same_scores_with_small_and_large_batches():
    pairs = tokenize_pairs(LOADED.tokenizer, dialogues(16), 400, 200)
    small, _, _ = score(LOADED, pairs, batch_tokens=512)
    large, _, _ = score(LOADED, pairs, batch_tokens=8192)
    for pair in pairs:
        scales = naive.score(LOADED, pair).scales
        for name in MEASURE_NAMES:
            assert getattr(small[pair.pair], name) == pytest.approx(
                getattr(large[pair.pair], name), rel=0, abs=1e-5 * scales[name]
            )


def test_bfloat16_model_keeps_the_scores_of_its_own_states():
    """Rounded states are summed in float32: close to the float32 model's scores."""
    exact, _, _ = score(load(), PAIRS)
    rough, _, _ = score(load(dtype=torch.bfloat16), PAIRS)
    for pair in PAIRS:
        scale = 0.05 / 1e-5 * SCALES[pair.pair]["ches"]
        assert rough[pair.pair].ches == naive.near(exact[pair.pair].ches, scale)


def test_what_was_scored_before_is_not_scored_again():
    records, how, reporter = score(load(), PAIRS, already={0, 5})
    assert set(records) == set(range(12)) - {0, 5}
    assert reporter.progresses[0] == (2, 12, "pairs")
    assert reporter.progresses[-1] == (12, 12, "pairs")
    assert how["scored_tokens"] == sum(pair.tokens for pair in PAIRS if pair.pair not in (0, 5))


@pytest.mark.parametrize("lost", [1, 3, 5])
def test_a_run_that_is_interrupted_has_the_scores_of_an_undisturbed_one_bit_for_bit(lost):
    """Pairs are rounded as their batch has it, so the rest must not be cut into other batches."""
    pairs = random_pairs(200, longest=40)
    whole_records, _, _ = score(load(), pairs, batch_tokens=1024)
    reporter = KeepingReporter()
    with pytest.raises(RunInterruptedError):
        score_pairs(
            load_to_score(), pairs, ScoreConfig(batch_tokens=1024), reporter, StopAfter(lost)
        )
    before = {record.pair: record for record in reporter.score_records}
    records, _, _ = score(load(), pairs, already=before.keys(), batch_tokens=1024)
    assert not set(before) & set(records)
    assert {**before, **records} == whole_records


def test_evaluation_gives_log_probabilities_without_measures():
    full, _, _ = score(load(), PAIRS)
    records, _, _ = score(load(), PAIRS, measures=False)
    for pair, record in records.items():
        assert record.ches is record.ln_ches is record.last_hidden_inner_product is None
        assert record.normalized_edit_distance is None
        # The measures give it from products of other shapes, which round differently.
        assert record.preferred_logprob == pytest.approx(full[pair].preferred_logprob, rel=1e-5)
        assert math.isfinite(record.implicit_gap)


def test_statistics_are_those_of_the_finite_values():
    found = statistics([3.0, None, 1.0, math.inf, 2.0, math.nan])
    assert found == {
        "mean": 2.0,
        "median": 2.0,
        "minimum": 1.0,
        "maximum": 3.0,
        "not_finite": 2.0,
        **{"q05": 1.1, "q25": 1.5, "q50": 2.0, "q75": 2.5, "q95": 2.9},
    }
    assert statistics([None, math.nan]) is None


def test_how_it_was_scored_is_told():
    _, how, _ = score(load(), PAIRS)
    assert how["forward"] == "shared prefix"
    assert how["scored_tokens"] == sum(pair.tokens for pair in PAIRS)
    assert how["seconds"] > 0


def test_cuts_and_seams_are_counted_and_told():
    cut = dataclasses.replace(PAIRS[0], prompt_cut=3, preferred_cut=1, retokenized=True)
    reporter = KeepingReporter()
    report_truncation([cut, *PAIRS[1:]], reporter)
    too_long, apart = reporter.messages
    assert "1 of 12 pairs were too long: 4 tokens were cut" in too_long
    assert "In 1 of 12 pairs, prompt and response were tokenized apart" in apart


def test_counts_of_parts_add_up_to_those_of_the_whole():
    cut = dataclasses.replace(PAIRS[0], prompt_cut=3, preferred_cut=1, retokenized=True)
    pairs = [cut, *PAIRS[1:]]
    whole = PairCounts.of(pairs)
    assert (whole.cut_tokens, whole.cut_pairs, whole.retokenised_pairs) == (4, 1, 1)
    assert (whole.prompt_cut_tokens, whole.prompt_cut_pairs) == (3, 1)
    assert PairCounts.of(pairs[:5]) + PairCounts.of(pairs[5:]) == whole


def test_pairs_of_equal_tokens_have_log_probabilities_but_no_measures():
    """Their CHES would be zero: the highest of most datasets, for no preference at all."""
    same = dataclasses.replace(
        PAIRS[3], dispreferred_ids=PAIRS[3].preferred_ids, preferred_cut=2, dispreferred_cut=1
    )
    pairs = [*PAIRS[:3], same, *PAIRS[4:]]
    records, _, reporter = score(load(), pairs)
    report_same_tokens(pairs, reporter, NOT_RANKED)
    full, _, _ = score(load(), PAIRS)
    record = records[3]
    assert record.ches is record.ln_ches is record.last_hidden_inner_product is None
    assert record.normalized_edit_distance is None
    assert record.preferred_logprob == pytest.approx(record.dispreferred_logprob, rel=1e-5)
    equal = sorted({3, *(pair.pair for pair in PAIRS if pair.has_same_tokens)})
    assert [pair for pair, record in sorted(records.items()) if record.ches is None] == equal
    for pair, other in full.items():
        if pair not in equal:
            assert records[pair].ches == pytest.approx(other.ches, rel=1e-5)
    [message] = [message for message in reporter.messages if "same tokens" in message]
    assert f"{len(equal)} of 12 pairs ({', '.join(map(str, equal))})" in message
    assert "so they have no CHES and are not ranked" in message
    assert "1 of them differ only behind the cut" in message
    assert "raise max_response_tokens" in message


def test_reason_of_the_slow_path_is_told():
    _, how, reporter = score(load("gemma2"), PAIRS)
    assert how["forward"] == "two forwards"
    assert "slower: the model caps its logits" in reporter.messages[0]


def test_stops_between_forward_passes_and_keeps_what_is_done():
    reporter = KeepingReporter()
    with pytest.raises(RunInterruptedError):
        score_pairs(load_to_score(), PAIRS, ScoreConfig(batch_tokens=16), reporter, StopAfter(3))
    assert len(reporter.score_records) == 3
