"""Which forward pass is selected, and the reasons against the fast one."""

import pytest
import torch

from chesboard.forward.select import select_forward
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.two_pass import TwoPassForward
from tests.tiny_models import BUILDERS, END, load, make_pair, random_pairs

PAIRS = random_pairs(9)


@pytest.mark.parametrize("kind", BUILDERS)
def test_shared_prefix_is_selected_where_it_gives_the_same(kind):
    forward, reason = select_forward(load(kind), PAIRS)
    refusals = {"gemma2": "caps its logits", "lfm2": "would differ", "mamba": "take the mask"}
    if kind in refusals:
        assert isinstance(forward, TwoPassForward)
        assert refusals[kind] in (reason or "")
    else:
        assert isinstance(forward, SharedPrefixForward)
        assert reason is None


def test_layers_that_carry_state_into_the_other_response_get_two_passes_in_bfloat16_too():
    """Its states change by less than the two paths differ by rounding."""
    loaded = load("lfm2", torch.bfloat16)
    with torch.no_grad():
        loaded.model.model.layers[0].conv.out_proj.weight.mul_(0.05)
    forward, reason = select_forward(loaded, PAIRS)
    assert isinstance(forward, TwoPassForward)
    assert "read on from one response into the next" in (reason or "")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "cohere", "llama4"])
def test_attention_in_bfloat16_is_not_mistaken_for_layers_that_carry_state(kind):
    forward, reason = select_forward(load(kind, torch.bfloat16), PAIRS)
    assert isinstance(forward, SharedPrefixForward)
    assert reason is None


def test_model_that_ignores_the_mask_gets_two_passes(llama):
    decoder = llama.model.base_model
    plain = decoder.forward

    def ignore_mask(attention_mask=None, **arguments):
        if attention_mask is not None and attention_mask.ndim == 4:
            attention_mask = None
        return plain(attention_mask=attention_mask, **arguments)

    decoder.forward = ignore_mask
    forward, reason = select_forward(llama, PAIRS)
    assert isinstance(forward, TwoPassForward)
    assert "hidden states would differ" in (reason or "")


def test_a_model_is_tested_after_the_fork_where_responses_are_of_one_token(llama):
    """Longer ones may follow in another run, and a model is tested once."""
    one_token = [make_pair(n, range(n, n + 5), [20 + n], [40 + n]) for n in range(3)]
    decoder = llama.model.base_model
    plain = decoder.forward

    def ignore_mask(attention_mask=None, **arguments):
        return plain(**arguments)

    decoder.forward = ignore_mask
    assert isinstance(select_forward(llama, one_token)[0], TwoPassForward)


def test_model_that_refuses_the_mask_gets_two_passes(llama):
    decoder = llama.model.base_model
    plain = decoder.forward

    def refuse(attention_mask=None, **arguments):
        if attention_mask is not None and attention_mask.ndim == 4:
            raise ValueError("two dimensions, please")
        return plain(attention_mask=attention_mask, **arguments)

    decoder.forward = refuse
    forward, reason = select_forward(llama, PAIRS)
    assert isinstance(forward, TwoPassForward)
    assert "two dimensions, please" in (reason or "")


def test_scaled_logits_get_two_passes(llama):
    plain = llama.model.forward

    def scale(*arguments, **named):
        output = plain(*arguments, **named)
        output.logits = output.logits / 2
        return output

    llama.model.forward = scale
    forward, reason = select_forward(llama, PAIRS)
    assert isinstance(forward, TwoPassForward)
    assert "logits would differ" in (reason or "")


def test_pairs_beyond_a_sliding_window_get_two_passes(llama):
    llama.model.config.sliding_window = 16
    assert select_forward(llama, [make_pair(0, [1] * 8, [2, END], [3, END])])[1] is None
    forward, reason = select_forward(llama, [make_pair(0, [1] * 20, [2, END], [3, END])])
    assert isinstance(forward, TwoPassForward)
    assert "16 tokens only" in (reason or "")
