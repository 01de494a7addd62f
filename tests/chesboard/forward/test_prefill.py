import pytest
import torch

from chesboard.forward.shared_prefix import prefill
from chesboard.model import decoder_of
from tests.tiny_models import load

FIRST, THEN = torch.arange(3, 10)[None], torch.arange(30, 35)[None]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "cohere", "llama4"])
def test_keys_and_values_are_those_of_a_whole_pass_to_the_last_bit(kind):
    decoder = decoder_of(load(kind))
    with torch.no_grad():
        kept = prefill(decoder, FIRST)
        kept = prefill(decoder, THEN, cache=kept)
        whole = decoder(input_ids=FIRST, use_cache=True).past_key_values
        whole = decoder(input_ids=THEN, past_key_values=whole, use_cache=True).past_key_values
    assert len(kept.layers) == len(whole.layers) == 2
    for ours, theirs in zip(kept.layers, whole.layers, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)


def test_gradients_reach_the_weights_of_what_was_kept():
    decoder = decoder_of(load())
    kept = prefill(decoder, FIRST)
    weighted = torch.randn(1, THEN.shape[1], decoder.config.hidden_size)
    (weighted * decoder(input_ids=THEN, past_key_values=kept).last_hidden_state).sum().backward()
    apart = {name: weight.grad.clone() for name, weight in decoder.named_parameters()}
    decoder.zero_grad()
    together = torch.cat([FIRST, THEN], dim=1)
    states = decoder(input_ids=together).last_hidden_state[:, FIRST.shape[1] :]
    (weighted * states).sum().backward()
    for name, weight in decoder.named_parameters():
        # float32, added up in another order
        assert (apart[name] - weight.grad).norm() <= 1e-4 * weight.grad.norm(), name


def test_an_error_in_the_model_is_its_own():
    decoder = decoder_of(load())
    decoder.layers[1].self_attn.k_proj.forward = lambda _states: 1 / 0
    with pytest.raises(ZeroDivisionError):
        prefill(decoder, FIRST)
