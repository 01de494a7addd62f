"""Batches by token budget: what they hold, and what happens when memory runs out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chesboard.forward.batching import TokenBudget, in_batches, token_batches
from chesboard.forward.shared_prefix import SharedPrefixForward
from tests.tiny_models import END, GoOn, load, make_pair, random_pairs


@given(st.integers(1, 60), st.integers(1, 400), st.one_of(st.none(), st.integers(1, 9)))
def test_batches_hold_every_pair_once_within_the_budget(count, budget, most_pairs):
    pairs = random_pairs(count)
    batches = token_batches(pairs, lambda pair: pair.tokens, budget, most_pairs)
    assert sorted(p.pair for batch in batches for p in batch) == list(range(count))
    for batch in batches:
        padded = len(batch) * max(pair.tokens for pair in batch)
        assert padded <= budget or len(batch) == 1
        assert most_pairs is None or len(batch) <= most_pairs


def test_short_rows_are_not_padded_to_long_ones_once_a_batch_is_large_enough():
    pairs = [make_pair(n, [1] * length, [2, END], [3, END]) for n, length in enumerate(
        [400] * 4 + [390] * 2 + [100] * 4
    )]  # fmt: skip
    tokens = SharedPrefixForward(load()).row_tokens
    lengths = [[len(p.prompt_ids) for p in batch] for batch in token_batches(pairs, tokens, 4096)]
    assert lengths == [[400] * 4 + [390] * 2, [100] * 4]
    few = [pairs[0], pairs[6]]  # one row of 400 is less than an eighth of the budget
    assert len(token_batches(few, tokens, 4096)) == 1


def test_out_of_memory_halves_the_budget_and_loses_no_pair():
    pairs, messages, done = random_pairs(20), [], []
    budget = TokenBudget(512, messages.append)

    def work(batch):
        if sum(pair.tokens for pair in batch) > 80:
            raise torch.OutOfMemoryError("no memory")
        done.extend(pair.pair for pair in batch)

    in_batches(pairs, lambda pair: pair.tokens, budget, GoOn(), work)
    assert sorted(done) == list(range(20))
    assert budget.tokens < 512
    assert "continuing with 256 tokens" in messages[0]


def test_single_pair_that_does_not_fit_is_named():
    def work(batch):
        raise torch.OutOfMemoryError("no memory")

    budget = TokenBudget(512, lambda _: None)
    with pytest.raises(MemoryError, match="Pair 0 alone"):
        in_batches(random_pairs(1), lambda pair: pair.tokens, budget, GoOn(), work)


def test_pairs_that_are_done_leave_the_batches_of_the_others_as_they_were():
    pairs = random_pairs(40)

    def batches(done=()):
        found = []
        budget = TokenBudget(128, lambda _: None)
        in_batches(pairs, lambda pair: pair.tokens, budget, GoOn(), found.append, done=done)
        return found

    whole = batches()
    done = {pair.pair for pair in whole[1]} | {whole[2][0].pair}
    assert len(whole) > 4
    assert batches(done) == [batch for batch in whole if batch != whole[1]]
