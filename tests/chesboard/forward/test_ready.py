"""What a run's pairs are refused for before a forward pass, and what is reported of the pass."""

import pytest

from chesboard.forward.ready import ready_forward, refuse_too_long
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.two_pass import TwoPassForward
from tests.tiny_models import END, KeepingReporter, load, make_pair, random_pairs


def test_the_slower_pass_is_reported_with_its_reason(llama):
    pairs, reporter = random_pairs(9), KeepingReporter()
    assert isinstance(ready_forward(llama, pairs, reporter), SharedPrefixForward)
    assert (reporter.phases, reporter.messages) == (["comparing forward passes"], [])
    llama.model.config.final_logit_softcapping = 30.0
    assert isinstance(ready_forward(llama, pairs, reporter), TwoPassForward)
    [message] = reporter.messages
    assert "the model caps its logits" in message


def test_pair_beyond_learned_positions_is_named():
    pairs = [make_pair(0, [1], [2, END], [3, END]), make_pair(8, [1] * 600, [2, END], [3, END])]
    with pytest.raises(ValueError, match="Pair 8 has 601 tokens"):
        refuse_too_long(load("gpt2"), pairs)
    refuse_too_long(load("llama"), pairs)
